//! Reads back what the container has become, and refuses to run it otherwise.
//!
//! Each setting was made with its own error check; this looks at the result with other eyes, so
//! that a setting that silently did nothing (an odd kernel, a container engine around us, a bug of
//! ours) ends as an error and not as a weak container.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::{
    message::{Begin, HiddenTree, NetworkNamespace, Setup},
    privilege::KEPT_MASK,
};
use crate::{
    error::{Doing as _, Error, Result},
    ids::{IdMap, Line},
    kernel_file, mount_table,
};

/// Checks capabilities, no_new_privs, the filter, id maps, namespaces and mounts.
pub(super) fn verify(begin: &Begin, setup: &Setup) -> Result<()> {
    let read = |path: &str| {
        kernel_file::read(path).system(|| format!("read `{path}` to verify the container"))
    };
    let status = read("/proc/self/status")?;
    check_status(&status).map_err(unsafe_container)?;
    for (map, expected) in
        [("/proc/self/uid_map", begin.ids.users()), ("/proc/self/gid_map", begin.ids.groups())]
    {
        let map = read(map)?;
        if begin.network == NetworkNamespace::SharedBelow {
            // What the ids are on the host does not show from here: the spawner has looked.
            check_lines(&map, &Line::unchanged(&expected))
        } else {
            check_id_map(&map, &expected)
        }
        .map_err(unsafe_container)?;
    }
    check_mounts(&read("/proc/self/mountinfo")?, &setup.hidden).map_err(unsafe_container)?;
    for name in NAMESPACES {
        let path = format!("/proc/self/ns/{name}");
        let inode =
            fs::metadata(&path).system(|| format!("read `{path}` to verify the container"))?.ino();
        if setup.host_namespaces.contains(&inode) {
            return Err(unsafe_container(format!("the {name} namespace is the host's")));
        }
    }
    Ok(())
}

/// The namespaces that every container has of its own, by their names in `/proc/PID/ns`.
pub(crate) const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

fn unsafe_container(what: String) -> Error {
    Error::system("verify the container, so nothing was run in it", what)
        .remedy("report this with the output of `cofferdam doctor`")
}

fn check_status(status: &str) -> std::result::Result<(), String> {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
            .ok_or_else(|| format!("`{name}` is missing in /proc/self/status"))
    };
    let expected = [
        ("CapInh", 0),
        ("CapPrm", KEPT_MASK),
        ("CapEff", KEPT_MASK),
        ("CapBnd", KEPT_MASK),
        ("CapAmb", 0),
    ];
    for (name, mask) in expected {
        let value = field(name)?;
        if u64::from_str_radix(value, 16) != Ok(mask) {
            return Err(format!("capabilities `{name}` are {value} instead of {mask:016x}"));
        }
    }
    for (name, expected) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        let value = field(name)?;
        if value != expected {
            return Err(format!("`{name}` is {value} instead of {expected}"));
        }
    }
    Ok(())
}

fn check_lines(map: &str, expected: &[Line]) -> std::result::Result<(), String> {
    if IdMap::is_written(expected, map) {
        Ok(())
    } else {
        Err(format!("the id map is `{}`, which was not asked for", map.trim()))
    }
}

/// The map must be the one that was asked for, and no id inside may be root of the host.
fn check_id_map(map: &str, expected: &[Line]) -> std::result::Result<(), String> {
    check_lines(map, expected)?;
    match expected.iter().find(|line| line.outside == 0) {
        Some(line) => Err(format!("id {} inside is root of the host", line.inside)),
        None if expected.is_empty() => Err("there is no id map".to_owned()),
        None => Ok(()),
    }
}

