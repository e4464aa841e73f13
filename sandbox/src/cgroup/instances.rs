//! The groups of all instances on this host, wherever they were started.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use super::{file, hierarchy, layout};
use crate::{
    error::{Doing as _, Result},
    ids::is_root,
};

/// Deeper groups than these are nobody's whom we know.
const DEEPEST: usize = 16;

/// What runs have made on this host, as far as this user may remove it.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// The groups of instances, by the instances' names.
    pub(crate) instances: BTreeMap<String, Vec<PathBuf>>,
    /// Leaves for a run's own processes that nobody is in, nor in the group above: that is where
    /// the run which makes a leaf is until it moves there, so no run that is alive has these.
    pub(crate) empty_leaves: Vec<PathBuf>,
}

/// Looks at all groups but those below an instance's.
pub(crate) fn on_host() -> Result<Groups> {
    let read = |path: &str| std::fs::read_to_string(path).system(|| format!("read `{path}`"));
    let layout = layout::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
    let mounts = layout.v1.into_iter().chain(layout.v2).map(|tree| tree.mount);
    let mut pending: Vec<(PathBuf, usize)> = mounts.map(|mount| (mount, 0)).collect();
    let mut found = Groups::default();
    while let Some((directory, depth)) = pending.pop() {
        // Groups come and go while this looks.
        for child in file::children(&directory).unwrap_or_default() {
            match hierarchy::instance_of(&child) {
                Some(instance) if is_own(&child) => {
                    let instance = instance.to_owned();
                    found.instances.entry(instance).or_default().push(child);
                }
                Some(_) => {}
                None if is_empty_leaf(&child, &directory) => found.empty_leaves.push(child),
                None if depth < DEEPEST => pending.push((child, depth + 1)),
                None => {}
            }
        }
    }
    Ok(found)
}

/// Whether a process with these groups (proc_pid_cgroup(5)) is in one of an instance's.
pub(crate) fn is_of_one(groups: &str) -> bool {
    groups.lines().flat_map(|line| Path::new(line).ancestors()).any(|group| {
        // A line begins with a number and controllers; what they are called cannot look like one.
        hierarchy::instance_of(group).is_some()
    })
}

fn is_empty_leaf(child: &Path, above: &Path) -> bool {
    child.ends_with(hierarchy::SUPERVISOR)
        && is_own(child)
        && is_deserted(child)
        && is_deserted(above)
}

/// Whether nobody is in a group itself; one that cannot be read may hold anyone.
fn is_deserted(directory: &Path) -> bool {
    file::processes(directory).is_ok_and(|processes| processes.is_empty())
}

/// Removes a leaf of [`Groups::empty_leaves`], unless somebody has come into it.
///
/// # Errors
/// When the kernel does not remove it.
pub(crate) fn remove_leaf(leaf: &Path) -> Result<()> {
    match std::fs::remove_dir(leaf) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.system(|| format!("remove the control group `{}`", leaf.display())),
    }
}

fn is_own(directory: &Path) -> bool {
    let user = geteuid();
    is_root() || directory.metadata().is_ok_and(|found| found.uid() == user.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_containers_are_told_by_their_groups() {
        let check = |groups: &str, expected| assert_eq!(is_of_one(groups), expected, "{groups}");
        check("0::/user.slice/a.scope/cofferdam-0123456789ab/3\n", true);
        check("4:memory:/\n2:pids:/x/cofferdam-0123456789ab\n0::/\n", true);
        check("0::/user.slice/a.scope/cofferdam-supervisor\n", false);
        check("0::/\n", false);
    }
}
