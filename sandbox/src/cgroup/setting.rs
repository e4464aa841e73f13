//! The limits of one container as values of cgroup files. Pure.
//!
//! cgroup-v2.rst of the kernel documents the unified files, `cgroup-v1/` the others.

use super::{
    controller::Controller,
    create::{GroupOptions, IoLimit},
    report::Limit,
};
use crate::{
    error::{Error, Result},
    limits::Limits,
};

/// Microseconds over which the processor quota is counted; the kernel's own default.
const PERIOD: u32 = 100_000;

/// The kernel's smallest quota is 1 ms per period.
const FEWEST_CPUS: f64 = 0.01;

/// On v1, the bytes in the send and receive queues of all internet sockets (UDP counts as well).
/// It binds only the groups in which it was set itself, not those below them.
pub(super) const SOCKET_MEMORY: &str = "memory.kmem.tcp.limit_in_bytes";

/// Where memory is this scarce, written data fills it faster than disks take it, and kernels before
/// 6.13 with a multi-generational LRU then kill instead of waiting for the disk. Whoever is above
/// `memory.high` waits. A larger group has enough that is clean.
const SMALL: u64 = 256 << 20;

/// `memory.high` is one in so many bytes below the limit: the wait begins late, and is short.
const HIGH_BELOW: u64 = 32;

/// Which file format a controller's home has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// A v1 hierarchy.
    V1,
    /// The unified hierarchy.
    V2,
}

/// One value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// For whose sake; an error names it.
    pub(super) limit: Limit,
    /// Whose home the file is in.
    pub(super) controller: Controller,
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Whether the limit holds without it when the kernel does not have the file.
    pub(super) dispensable: bool,
}

/// All values for one container in the order in which they must be written. `version` says where
/// a controller is, `swaps` whether the host has swap space in use.
pub(super) fn settings(
    limits: &Limits,
    options: &GroupOptions,
    swaps: bool,
    version: impl Fn(Controller) -> Version,
) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    let mut set = |limit, controller, file, value: String, dispensable| {
        settings.push(Setting { limit, controller, file, value, dispensable });
    };
    let memory = limits.memory.to_string();
    match version(Controller::Memory) {
        Version::V1 => {
            set(Limit::Memory, Controller::Memory, "memory.limit_in_bytes", memory.clone(), false);
            // Memory and swap together at the same value leave no swap. Without swap accounting
            // there is no such file, which does no harm while the host swaps nowhere.
            let memsw = "memory.memsw.limit_in_bytes";
            set(Limit::Swap, Controller::Memory, memsw, memory.clone(), !swaps);
            // Needed where kernel memory is only accounted once it has a limit (before Linux 4.5);
            // newer kernels charge it to the first limit as well, and have this file or not.
            let kernel = "memory.kmem.limit_in_bytes";
            set(Limit::Memory, Controller::Memory, kernel, memory, true);
            // What lies in sockets is charged to no other limit of v1: without this one, a job holds
            // gigabytes, and takes them from the connections of all others.
            let sockets = (limits.memory / 4).to_string();
            set(Limit::Memory, Controller::Memory, SOCKET_MEMORY, sockets, true);
        }
        Version::V2 => {
            set(Limit::Memory, Controller::Memory, "memory.max", memory, false);
            if limits.memory <= SMALL {
                let high = limits.memory - limits.memory / HIGH_BELOW;
                set(Limit::Memory, Controller::Memory, "memory.high", high.to_string(), false);
            }
            // Not there on kernels without swap.
            set(Limit::Swap, Controller::Memory, "memory.swap.max", "0".to_owned(), !swaps);
            set(Limit::Memory, Controller::Memory, "memory.oom.group", "1".to_owned(), false);
        }
    }
    set(Limit::Pids, Controller::Pids, "pids.max", limits.pids.to_string(), false);
    let quota = quota(limits.cpus)?;
    match version(Controller::Cpu) {
        Version::V1 => {
            let period = PERIOD.to_string();
            set(Limit::Cpu, Controller::Cpu, "cpu.cfs_period_us", period, false);
            set(Limit::Cpu, Controller::Cpu, "cpu.cfs_quota_us", quota.to_string(), false);
        }
        Version::V2 => {
            set(Limit::Cpu, Controller::Cpu, "cpu.max", format!("{quota} {PERIOD}"), false);
        }
    }
    for limit in &options.io {
        let read = Limit::IoRead;
        match (version(Controller::Io), limit.read) {
            (Version::V1, Some(rate)) => {
                let value = format!("{}:{} {rate}", limit.major, limit.minor);
                set(read, Controller::Io, "blkio.throttle.read_bps_device", value, false);
            }
            // What v1 cannot do was refused before.
            (Version::V1, None) => {}
            (Version::V2, _) => set(read, Controller::Io, "io.max", io_max(limit), false),
        }
    }
    if let Some(processors) = &options.cpuset {
        set(Limit::CpuSet, Controller::CpuSet, "cpuset.cpus", processors.clone(), false);
    }
    Ok(settings)
}

