//! Reads back what the container has become, and refuses to run it otherwise.
//!
//! Each setting was made with its own error check; this looks at the result with other eyes, so
//! that a setting that silently did nothing (an odd kernel, a container engine around us, a bug of
//! ours) ends as an error and not as a weak container.

use std::{fs, os::unix::fs::MetadataExt as _};

use super::{
    message::{Begin, NetworkNamespace, Setup},
    privilege::KEPT_MASK,
};
use crate::{
    error::{Doing as _, Error, Result},
    ids::{IdMap, Line},
    kernel_file,
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
    check_mounts(&read("/proc/self/mountinfo")?, &setup.hidden_paths).map_err(unsafe_container)?;
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

fn check_mounts(mountinfo: &str, hidden: &[String]) -> std::result::Result<(), String> {
    for line in mountinfo.lines() {
        if line.split(' ').any(|field| field.starts_with("shared:") || field.starts_with("master:"))
        {
            return Err(format!("a mount can propagate: `{line}`"));
        }
        if let Some(path) = hidden.iter().find(|path| line.contains(path.as_str())) {
            return Err(format!("the host's path `{path}` shows in the mount table"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn propagating_mounts_and_host_paths_are_refused() {
        let hidden = ["/var/lib/cofferdam".to_owned()];
        assert_eq!(
            check_mounts("1 0 0:1 / / rw - overlay overlay rw,lowerdir=l/0\n", &hidden),
            Ok(())
        );
        for wrong in [
            "1 0 0:1 / / rw shared:3 - tmpfs x rw",
            "1 0 0:1 / / rw master:3 - tmpfs x rw",
            "1 0 0:1 / / rw - overlay overlay rw,lowerdir=/var/lib/cofferdam/layers",
        ] {
            assert!(check_mounts(wrong, &hidden).is_err(), "{wrong}");
        }
    }
}
