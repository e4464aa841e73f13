//! Where in the unified hierarchy our groups go.
//!
//! A group with processes of its own cannot hand controllers to its children (the
//! no-internal-process rule of cgroups(7)), and groups that belong to someone else, such as
//! systemd's units, are not ours to fill. So the caller's own group and the groups above it are
//! candidates, nearest first, and the choice is:
//!
//! - who may write at the root of the tree takes the nearest group that its owner delegated
//!   (systemd marks those with an extended attribute), otherwise the root;
//! - everyone else takes the nearest group that is writable: only delegation can have made it so;
//! - a group that holds processes of strangers is none; one that holds only ours is, they move
//!   into a leaf below it;
//! - among these, the one with most of the controllers that are needed.
//!
//! Where no controller is needed from the unified hierarchy, as on a hybrid host, the rule does not
//! bind and the caller's own group is taken.

use super::controller::Controllers;

/// What is known of one group that could hold ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Groups can be made in it and processes moved into them.
    pub(super) writable: bool,
    /// Its owner marked it as delegated.
    pub(super) delegated: bool,
    /// The root of the whole hierarchy, to which the no-internal-process rule does not apply.
    pub(super) root: bool,
    /// It holds processes that are not ours.
    pub(super) strangers: bool,
    /// The controllers that it can hand to its children.
    pub(super) controllers: Controllers,
}

/// The index of the group to take. `candidates` go from the own group up to the mounted root.
pub(super) fn choose(candidates: &[Candidate], needed: &Controllers) -> Option<usize> {
    if needed.is_empty() {
        return candidates.first().filter(|own| own.writable).map(|_| 0);
    }
    let privileged = candidates.last().is_some_and(|top| top.writable);
    candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.writable && (candidate.root || !candidate.strangers))
        .filter(|(index, candidate)| {
            !privileged || candidate.delegated || index + 1 == candidates.len()
        })
        // `max_by_key` takes the last of equals, and the nearest shall win.
        .rev()
        .max_by_key(|(_, candidate)| candidate.controllers.intersection(needed).count())
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::{super::controller::Controller, *};

    fn set(names: &str) -> Controllers {
        names.split_whitespace().filter_map(Controller::parse).collect()
    }

    /// `w`ritable, `d`elegated, `r`oot, `s`trangers.
    fn group(flags: &str, controllers: &str) -> Candidate {
        Candidate {
            writable: flags.contains('w'),
            delegated: flags.contains('d'),
            root: flags.contains('r'),
            strangers: flags.contains('s'),
            controllers: set(controllers),
        }
    }

    #[test]
    fn choices() {
        const ALL: &str = "cpu memory pids";
        let check = |what: &str, groups: &[(&str, &str)], expected: Option<usize>| {
            let candidates: Vec<_> =
                groups.iter().map(|(flags, controllers)| group(flags, controllers)).collect();
            assert_eq!(choose(&candidates, &set(ALL)), expected, "{what}");
        };
        check("root in the root group", &[("wrs", ALL)], Some(0));
        check("root in a session", &[("ws", ""), ("w", ALL), ("wrs", ALL)], Some(2));
        check("root in a unit of its own", &[("w", ALL), ("w", ALL), ("wr", ALL)], Some(2));
        check("root in a delegated unit", &[("wd", ALL), ("w", ALL), ("wr", ALL)], Some(0));
        check(
            "root in a leaf of a delegated unit",
            &[("w", ""), ("wd", ALL), ("wr", ALL)],
            Some(1),
        );
        check("root beside others", &[("wds", ALL), ("w", ALL), ("wr", ALL)], Some(2));
        check("root of a container with a shell", &[("ws", ALL)], None);
        check("root of a container alone", &[("w", ALL)], Some(0));
        check("user in a session", &[("s", ""), ("", ALL), ("r", ALL)], None);
        check("user in a scope of its own", &[("wd", ALL), ("", ALL), ("r", ALL)], Some(0));
        check("user in a leaf", &[("w", ""), ("wd", ALL), ("r", ALL)], Some(1));
        check(
            "user beside a shell",
            &[("wds", ALL), ("w", ALL), ("wd", ALL), ("s", ALL), ("r", ALL)],
            Some(1),
        );
        check("the nearest lacks a controller", &[("w", "pids"), ("w", ALL), ("r", ALL)], Some(1));
        check("none has all", &[("w", "pids"), ("w", "pids"), ("r", ALL)], Some(0));
        check("nothing", &[], None);
    }

    #[test]
    fn without_controllers_the_own_group_will_do() {
        let check = |flags: &str, expected| {
            let candidates = [group(flags, ""), group("wr", "")];
            assert_eq!(choose(&candidates, &Controllers::new()), expected, "{flags}");
        };
        check("ws", Some(0));
        check("s", None);
    }
}
