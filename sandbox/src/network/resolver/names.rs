//! Which names a container may ask for, and what it has asked for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use crate::network::{Attempt, Destination, Network, Rule};

/// Addresses that are remembered per container.
const REMEMBERED: usize = 4096;
/// Names that are remembered of one address: hosts of a content network share theirs.
const NAMES_EACH: usize = 16;
/// Refused names that are remembered per container.
const REFUSED: usize = 1024;

/// The names of an allow list.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `None` when all names may be asked for.
    rules: Option<Vec<Rule>>,
}

impl Names {
    pub(super) fn new(network: &Network) -> Self {
        let rules = match network {
            Network::Allow { rules, .. } => Some(rules.clone()),
            Network::None | Network::Full | Network::Learn { .. } => None,
        };
        Self { rules }
    }

    /// Whether there is a list.
    pub(super) fn are_listed(&self) -> bool {
        self.rules.is_some()
    }

    /// The ports of `name` that may be reached; none means that the name is not allowed.
    pub(super) fn ports(&self, name: &str) -> BTreeSet<u16> {
        let rules = self.rules.iter().flatten();
        rules.filter(|rule| matches(&rule.destination, name)).map(|rule| rule.port).collect()
    }
}

fn matches(destination: &Destination, name: &str) -> bool {
    match destination {
        Destination::Name(allowed) => allowed == name,
        Destination::Below(parent) => name
            .strip_suffix(parent.as_str())
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        Destination::Block(..) => false,
    }
}

/// What happened so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The name that was asked for last comes last.
    names: HashMap<Ipv4Addr, Vec<String>>,
    refused: BTreeMap<String, u64>,
}

impl History {
    /// Remembers what a name resolved to.
    pub(super) fn resolved(&mut self, name: &str, addresses: &[Ipv4Addr]) {
        for address in addresses {
            if self.names.len() >= REMEMBERED && !self.names.contains_key(address) {
                continue;
            }
            let names = self.names.entry(*address).or_default();
            names.retain(|known| known != name);
            if names.len() >= NAMES_EACH {
                names.remove(0);
            }
            names.push(name.to_owned());
        }
    }

    /// Remembers a refusal.
    pub(super) fn refused(&mut self, name: &str) {
        if let Some(times) = self.refused.get_mut(name) {
            *times += 1;
        } else if self.refused.len() < REFUSED {
            self.refused.insert(name.to_owned(), 1);
        }
    }

    /// The name that an address was asked for by last, or the address.
    pub(crate) fn host(&self, address: Ipv4Addr) -> String {
        self.names(address).last().map_or_else(|| address.to_string(), ToOwned::to_owned)
    }

    /// All names that an address was asked for by, the last one last.
    pub(crate) fn names(&self, address: Ipv4Addr) -> &[String] {
        self.names.get(&address).map(Vec::as_slice).unwrap_or_default()
    }

    /// The refused names.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = Attempt> + '_ {
        self.refused.iter().map(|(name, times)| Attempt {
            host: name.clone(),
            port: None,
            times: *times,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_is_below_them() {
        let rule = |destination, port| Rule { destination, port };
        let names = Names::new(&Network::Allow {
            rules: vec![
                rule(Destination::Name("example.org".to_owned()), 443),
                rule(Destination::Name("example.org".to_owned()), 80),
                rule(Destination::Below("example.net".to_owned()), 443),
            ],
            bandwidth: None,
        });
        for (name, expect) in [
            ("example.org", &[80, 443][..]),
            ("www.example.org", &[]),
            ("www.example.net", &[443]),
            ("a.b.example.net", &[443]),
            ("example.net", &[]),
            (".example.net", &[]),
            ("badexample.net", &[]),
            ("example.net.evil.example", &[]),
            ("", &[]),
        ] {
            assert!(names.ports(name).iter().eq(expect), "{name}: {:?}", names.ports(name));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut history = History::default();
        for number in 0..10_000u32 {
            history.refused(&number.to_string());
            history.resolved("x", &[Ipv4Addr::from(number)]);
        }
        assert_eq!(history.refusals().count(), REFUSED);
        assert_eq!(history.names.len(), REMEMBERED);
        for number in 0..100 {
            history.resolved(&number.to_string(), &[Ipv4Addr::from(0)]);
        }
        assert_eq!(history.names(Ipv4Addr::from(0)).len(), NAMES_EACH);
        assert_eq!(history.host(Ipv4Addr::from(0)), "99");
    }

    #[test]
    fn the_last_name_of_an_address_is_told_and_all_are_known() {
        let mut history = History::default();
        let (one, other) = (Ipv4Addr::from(1), Ipv4Addr::from(2));
        history.resolved("a.example", &[one, other]);
        history.resolved("b.example", &[one]);
        history.resolved("a.example", &[one]);
        assert_eq!(history.names(one), ["b.example", "a.example"]);
        assert_eq!(
            (history.host(one), history.host(other)),
            ("a.example".into(), "a.example".into())
        );
        assert_eq!(history.host(Ipv4Addr::from(3)), "0.0.0.3");
    }
}