/// No mount may propagate, show what is to be hidden, or be made of it. Where it is mounted inside is
/// for the operator to say.
fn check_mounts(table: &str, hidden: &[HiddenTree]) -> std::result::Result<(), String> {
    for mount in mount_table::mounts(table) {
        let point = mount.point.display();
        let propagates = |tag: &&&str| tag.starts_with("shared:") || tag.starts_with("master:");
        if let Some(how) = mount.propagation.iter().find(propagates) {
            return Err(format!("the mount on `{point}` can propagate: {how}"));
        }
        // Options that are paths or lists of them, such as `lowerdir=a:b`.
        let values = mount.options.split(',').filter_map(|option| Some(option.split_once('=')?.1));
        let named = values.flat_map(|value| value.split(':')).map(Path::new);
        let named: Vec<&Path> = named.chain([mount.source.as_path()]).collect();
        for HiddenTree { path, tree } in hidden {
            let shown = tree.as_ref().is_some_and(|tree| mount.shown.is_within(tree));
            if shown || named.iter().any(|name| name.starts_with(path)) {
                let path = path.display();
                return Err(format!("the host's `{path}` shows in the mount on `{point}`"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount_table::Tree;

    fn status(inherited: &str, kept: &str, privileges: &str, filter: &str) -> String {
        format!(
            "Name:\tx\nCapInh:\t{inherited}\nCapPrm:\t{kept}\nCapEff:\t{kept}\nCapBnd:\t{kept}\n\
             CapAmb:\t0000000000000000\nNoNewPrivs:\t{privileges}\nSeccomp:\t{filter}\n"
        )
    }

    #[test]
    fn only_the_expected_status_passes() {
        let kept = format!("{KEPT_MASK:016x}");
        assert_eq!(kept, "00000000800005fb");
        assert_eq!(check_status(&status("0", &kept, "1", "2")), Ok(()));
        for wrong in [
            status("1", &kept, "1", "2"),
            status("0", "000001ffffffffff", "1", "2"),
            status("0", "0", "1", "2"),
            status("0", &kept, "0", "2"),
            status("0", &kept, "1", "0"),
            String::new(),
        ] {
            assert!(check_status(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_map_that_was_asked_for_passes() {
        let range = IdMap::Range { first: 0x7000_0000 };
        let single = IdMap::Single { user: 1001, group: 100 };
        let delegated = IdMap::Subordinate {
            user: 1001,
            group: 100,
            users: 200_000,
            groups: 300_000,
            count: 9,
        };
        let check = |map: IdMap, text: &str, passes: bool| {
            assert_eq!(check_id_map(text, &map.users()).is_ok(), passes, "{map:?}: {text}");
        };
        check(range, "         0 1879048192      65536\n", true);
        check(single, "         0       1001          1\n", true);
        check(
            delegated,
            "         0       1001          1\n         1     200000          9\n",
            true,
        );
        assert!(check_id_map("0 100 1\n1 300000 9\n", &delegated.groups()).is_ok());
        for wrong in ["", "0 0 1", "0 0 4294967295", "1000 1000 1", "0 x 1", "0 1001 1 1"] {
            for map in [range, single, delegated] {
                check(map, wrong, false);
            }
        }
        check(single, "0 1001 2", false);
        check(delegated, "0 1001 1", false);
        // Asked for by mistake, and refused all the same.
        check(IdMap::Single { user: 0, group: 0 }, "0 0 1", false);
        assert!(check_id_map("", &[]).is_err());
    }

    #[test]
    fn propagating_mounts_and_host_trees_are_refused() {
        let hidden = [
            HiddenTree {
                path: "/var/lib/cofferdam".into(),
                tree: Some(Tree { device: "8:1".to_owned(), root: "/lib/cofferdam".into() }),
            },
            HiddenTree { path: "/p".into(), tree: None },
        ];
        let check = |line: &str, passes: bool| {
            assert_eq!(check_mounts(line, &hidden).is_ok(), passes, "{line}");
        };
        check("1 0 0:1 / / rw - overlay overlay rw,lowerdir=l/0:l/1,upperdir=up/root", true);
        check("1 0 0:1 / / rw shared:1 - overlay overlay rw", false);
        check("1 0 0:1 / / rw master:1 - overlay overlay rw", false);
        // Its own name inside says nothing of what it shows.
        check("2 1 0:2 / /var/lib/cofferdam rw - tmpfs tmpfs rw", true);
        check("2 1 8:1 /lib /x rw - ext4 /dev/sda1 rw", true);
        check("2 1 8:1 /lib/cofferdamage /x rw - ext4 /dev/sda1 rw", true);
        check("2 1 8:2 /lib/cofferdam /x rw - ext4 /dev/sda2 rw", true);
        check("2 1 8:1 /lib/cofferdam /x rw - ext4 /dev/sda1 rw", false);
        check("2 1 8:1 /lib/cofferdam/images /x rw - ext4 /dev/sda1 rw", false);
        check("2 1 0:3 / /x rw - overlay overlay rw,lowerdir=a:/var/lib/cofferdam/l", false);
        check("2 1 0:3 / /x rw - overlay overlay rw,lowerdir=/p", false);
        check("2 1 0:3 / /x rw - overlay overlay rw,lowerdir=/pq", true);
        check("2 1 0:3 / /x rw - 9p /p/q rw", false);
    }
}
