//! Cleaning up what runs without an end have left: those that were killed together with their
//! spawner, whose state directory is gone, or whose journal could not be undone at the time.
//!
//! **Invariant:** nothing that a live run holds is touched. What there is, is listed first, then who
//! is alive, then what there is once more: what is on both lists and has no live owner in between
//! was left by a run that has ended.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{Kind, Residue, audit, live};
use crate::{
    cgroup,
    error::{Result, with_causes},
    ids, journal, network, scratch,
};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What was removed, or would be.
    pub removed: Vec<Residue>,
    /// What is still there, with the reason.
    pub left: Vec<Residue>,
}

/// Something that a run has left, and how it is removed.
struct Found {
    residue: Residue,
    /// The run's name, or as much of it as is known.
    instance: Option<String>,
    remove: Box<dyn FnOnce() -> Result<(), String>>,
}

/// Removes what ended runs have left on this host: by the journals in the state directory `state`,
/// and by name what no journal names any more. With `dry_run`, only says what it would remove.
///
/// # Errors
/// When the journals cannot be listed. What cannot be removed is no error, but [`Collected::left`].
pub fn collect(state: &Path, dry_run: bool) -> Result<Collected> {
    let mut collected = Collected::default();
    for journal in journal::abandoned(state)? {
        let name = journal.directory().display().to_string();
        let residue = Residue {
            why: journal.stuck().map(str::to_owned),
            ..Residue::new(Kind::Journal, name)
        };
        let undo = || journal.undo().map_err(|error| with_causes(&error));
        collected.take(residue, dry_run, undo);
    }
    let before = look(&mut Vec::new());
    let alive = live::look();
    // A run that has ended in between has removed its own.
    let mut found = look(&mut collected.left);
    found.retain(|Found { residue, .. }| before.iter().any(|found| found.is_same(residue)));
    let hidden = if live::sees_all() {
        let why = |pid| format!("it may be that of process {pid}, which hides what it has open");
        alive.unseen.map(why)
    } else {
        Some("its run may live where this process cannot look".to_owned())
    };
    collected.by_name(found, &alive.instances, hidden.as_deref(), dry_run);
    Ok(collected)
}

impl Found {
    fn is_same(&self, other: &Residue) -> bool {
        (self.residue.kind, &self.residue.name) == (other.kind, &other.name)
    }
}

impl Collected {
    /// Takes what has no live owner; nothing is known to have none where some are `hidden`.
    fn by_name(
        &mut self,
        found: Vec<Found>,
        alive: &BTreeSet<String>,
        hidden: Option<&str>,
        dry_run: bool,
    ) {
        for Found { residue, instance, remove } in found {
            match (instance, hidden) {
                (Some(instance), _) if is_alive(&instance, alive) => {}
                (Some(_), Some(hidden)) => self.left.push(residue.because(format!(
                    "{hidden}: run `cofferdam gc` as root and outside of containers"
                ))),
                _ => self.take(residue, dry_run, remove),
            }
        }
    }

    fn take(
        &mut self,
        residue: Residue,
        dry_run: bool,
        remove: impl FnOnce() -> Result<(), String>,
    ) {
        match if dry_run { Ok(()) } else { remove() } {
            Ok(()) => self.removed.push(residue),
            Err(why) => self.left.push(residue.because(why)),
        }
    }
}

fn is_alive(instance: &str, alive: &BTreeSet<String>) -> bool {
    alive.iter().any(|id| id.starts_with(instance))
}

/// Everything on this host that carries the name of a run; what cannot be looked at goes to `unseen`.
fn look(unseen: &mut Vec<Residue>) -> Vec<Found> {
    let mut found = Vec::new();
    match cgroup::groups_on_host() {
        Ok(groups) => {
            found.extend(groups.instances.into_iter().flat_map(|(instance, directories)| {
                directories.into_iter().map(move |directory| Found {
                    residue: audit::group(&directory),
                    instance: Some(instance.clone()),
                    remove: Box::new(move || {
                        cgroup::remove_groups(&[directory]).map_err(|error| with_causes(&error))
                    }),
                })
            }));
            found.extend(groups.empty_leaves.into_iter().map(leaf));
        }
        Err(error) => {
            unseen.push(Residue::new(Kind::ControlGroup, "all").because(with_causes(&error)));
        }
    }
    let mut each = |kind, listed: std::io::Result<Vec<Found>>| match listed {
        Ok(listed) => found.extend(listed),
        Err(error) => unseen.push(audit::unseen(kind, "all", &error)),
    };
    if ids::is_root() {
        each(Kind::Link, network::links().map(|links| links.into_iter().map(link).collect()));
        each(
            Kind::PacketFilter,
            network::tables().map(|all| all.into_iter().filter_map(table).collect()),
        );
        each(Kind::Forwarding, forwardings());
        each(
            Kind::LoopDevice,
            scratch::loop_devices().map(|all| all.into_iter().filter_map(loop_device).collect()),
        );
    }
    found
}

