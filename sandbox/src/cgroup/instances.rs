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

/// The groups of instances by the instances' names, as far as this user may remove them.
pub(crate) fn on_host() -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let read = |path: &str| std::fs::read_to_string(path).system(|| format!("read `{path}`"));
    let layout = layout::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
    let mounts = layout.v1.into_iter().chain(layout.v2).map(|tree| tree.mount);
    let mut pending: Vec<(PathBuf, usize)> = mounts.map(|mount| (mount, 0)).collect();
    let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    while let Some((directory, depth)) = pending.pop() {
        // Groups come and go while this looks.
        for child in file::children(&directory).unwrap_or_default() {
            match hierarchy::instance_of(&child) {
                Some(instance) if is_own(&child) => {
                    let instance = instance.to_owned();
                    found.entry(instance).or_default().push(child);
                }
                Some(_) => {}
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
