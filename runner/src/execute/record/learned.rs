//! What a run that learns (`--learn-network`) has found out, by the places of the pipeline where a
//! `network` is written: a job has one for all its tries and values of its matrix, an image has one,
//! and a step may have its own.

use std::sync::Arc;

use cofferdam_jobs::{
    model,
    plan::Group,
    state::{Part, Run, StepRef},
};
use cofferdam_sandbox::network::{Attempt, NetworkUse, REACHED};

use super::ledger::{AttemptEntry, Ledger};
use crate::{
    log::needles::Needles,
    network,
    report::learned::{LearnedNetwork, LearnedPlace, LearnedRecord, LearnedStep},
};

/// Learns from all tries of all jobs.
pub(in crate::execute) fn learned(
    state: &Run,
    ledger: &Ledger,
    needles: &Arc<Needles>,
) -> LearnedRecord {
    let plan = state.plan();
    let mut learned = LearnedRecord::default();
    for group in &plan.groups {
        let Some(planned) = plan.jobs.get(group.jobs.start) else { continue };
        let tries: Vec<&AttemptEntry> =
            group.jobs.clone().flat_map(|job| ledger.attempts_of(job)).collect();
        let image = planned.build.as_ref().and_then(|build| plan.images.get(build.image));
        let steps: Vec<_> = steps(group).filter(|(_, _, network)| learns(network)).collect();
        let own = learns(&planned.network) || (image.is_some() && !steps.is_empty());
        let own = own.then(|| {
            let uses = tries.iter().map(|entry| entry.used.network.as_ref());
            of_network(&planned.network, uses, needles)
        });
        let of_step = |(step, name, network): &(StepRef, String, &model::Network)| LearnedStep {
            name: needles.mask_text(name),
            network: {
                let uses = tries.iter().map(|entry| entry.used.of_steps.get(step));
                of_network(network, uses, needles)
            },
        };
        let place = LearnedPlace {
            id: image.map_or_else(|| group.id.clone(), |image| image.name.value.clone()),
            network: own,
            // Each step of an image has a container of its own: they are told together.
            steps: if image.is_some() { vec![] } else { steps.iter().map(of_step).collect() },
        };
        let all = place.network.iter().chain(place.steps.iter().map(|step| &step.network));
        learned.allow.extend(all.flat_map(|network| network.allow.clone()));
        if place.network.is_some() || !place.steps.is_empty() {
            let places = if image.is_some() { &mut learned.images } else { &mut learned.jobs };
            places.push(place);
        }
    }
    learned
}

/// The steps that have a network of their own.
fn steps(group: &Group) -> impl Iterator<Item = (StepRef, String, &model::Network)> {
    let lists = [(Part::Steps, &group.source.steps), (Part::Cleanup, &group.source.cleanup)];
    lists.into_iter().flat_map(|(part, steps)| {
        steps.iter().enumerate().filter_map(move |(index, step)| {
            Some((StepRef { part, index }, step.label(index), step.network.as_ref()?))
        })
    })
}

fn learns(network: &model::Network) -> bool {
    matches!(network, model::Network::Full(_) | model::Network::Allow { .. })
}

fn of_network<'a>(
    written: &model::Network,
    uses: impl Iterator<Item = Option<&'a NetworkUse>>,
    needles: &Arc<Needles>,
) -> LearnedNetwork {
    let mut learned = LearnedNetwork::default();
    if let model::Network::Allow { bandwidth: Some(bandwidth), .. } = written {
        learned.bandwidth = Some(bandwidth.value);
    }
    for used in uses.flatten() {
        learned.was_used = true;
        learned.is_partial |= u32::try_from(used.reached.len()).is_ok_and(|many| many >= REACHED);
        for attempt in &used.reached {
            match listed(attempt, needles) {
                Ok(destination) => learned.allow.insert(destination),
                Err(other) => learned.unlisted.insert(other),
            };
        }
        let denied = used.denied.iter().map(|attempt| listed(attempt, needles));
        learned.denied.extend(denied.map(|denied| denied.unwrap_or_else(|other| other)));
    }
    learned
}

/// As it is written in a list, or else in words.
fn listed(attempt: &Attempt, needles: &Arc<Needles>) -> Result<String, String> {
    network::listed(&needles.mask_text(&attempt.host), attempt.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::secret::Secret;

    #[test]
    fn only_what_a_list_may_say_is_listed() {
        let secret = Secret::new("TOKEN", b"hunter22".to_vec()).unwrap();
        let needles = Arc::new(Needles::new([&secret]).unwrap());
        let check = |host: &str, port, expect: Result<&str, &str>| {
            let attempt = Attempt { host: host.to_owned(), port, times: 1 };
            let expect = expect.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(listed(&attempt, &needles), expect);
        };
        check("a.example", Some(443), Ok("a.example:443"));
        check("192.0.2.1", Some(80), Ok("192.0.2.1:80"));
        check("192.0.2.1", None, Err("192.0.2.1"));
        check("a: b\n#", Some(1), Err("a: b\n#:1"));
        check("hunter22.example", Some(1), Err("***.example:1"));
        check("*.example", Some(1), Err("*.example:1"));
    }
}