/// It carries no run's name: that nobody is in it, nor where its run would be, says that it has none.
fn leaf(directory: PathBuf) -> Found {
    Found {
        residue: audit::group(&directory),
        instance: None,
        remove: Box::new(move || {
            cgroup::remove_leaf(&directory).map_err(|error| with_causes(&error))
        }),
    }
}

fn link((name, instance): (String, String)) -> Found {
    Found {
        residue: Residue::new(Kind::Link, &name),
        instance: Some(instance),
        remove: Box::new(move || network::remove_link(&name).map_err(|error| error.to_string())),
    }
}

fn table(name: String) -> Option<Found> {
    let instance = network::instance_of_table(&name)?.to_owned();
    Some(Found {
        residue: Residue::new(Kind::PacketFilter, &name),
        instance: Some(instance),
        remove: Box::new(move || network::remove_table(&name).map_err(|error| error.to_string())),
    })
}

/// A note belongs to no run, but to those that hold it.
fn forwardings() -> std::io::Result<Vec<Found>> {
    let left = network::forwardings_left(Path::new(ids::LOCKS))?;
    Ok(left
        .into_iter()
        .map(|path| Found {
            residue: Residue::new(Kind::Forwarding, path.display().to_string()),
            instance: None,
            remove: Box::new(move || {
                network::release_forwarding(&path).map_err(|error| error.to_string())?;
                match network::is_forwarding_left(&path) {
                    Ok(false) => Ok(()),
                    Ok(true) => Err("it is another network namespace's, which is in use: run \
                                     `cofferdam gc` there"
                        .to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            }),
        })
        .collect())
}

fn loop_device((name, file): (String, PathBuf)) -> Option<Found> {
    let instance = journal::instance_of(&file)?.to_owned();
    Some(Found {
        residue: Residue::new(Kind::LoopDevice, &name),
        instance: Some(instance),
        remove: Box::new(move || {
            let text = |error: std::io::Error| error.to_string();
            scratch::detach_loop_device(&name).map_err(text)?;
            let still = scratch::loop_devices().map_err(text)?;
            match still.iter().any(|(other, its)| *other == name && *its == file) {
                true => Err("a process has it open, or a mount in another namespace".to_owned()),
                false => Ok(()),
            }
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_belong_to_a_run_out_of_sight_stays() {
        let alive = BTreeSet::from(["0123456789ab".to_owned()]);
        let found = |sees_all: bool| {
            let mut collected = Collected::default();
            let found = ["0123456789ab", "ba9876543210"].map(|instance| Found {
                residue: Residue::new(Kind::Link, instance),
                instance: Some(instance.to_owned()),
                remove: Box::new(move || if sees_all { Ok(()) } else { panic!("removed") }),
            });
            let hidden = (!sees_all).then_some("out of sight");
            collected.by_name(found.into(), &alive, hidden, false);
            let names = |list: Vec<Residue>| -> Vec<String> {
                list.into_iter().map(|residue| residue.name).collect()
            };
            (names(collected.removed), names(collected.left))
        };
        let ended = vec!["ba9876543210".to_owned()];
        assert_eq!(found(true), (ended.clone(), Vec::new()));
        assert_eq!(found(false), (Vec::new(), ended));
    }

    #[test]
    fn part_of_a_name_is_enough_to_be_alive() {
        let alive = BTreeSet::from(["0123456789ab".to_owned()]);
        for (instance, expected) in
            [("0123456789ab", true), ("01234567", true), ("0123456789ac", false), ("f", false)]
        {
            assert_eq!(is_alive(instance, &alive), expected, "{instance}");
        }
    }
}