/// What a step may use, within what its container may.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepLimits {
    /// Processor time per wall time.
    pub cpus: Option<f64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// The values for a step that has limits of its own.
pub(super) fn of_step(
    limits: &StepLimits,
    version: impl Fn(Controller) -> Version,
) -> Result<Vec<Setting>> {
    let none = Limits::default();
    let all = Limits {
        cpus: limits.cpus.unwrap_or(none.cpus),
        memory: limits.memory.unwrap_or(none.memory),
        pids: limits.pids.unwrap_or(none.pids),
        ..none
    };
    // Whether the host swaps was found out when the container's own limit was set.
    let mut settings = settings(&all, &GroupOptions::default(), false, version)?;
    settings.retain(|setting| match setting.controller {
        Controller::Memory => limits.memory.is_some() && setting.file != SOCKET_MEMORY,
        Controller::Pids => limits.pids.is_some(),
        Controller::Cpu => limits.cpus.is_some(),
        _ => false,
    });
    Ok(settings)
}

fn quota(cpus: f64) -> Result<u64> {
    const MOST: f64 = 1e6;
    if !(FEWEST_CPUS..=MOST).contains(&cpus) {
        return Err(Error::pipeline(
            format!("limit the processors to {cpus}"),
            "the limit `cpus` must be between 0.01 and 1000000",
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked above: 1000 to 10^11"
    )]
    Ok((cpus * f64::from(PERIOD)).round() as u64)
}

fn io_max(limit: &IoLimit) -> String {
    let rate = |rate: Option<u64>| rate.map_or_else(|| "max".to_owned(), |rate| rate.to_string());
    let (read, write) = (rate(limit.read), rate(limit.write));
    format!("{}:{} rbps={read} wbps={write}", limit.major, limit.minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, swaps: bool, options: &GroupOptions, expected: &[&str]) {
        let limits = Limits { cpus: 1.5, memory: 1 << 20, pids: 7, ..Limits::default() };
        let settings = settings(&limits, options, swaps, |_| version).unwrap();
        let lines: Vec<String> = settings
            .iter()
            .map(|one| {
                let may = if one.dispensable { " (or not)" } else { "" };
                format!("{}={}{may}", one.file, one.value)
            })
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn unified() {
        let options = GroupOptions {
            io: vec![
                IoLimit { major: 8, minor: 16, read: Some(1000), write: None },
                IoLimit { major: 259, minor: 0, read: None, write: Some(5) },
            ],
            cpuset: Some("0-1,3".to_owned()),
        };
        check(
            Version::V2,
            true,
            &options,
            &[
                "memory.max=1048576",
                "memory.high=1015808",
                "memory.swap.max=0",
                "memory.oom.group=1",
                "pids.max=7",
                "cpu.max=150000 100000",
                "io.max=8:16 rbps=1000 wbps=max",
                "io.max=259:0 rbps=max wbps=5",
                "cpuset.cpus=0-1,3",
            ],
        );
    }

    #[test]
    fn v1() {
        check(
            Version::V1,
            false,
            &GroupOptions {
                io: vec![IoLimit { major: 8, minor: 0, read: Some(7), write: None }],
                cpuset: None,
            },
            &[
                "memory.limit_in_bytes=1048576",
                "memory.memsw.limit_in_bytes=1048576 (or not)",
                "memory.kmem.limit_in_bytes=1048576 (or not)",
                "memory.kmem.tcp.limit_in_bytes=262144 (or not)",
                "pids.max=7",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "blkio.throttle.read_bps_device=8:0 7",
            ],
        );
    }

    #[test]
    fn processors_out_of_range() {
        for cpus in [0.0, -1.0, 0.001, f64::NAN, f64::INFINITY, 1e7] {
            let error = quota(cpus).unwrap_err();
            assert_eq!(error.fault(), crate::Fault::Pipeline, "{cpus}");
        }
        assert_eq!(quota(0.01).unwrap(), 1000);
        assert_eq!(quota(1e6).unwrap(), 100_000_000_000);
    }
}
