//! Subordinate ids: what `/etc/subuid` and `/etc/subgid` give an unprivileged user (subuid(5)).
//!
//! Only the two files are read, as `newuidmap(1)` does unless nsswitch.conf(5) names another
//! source for `subid`; a user whose ids come from there has a single id here.

use std::{fs::File, io::Read as _, path::Path};

use nix::unistd::{Gid, Uid, User};

use super::{IdMap, range};
use crate::{host_program, kernel_file};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// The map of a user's containers: with subordinate ids where the user has them, this user namespace
/// does, and the programs that write such a map are there, otherwise with the user's own id alone.
pub(crate) fn map_of(user: Uid, group: Gid) -> IdMap {
    let (user, group) = (user.as_raw(), group.as_raw());
    let programs = ["newuidmap", "newgidmap"].iter().all(|name| host_program::find(name).is_some());
    match (found(Path::new("/etc/subuid"), user), found(Path::new("/etc/subgid"), user)) {
        (Some(users), Some(groups))
            if programs && is_here(users, "uid_map") && is_here(groups, "gid_map") =>
        {
            IdMap::Subordinate {
                user,
                group,
                users: users.first,
                groups: groups.first,
                count: users.count.min(groups.count),
            }
        }
        _ => IdMap::Single { user, group },
    }
}

/// Whether these ids exist in this user namespace. In one that a user has made, as a container engine
/// without root does, the files may speak of ids of the host that are not there.
fn is_here(ids: Subordinate, file: &str) -> bool {
    kernel_file::read(format!("/proc/self/{file}")).is_ok_and(|map| has(&map, ids))
}

fn has(map: &str, ids: Subordinate) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        let [inside, _, count] = *numbers.as_slice() else { return false };
        let (first, end) = (u64::from(ids.first), u64::from(ids.first) + u64::from(ids.count));
        inside <= first && end <= inside.saturating_add(count)
    })
}

/// Ids that belong to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subordinate {
    /// The first of them.
    pub(crate) first: u32,
    /// How many, at most as many as a container takes besides its root.
    pub(crate) count: u32,
}

/// The largest range that the file at `path` gives to the user `uid`.
pub(crate) fn found(path: &Path, uid: u32) -> Option<Subordinate> {
    let mut text = String::new();
    File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    largest(&text, uid, name.as_deref())
}

fn largest(text: &str, uid: u32, name: Option<&str>) -> Option<Subordinate> {
    let mut best: Option<Subordinate> = None;
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let (Some(owner), Some(first), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>()) else { continue };
        let owned = Some(owner) == name || owner.parse() == Ok(uid);
        // Root's id in such a list, or a range past the last id, is a mistake and no one's gain.
        if !owned || first == 0 || count == 0 || first.checked_add(count).is_none() {
            continue;
        }
        let count = count.min(range::SIZE - 1);
        if best.is_none_or(|best| best.count < count) {
            best = Some(Subordinate { first, count });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_this_namespace_can_be_given() {
        let check = |map: &str, first: u32, count: u32, expected: bool| {
            assert_eq!(has(map, Subordinate { first, count }), expected, "{map} {first} {count}");
        };
        let whole = "         0          0 4294967295\n";
        check(whole, 100_000, 65_535, true);
        check(whole, u32::MAX - 1, 2, false);
        let user = "0 1001 1\n1 100000 65536\n";
        check(user, 1, 65_536, true);
        check(user, 1, 65_537, false);
        check(user, 100_000, 10, false);
        check("1001 1001 1\n", 100_000, 65_535, false);
        check("", 1, 1, false);
        check("0 x 1", 0, 1, false);
    }

    #[test]
    fn the_largest_range_of_the_user_counts() {
        let check = |text: &str, expected: Option<(u32, u32)>| {
            let expected = expected.map(|(first, count)| Subordinate { first, count });
            assert_eq!(largest(text, 1001, Some("ci")), expected, "{text}");
        };
        check("ci:200000:65536\n", Some((200_000, 65_535)));
        check("1001:300000:1000\n", Some((300_000, 1000)));
        check("ci:1:10\nother:9:99999\nci:100000:500\n1001:900:20\n", Some((100_000, 500)));
        check("# comment\n\nci:100000:65536:extra\nci:x:1\nci\n", None);
        check("ci:0:65536\nci:100000:0\nci:4294967295:2\nroot:100000:65536\n", None);
        check("", None);
    }
}
