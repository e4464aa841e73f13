//! Networks: from what the pipeline or the command line asks for to what the sandbox enforces, and
//! from what was refused to a sentence.

use std::{net::IpAddr, str::FromStr};

use cofferdam_jobs::model;
use cofferdam_sandbox::network::{Destination, Network, Rule};

use crate::{
    exit::Exit,
    problem::Problem,
    report::{quantity::count, record::AttemptedDestination as Attempt},
};

/// Refused destinations that are told to people; all of them are in the record.
pub(crate) const SHOWN: usize = 5;

/// The network of a job. One that has a way out and `learns` reaches everything that `full` does, as
/// well as what it lists, and what it reaches is recorded.
pub(crate) fn of_job(network: &model::Network, learns: bool) -> Network {
    match network {
        // Services are refused before any job is started, so there is nothing else to reach.
        model::Network::None | model::Network::Services(_) => Network::None,
        model::Network::Full(_) if learns => LEARN,
        model::Network::Full(_) => Network::Full,
        model::Network::Allow { allow, bandwidth, .. } => {
            let rules = allow.iter().map(|allow| rule(&allow.destination, allow.port)).collect();
            let bandwidth = bandwidth.as_ref().map(|bandwidth| bandwidth.value);
            match learns {
                true => Network::Learn { rules, bandwidth },
                false => Network::Allow { rules, bandwidth },
            }
        }
    }
}

fn rule(destination: &model::Destination, port: u16) -> Rule {
    let destination = match destination.clone() {
        model::Destination::Name(name) => Destination::Name(name),
        model::Destination::Below(name) => Destination::Below(name),
        model::Destination::Block(address, bits) => Destination::Block(address, bits),
    };
    Rule { destination, port }
}

/// Learning without a list to begin with.
pub(crate) const LEARN: Network = Network::Learn { rules: Vec::new(), bandwidth: None };

/// `none`, `full`, `learn` or `HOST:PORT,…` on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument(pub(crate) Network);

impl FromStr for Argument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = match text {
            "none" => Network::None,
            "full" => Network::Full,
            "learn" => LEARN,
            list => {
                let rules = list.split(',').map(|item| {
                    let (destination, port) = model::Destination::parse(item.trim())
                        .map_err(|help| format!("`{item}` is not a destination: {help}"))?;
                    Ok(rule(&destination, port))
                });
                let rules = rules.collect::<Result<_, String>>().map_err(|error| {
                    if text.contains([':', ',']) {
                        error
                    } else {
                        "expected `none`, `full`, `learn` or `HOST:PORT,…`".to_owned()
                    }
                })?;
                Network::Allow { rules, bandwidth: None }
            }
        };
        Ok(Self(network))
    }
}

/// What the command line asks for, with its `--bandwidth`.
pub(crate) fn with_bandwidth(network: Network, bandwidth: Option<u64>) -> Result<Network, Problem> {
    match (network, bandwidth) {
        (network, None) => Ok(network),
        (Network::Allow { rules, .. }, bandwidth) => Ok(Network::Allow { rules, bandwidth }),
        (Network::None | Network::Full | Network::Learn { .. }, Some(_)) => {
            Err(Problem::new(Exit::Usage, "`--bandwidth` needs a list of destinations")
                .remedy("add `--network HOST:PORT,…`"))
        }
    }
}

/// Why a job was refused what it tried to reach.
pub(crate) const NOT_ALLOWED: &str = "which its `network` does not allow";

/// As [`NOT_ALLOWED`], where it is known what was allowed.
pub(crate) fn why_refused(network: &Network) -> &'static str {
    match network {
        Network::Allow { .. } => "not in the allow list",
        Network::None | Network::Full | Network::Learn { .. } => "which is private or this host",
    }
}

/// What became of the way out, as a sentence without its subject.
pub(crate) fn loss(why: &str) -> String {
    format!("lost its network before its end: {why}")
}

/// What was refused, a sentence each without a full stop, the most often tried first.
pub(crate) fn refusals(why: &str, denied: &[Attempt]) -> Vec<String> {
    let mut sentences: Vec<String> = denied
        .iter()
        .take(SHOWN)
        .map(|attempt| {
            let times = match attempt.times {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            };
            format!("tried {times} to reach {}, {why}", destination(attempt))
        })
        .collect();
    let more = denied.len().saturating_sub(SHOWN);
    if more > 0 {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        sentences.push(format!("and {}", count(more, "more destination")));
    }
    sentences
}

/// What a job is told that has no network, and seems to have wanted one.
pub(crate) const NONE: &str =
    "it had no network: `network: full` or `network: { allow: [HOST:PORT] }`";

/// Whether a program without a network says, in the words of the usual libraries and tools, that it
/// wanted one. A guess: nothing refuses what has no network to begin with, so nothing is recorded.
pub(crate) fn is_missed(lines: &[String]) -> bool {
    const SAID: [&str; 8] = [
        "temporary failure in name resolution",
        "temporary failure resolving",
        "could not resolve host",
        "unable to resolve host address",
        "getaddrinfo eai_again",
        "dial tcp: lookup",
        "wget: bad address",
        "network is unreachable",
    ];
    let lines = lines.iter().map(|line| line.to_lowercase());
    lines.into_iter().any(|line| SAID.iter().any(|said| line.contains(said)))
}

