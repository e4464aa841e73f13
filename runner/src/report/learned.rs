//! What a run has learnt of networks: as a part of its record, and as YAML for its pipeline.
//!
//! A list that is printed is complete, or it says what is missing; what no list can say is a comment
//! beside it.

use std::{collections::BTreeSet, fmt::Write as _};

use serde::{Deserialize, Serialize};

use super::style::one_line;

/// What each place of the pipeline needs that has a way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LearnedRecord {
    /// The jobs, as the pipeline names them.
    pub(crate) jobs: Vec<LearnedPlace>,
    /// The images that the pipeline makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) images: Vec<LearnedPlace>,
    /// The allow list that would have been enough for all of them.
    pub(crate) allow: BTreeSet<String>,
}

/// What a job or an image needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LearnedPlace {
    /// Its id in the pipeline.
    pub(crate) id: String,
    /// Its network; absent where that has no way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<LearnedNetwork>,
    /// Its steps that have a network of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<LearnedStep>,
}

/// What a step needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LearnedStep {
    /// The step's name for people.
    pub(crate) name: String,
    /// Its network.
    pub(crate) network: LearnedNetwork,
}

/// What was learnt of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LearnedNetwork {
    /// Whether anything ran in it; otherwise there is nothing to be learnt of it.
    pub(crate) was_used: bool,
    /// The allow list that would have been enough.
    pub(crate) allow: BTreeSet<String>,
    /// Bits per second, as the pipeline says them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bandwidth: Option<u64>,
    /// What it reached that no list can name, such as a host without a port.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) unlisted: BTreeSet<String>,
    /// What was refused to it: private addresses and this host, unless they were listed before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) denied: BTreeSet<String>,
    /// Whether it reached more than is recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_partial: bool,
}

/// All of it as a fragment of a pipeline.
pub(crate) fn render(learned: &LearnedRecord) -> String {
    let mut text = String::from("# What this run has reached, as the `network` of each place.\n");
    if learned.jobs.is_empty() && learned.images.is_empty() {
        text.push_str("# No job has a way out: there is nothing to learn.\n");
        return text;
    }
    for (key, places) in [("jobs", &learned.jobs), ("images", &learned.images)] {
        if places.is_empty() {
            continue;
        }
        push(&mut text, 0, &format!("{key}:"));
        for place in places {
            push(&mut text, 1, &format!("{}:", place.id));
            if let Some(network) = &place.network {
                push_network(&mut text, 2, network);
            }
            if place.steps.is_empty() {
                continue;
            }
            push(&mut text, 2, "steps:");
            for step in &place.steps {
                let name = serde_json::Value::from(one_line(&step.name));
                push(&mut text, 3, &format!("- name: {name}"));
                push_network(&mut text, 4, &step.network);
            }
        }
    }
    if learned.jobs.len() + learned.images.len() > 1 {
        text.push_str("# The same as one list for all of them.\ndefaults:\n");
        push_list(&mut text, 1, &learned.allow, None);
    }
    text
}

fn push_network(text: &mut String, depth: usize, network: &LearnedNetwork) {
    if !network.was_used {
        push(text, depth, "# Nothing ran in its network, so nothing was learnt.");
        return;
    }
    if network.is_partial {
        push(text, depth, "# Incomplete: it reached more than is recorded.");
    }
    for (what, each) in [
        ("reached, and no list can name it", &network.unlisted),
        ("refused: private or this host; list it by address", &network.denied),
    ] {
        for destination in each {
            push(text, depth, &format!("# {what}: {}", one_line(destination)));
        }
    }
    push_list(text, depth, &network.allow, network.bandwidth);
}

fn push_list(text: &mut String, depth: usize, allow: &BTreeSet<String>, bandwidth: Option<u64>) {
    if allow.is_empty() {
        push(text, depth, "network: none");
        return;
    }
    push(text, depth, "network:");
    push(text, depth + 1, "allow:");
    for destination in allow {
        push(text, depth + 2, &format!("- {destination}"));
    }
    if let Some(bits) = bandwidth {
        push(text, depth + 1, &format!("bandwidth: {}", rate(bits)));
    }
}

/// A rate in the largest unit that says it exactly.
fn rate(bits: u64) -> String {
    let units = [(1_000_000_000, "Gbit"), (1_000_000, "Mbit"), (1000, "kbit")];
    let unit = units.into_iter().find(|(unit, _)| bits.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "bit"));
    format!("{}{name}", bits / unit)
}

fn push(text: &mut String, depth: usize, line: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{:1$}{line}", "", depth * 2);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(allow: &[&str]) -> LearnedNetwork {
        let allow = allow.iter().map(|it| (*it).to_owned()).collect();
        LearnedNetwork { was_used: true, allow, ..LearnedNetwork::default() }
    }

    fn place(id: &str, network: Option<LearnedNetwork>) -> LearnedPlace {
        LearnedPlace { id: id.to_owned(), network, steps: vec![] }
    }

    #[test]
    fn what_is_learnt_is_ready_to_be_pasted() {
        let odd = LearnedNetwork {
            bandwidth: Some(1_500_000),
            unlisted: [String::from("192.0.2.1")].into(),
            denied: ["10.0.0.1:5432".into(), "a\x1b[2J\nb".into()].into(),
            is_partial: true,
            ..network(&["a.example:443", "b.example:80"])
        };
        let install = LearnedStep { name: "in: stall".into(), network: network(&["b.example:80"]) };
        let learned = LearnedRecord {
            jobs: vec![
                place("build", Some(odd)),
                place("lint", Some(network(&[]))),
                place("skipped", Some(LearnedNetwork::default())),
                LearnedPlace { steps: vec![install], ..place("test", None) },
            ],
            images: vec![place("tools", Some(network(&["a.example:443"])))],
            allow: ["a.example:443".into(), "b.example:80".into()].into(),
        };
        let text = render(&learned);
        assert!(!text.contains('\x1b'));
        insta::assert_snapshot!(text, @r#"
        # What this run has reached, as the `network` of each place.
        jobs:
          build:
            # Incomplete: it reached more than is recorded.
            # reached, and no list can name it: 192.0.2.1
            # refused: private or this host; list it by address: 10.0.0.1:5432
            # refused: private or this host; list it by address: a b
            network:
              allow:
                - a.example:443
                - b.example:80
              bandwidth: 1500kbit
          lint:
            network: none
          skipped:
            # Nothing ran in its network, so nothing was learnt.
          test:
            steps:
              - name: "in: stall"
                network:
                  allow:
                    - b.example:80
        images:
          tools:
            network:
              allow:
                - a.example:443
        # The same as one list for all of them.
        defaults:
          network:
            allow:
              - a.example:443
              - b.example:80
        "#);
    }

    #[test]
    fn nothing_to_learn_is_said() {
        assert!(render(&LearnedRecord::default()).ends_with("there is nothing to learn.\n"));
    }

    #[test]
    fn rates_are_read_back() {
        for bits in [1, 999, 1000, 20_000_000, 1_500_000, 3_000_000_000, 1_000_000_001] {
            let text = rate(bits);
            assert_eq!(cofferdam_jobs::model::quantity::bit_rate(&text), Ok(bits), "{text}");
        }
    }
}
