//! What the containers of one try of a job used, one after the other.

use std::collections::BTreeMap;

use cofferdam_jobs::state::StepRef;
use cofferdam_sandbox::{
    End,
    network::{Attempt, NetworkUse},
};

/// What they used together, and which of it by which network.
#[derive(Clone, Debug, Default)]
pub(in crate::execute) struct Used {
    /// Everything but networks; absent while no container has ended.
    pub(in crate::execute) end: Option<End>,
    /// The job's own network.
    pub(in crate::execute) network: Option<NetworkUse>,
    /// Networks that steps have for themselves.
    pub(in crate::execute) of_steps: BTreeMap<StepRef, NetworkUse>,
}

impl Used {
    /// Containers that each had a network of their own, or none.
    pub(in crate::execute) fn of(ends: Vec<End>) -> Self {
        let mut used = Self::default();
        for end in ends {
            used.add(end, None, false);
        }
        used
    }

    /// One more container has ended. It was in the network of `step`, or else in the job's; one that
    /// is shared counts from its beginning, and not from that of the container.
    pub(in crate::execute) fn add(&mut self, mut end: End, step: Option<StepRef>, is_shared: bool) {
        if let Some(used) = end.network.take() {
            let before = match step {
                Some(step) => self.of_steps.remove(&step),
                None => self.network.take(),
            };
            let used = match before {
                Some(before) if !is_shared => joined(before, used),
                _ => used,
            };
            match step {
                Some(step) => drop(self.of_steps.insert(step, used)),
                None => self.network = Some(used),
            }
        }
        self.end = Some(match self.end.take() {
            Some(before) => together(before, end),
            None => end,
        });
    }

    /// All networks together; `None` where there was none.
    pub(in crate::execute) fn all_networks(&self) -> Option<NetworkUse> {
        self.network.iter().chain(self.of_steps.values()).cloned().reduce(joined)
    }
}

/// What a container and the one after it used. What is not a sum is the later one's.
fn together(before: End, mut sum: End) -> End {
    let add = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    };
    let (usage, other) = (&mut sum.usage, before.usage);
    usage.cpu_user_us = add(usage.cpu_user_us, other.cpu_user_us);
    usage.cpu_system_us = add(usage.cpu_system_us, other.cpu_system_us);
    usage.throttled_us = add(usage.throttled_us, other.throttled_us);
    usage.memory_peak = usage.memory_peak.max(other.memory_peak);
    usage.oom_kills = usage.oom_kills.saturating_add(other.oom_kills);
    usage.pids_peak = usage.pids_peak.max(other.pids_peak);
    usage.pids_refused = usage.pids_refused.saturating_add(other.pids_refused);
    usage.io_read = add(usage.io_read, other.io_read);
    usage.io_written = add(usage.io_written, other.io_written);
    sum.disk_bytes = sum.disk_bytes.saturating_add(before.disk_bytes);
    sum.disk_inodes = sum.disk_inodes.saturating_add(before.disk_inodes);
    sum
}

/// Two networks as one; each list of what was tried stays in its order.
fn joined(mut one: NetworkUse, other: NetworkUse) -> NetworkUse {
    one.received = one.received.saturating_add(other.received);
    one.sent = one.sent.saturating_add(other.sent);
    one.denied = by_times(one.denied, other.denied);
    one.reached = by_times(one.reached, other.reached);
    one.lost = one.lost.or(other.lost);
    one
}

fn by_times(one: Vec<Attempt>, other: Vec<Attempt>) -> Vec<Attempt> {
    let mut times: BTreeMap<(String, Option<u16>), u64> = BTreeMap::new();
    for attempt in one.into_iter().chain(other) {
        let sum = times.entry((attempt.host, attempt.port)).or_default();
        *sum = sum.saturating_add(attempt.times);
    }
    let attempt = |((host, port), times)| Attempt { host, port, times };
    let mut all: Vec<Attempt> = times.into_iter().map(attempt).collect();
    all.sort_by_key(|attempt| std::cmp::Reverse(attempt.times));
    all
}

#[cfg(test)]
mod tests {
    use cofferdam_jobs::state::Part;
    use cofferdam_sandbox::cgroup::Usage;

    use super::*;

    fn end(sent: u64, reached: &[(&str, u64)]) -> End {
        let attempt = |(host, times): &(&str, u64)| Attempt {
            host: (*host).to_owned(),
            port: Some(80),
            times: *times,
        };
        let reached = reached.iter().map(attempt).collect();
        End {
            usage: Usage { memory_peak: Some(sent), io_read: Some(sent), ..Usage::default() },
            disk_bytes: sent,
            network: Some(NetworkUse { sent, reached, ..NetworkUse::default() }),
            ..End::default()
        }
    }

    fn told(used: Option<&NetworkUse>) -> (u64, String) {
        let used = used.cloned().unwrap_or_default();
        let each = used.reached.iter().map(|it| format!("{}×{}", it.host, it.times));
        (used.sent, each.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_containers_used_is_summed_and_each_network_counted_once() {
        let step = StepRef { part: Part::Steps, index: 1 };
        let mut used = Used::default();
        used.add(end(1, &[("a", 1)]), None, false);
        used.add(end(10, &[("b", 5)]), Some(step), false);
        used.add(end(100, &[("b", 1), ("a", 2)]), None, false);
        assert_eq!(told(used.network.as_ref()), (101, "a×3 b×1".into()));
        assert_eq!(told(used.of_steps.get(&step)), (10, "b×5".into()));
        assert_eq!(told(used.all_networks().as_ref()), (111, "b×6 a×3".into()));
        let sum = used.end.clone().unwrap();
        assert_eq!((sum.disk_bytes, sum.usage.io_read), (111, Some(111)));
        assert_eq!((sum.usage.memory_peak, sum.network), (Some(100), None));

        let mut shared = Used::default();
        shared.add(end(5, &[("a", 1)]), None, true);
        shared.add(end(7, &[("a", 2)]), None, true);
        assert_eq!(told(shared.network.as_ref()), (7, "a×2".into()));
        assert!(Used::of(vec![]).end.is_none() && Used::of(vec![]).all_networks().is_none());
    }
}