/// The allow list that would have been enough, and what of it no list can name.
pub(crate) fn allow_list(reached: &[Attempt]) -> (String, Vec<String>) {
    let (mut list, mut unlisted) = (Vec::new(), Vec::new());
    for attempt in reached.iter().filter(|attempt| attempt.port.is_some()) {
        match listed(&attempt.host, attempt.port) {
            Ok(destination) => list.push(destination),
            Err(other) => unlisted.push(other),
        }
    }
    list.sort();
    (list.join(","), unlisted)
}

/// As it is written in a list, or else in words. A job chooses the names that it asks for, and a name
/// of a domain of its own may have any signs in it: what is listed means this one host and no more.
pub(crate) fn listed(host: &str, port: Option<u16>) -> Result<String, String> {
    let Some(port) = port else { return Err(host.to_owned()) };
    let text = format!("{host}:{port}");
    match model::Destination::parse(&text) {
        Ok((model::Destination::Name(_), _)) => Ok(text),
        Ok((model::Destination::Block(..), _)) if host.parse::<IpAddr>().is_ok() => Ok(text),
        _ => Err(text),
    }
}

fn destination(attempt: &Attempt) -> String {
    match attempt.port {
        Some(port) => format!("{}:{port}", attempt.host),
        None => attempt.host.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let name = |name: &str| Destination::Name(name.to_owned());
        let allow = |rules: Vec<(Destination, u16)>| {
            let rules = rules.into_iter().map(|(destination, port)| Rule { destination, port });
            Ok(Argument(Network::Allow { rules: rules.collect(), bandwidth: None }))
        };
        let check = |text: &str, expect: Result<Argument, &str>| match (text.parse(), expect) {
            (Err(error), Err(part)) => {
                let error: String = error;
                assert!(error.contains(part), "{text}: {error}");
            }
            (found, expect) => assert_eq!(found, expect.map_err(str::to_owned), "{text}"),
        };
        check("none", Ok(Argument(Network::None)));
        check("full", Ok(Argument(Network::Full)));
        check("learn", Ok(Argument(LEARN)));
        check("a.example:443", allow(vec![(name("a.example"), 443)]));
        check(
            "a.example:443, *.b.example:80,192.0.2.0/24:1",
            allow(vec![
                (name("a.example"), 443),
                (Destination::Below("b.example".to_owned()), 80),
                (Destination::Block([192, 0, 2, 0].into(), 24), 1),
            ]),
        );
        check("host", Err("expected `none`, `full`, `learn` or"));
        check("a.example:443,", Err("`` is not a destination"));
        check("a.example:0", Err("`a.example:0` is not a destination"));
    }

    #[test]
    fn a_missing_network_is_recognized() {
        let check =
            |line: &str, expect| assert_eq!(is_missed(&[line.to_owned()]), expect, "{line}");
        check("curl: (6) Could not resolve host: example.org", true);
        check("socket.gaierror: [Errno -3] Temporary failure in name resolution", true);
        check("connect: Network is unreachable", true);
        check("connect: Connection refused", false);
        check("could not resolve module", false);
    }

    #[test]
    fn sentences() {
        let attempt = |port, times| Attempt { host: "example.org".to_owned(), port, times };
        let allow = Network::Allow { rules: Vec::new(), bandwidth: None };
        let check = |network, denied: &[Attempt], expect: &[&str]| {
            assert_eq!(refusals(why_refused(network), denied), expect);
        };
        check(
            &allow,
            &[attempt(Some(443), 3), attempt(None, 1)],
            &[
                "tried 3 times to reach example.org:443, not in the allow list",
                "tried once to reach example.org, not in the allow list",
            ],
        );
        let private = "tried once to reach example.org:1, which is private or this host";
        check(&Network::Full, &[attempt(Some(1), 1)], &[private]);
        let many = vec![attempt(None, 1); SHOWN + 2];
        assert_eq!(refusals(why_refused(&allow), &many).last().unwrap(), "and 2 more destinations");
        let reached = [attempt(Some(443), 9), attempt(Some(80), 1), attempt(None, 1)];
        assert_eq!(allow_list(&reached).0, "example.org:443,example.org:80");
    }

    #[test]
    fn what_is_learnt_is_one_host_each() {
        let check = |host: &str, is_listed: bool| {
            let text = format!("{host}:443");
            let expect = if is_listed { Ok(text.clone()) } else { Err(text.clone()) };
            assert_eq!(listed(host, Some(443)), expect);
            let attempt = Attempt { host: host.to_owned(), port: Some(443), times: 1 };
            let expect = if is_listed { (text, vec![]) } else { (String::new(), vec![text]) };
            assert_eq!(allow_list(&[attempt]), expect);
        };
        check("a.example", true);
        check("192.0.2.1", true);
        // Names that a job can ask for, and that resolve where it has a domain.
        for name in [
            "*.example",
            "0.0.0.0/0",
            "x:1,0.0.0.0/0:443,y.example",
            "x,*.example",
            "$(id).example",
            "`id`.example",
            "-x.example",
        ] {
            check(name, false);
        }
        assert_eq!(listed("a.example", None), Err("a.example".to_owned()));
    }
}
