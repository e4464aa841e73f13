//! Which hierarchies are mounted where, and which group of each the caller is in.
//!
//! Pure: it works on the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and of
//! `/proc/self/cgroup` (cgroups(7)).

use std::path::{Path, PathBuf};

use super::controller::{Controller, Controllers};
use crate::mount_table;

/// A mounted hierarchy and the caller's own group in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    /// Its controllers; empty for the unified hierarchy, which says so in its own files.
    pub(super) controllers: Controllers,
    /// The directory where it is mounted.
    pub(super) mount: PathBuf,
    /// The directory of the caller's own group, at or below `mount`.
    pub(super) own: PathBuf,
}

/// The hierarchies of this host, as far as the caller can see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Hierarchies with a controller of their own.
    pub(super) v1: Vec<Tree>,
    /// The unified hierarchy.
    pub(super) v2: Option<Tree>,
}

/// Reads both files' text. A hierarchy that is not mounted where its own group shows is left out.
pub(super) fn parse(mountinfo: &str, membership: &str) -> Layout {
    let mounts: Vec<Mount> = mount_table::mounts(mountinfo).filter_map(control_groups).collect();
    let mut layout = Layout::default();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if names.is_empty() {
            layout.v2 = mounts.iter().filter(|mount| mount.unified).find_map(|mount| {
                Some(Tree {
                    controllers: Controllers::new(),
                    mount: mount.point.clone(),
                    own: mount.directory(path)?,
                })
            });
            continue;
        }
        let controllers: Controllers = names.split(',').filter_map(Controller::parse).collect();
        // A named hierarchy such as systemd's has no controller and is of no use here.
        let Some(first) = controllers.first() else { continue };
        let tree =
            mounts.iter().filter(|mount| mount.controllers.contains(first)).find_map(|mount| {
                Some(Tree {
                    controllers: controllers.clone(),
                    mount: mount.point.clone(),
                    own: mount.directory(path)?,
                })
            });
        layout.v1.extend(tree);
    }
    layout
}

struct Mount {
    root: PathBuf,
    point: PathBuf,
    unified: bool,
    controllers: Controllers,
}

impl Mount {
    /// Where the group at `path` of the hierarchy shows below this mount.
    fn directory(&self, path: &str) -> Option<PathBuf> {
        let path = Path::new(path);
        // Outside of the caller's cgroup namespace the path starts with `/..`.
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return None;
        }
        let below = path.strip_prefix(&self.root).ok()?;
        Some(mount_table::join(&self.point, below))
    }
}

fn control_groups(mount: mount_table::Mount<'_>) -> Option<Mount> {
    let unified = match mount.kind {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let controllers = if unified {
        Controllers::new()
    } else {
        mount.options.split(',').filter_map(Controller::parse).collect()
    };
    Some(Mount { root: mount.shown.root, point: mount.point, unified, controllers })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
23 1 0:21 / / rw - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    fn tree(controllers: &[Controller], mount: &str, own: &str) -> Tree {
        Tree {
            controllers: controllers.iter().copied().collect(),
            mount: mount.into(),
            own: own.into(),
        }
    }

    #[test]
    fn hybrid() {
        let membership = "\
9:name=systemd:/user.slice
7:blkio:/
4:memory:/build/658c
2:cpu,cpuacct:/
1:hugetlb:/
0::/
";
        use Controller::{Cpu, CpuAcct, Io, Memory};
        let expected = Layout {
            v1: vec![
                tree(&[Io], "/sys/fs/cgroup/blkio", "/sys/fs/cgroup/blkio"),
                tree(&[Memory], "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/build/658c"),
                tree(&[Cpu, CpuAcct], "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
            ],
            v2: Some(tree(&[], "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified")),
        };
        assert_eq!(parse(HYBRID_MOUNTS, membership), expected);
    }

    #[test]
    fn pure_v2() {
        let check = |mountinfo: &str, membership: &str, own: Option<&str>| {
            let layout = parse(mountinfo, membership);
            assert_eq!(layout.v1, []);
            assert_eq!(layout.v2.map(|tree| tree.own), own.map(PathBuf::from), "{membership}");
        };
        let host =
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        check(
            host,
            "0::/user.slice/user-1000.slice/session-2.scope\n",
            Some("/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope"),
        );
        check(host, "0::/\n", Some("/sys/fs/cgroup"));
        check(host, "0::/a:b\n", Some("/sys/fs/cgroup/a:b"));
        // In a cgroup namespace that does not hold the caller.
        check(host, "0::/../../session-3.scope\n", None);
        // A container that sees its own part of the host's tree only.
        let part = "30 23 0:26 /docker/4f /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        check(part, "0::/docker/4f\n", Some("/sys/fs/cgroup"));
        check(part, "0::/docker/4f/x\n", Some("/sys/fs/cgroup/x"));
        check(part, "0::/docker/4fx\n", None);
        // The first mount is of another part, the second shows the group.
        let two =
            "30 23 0:26 /other /a rw - cgroup2 cgroup rw\n31 23 0:26 / /b rw - cgroup2 cgroup rw\n";
        check(two, "0::/x\n", Some("/b/x"));
        check("", "0::/x\n", None);
        check(host, "", None);
        check(host, "garbage\n0\n::\n", None);
    }
}
