//! The `user[:group]` of an image or a step, looked up in the container's own files.
//!
//! `/etc/passwd` and `/etc/group` belong to the image and may be anything: they are read inside
//! the root, only when regular, without blocking, and only up to a bound.

use std::{
    fs::File,
    io::{self, Read as _},
};

use nix::{
    fcntl::{AT_FDCWD, OFlag},
    sys::stat::{SFlag, fstat},
};

use super::tree;

/// Largest `passwd` or `group` file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// Who a program runs as.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// User id inside.
    pub(super) uid: u32,
    /// Primary group id inside.
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
    /// Home directory; `/` where the user is not in `passwd`.
    pub(super) home: String,
}

/// The texts of a container's `passwd` and `group`.
#[derive(Debug)]
pub(super) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    pub(super) fn read() -> io::Result<Self> {
        Ok(Self { passwd: read("/etc/passwd")?, group: read("/etc/group")? })
    }

    /// Looks `name` up (`user`, `user:group`, by name or number; empty is root). The container has
    /// the ids from 0 to `highest`.
    pub(super) fn look_up(&self, name: &str, highest: u32) -> io::Result<Identity> {
        resolve(name, highest, &self.passwd, &self.group)
    }
}

/// The ids of `name` by the texts of `passwd` and `group`, for files that are to be its own.
pub(crate) fn ids_of(name: &str, passwd: &str, group: &str) -> io::Result<(u32, u32)> {
    let highest = u32::from(u16::MAX);
    resolve(name, highest, passwd, group).map(|identity| (identity.uid, identity.gid))
}

fn read(path: &str) -> io::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let root = nix::fcntl::openat(
        AT_FDCWD,
        "/",
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    let file = match tree::open_inside(&root, path, flags) {
        Ok(file) => file,
        Err(nix::errno::Errno::ENOENT) => return Ok(String::new()),
        Err(error) => return Err(error.into()),
    };
    if SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(invalid(format!("`{path}` is not a regular file")));
    }
    let mut bytes = Vec::new();
    File::from(file).take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(invalid(format!("`{path}` is larger than {LARGEST} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn resolve(name: &str, highest: u32, passwd: &str, group: &str) -> io::Result<Identity> {
    let (user, group_name) = match name.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (name, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() >= 6
            && (fields.first() == Some(&user)
                || (number.is_some() && fields.get(2).and_then(|id| id.parse().ok()) == number))
    });
    let field = |index: usize| entry.as_ref().and_then(|fields| fields.get(index)).copied();
    let uid = number.or_else(|| field(2)?.parse().ok()).ok_or_else(|| {
        invalid(format!("there is no user `{user}` in the image's `/etc/passwd`"))
    })?;
    let gid = match group_name {
        Some(wanted) if !wanted.is_empty() => find_group(wanted, group)?,
        _ => field(3).and_then(|id| id.parse().ok()).unwrap_or(0),
    };
    let login = field(0).unwrap_or(user);
    // An explicit group replaces the supplementary ones, as in other container engines.
    // With a single id there are no others, and the kernel refuses to set any.
    let none = group_name.is_some() || highest == 0;
    let groups = if none { Vec::new() } else { memberships(login, group) };
    for id in [uid, gid].iter().chain(&groups) {
        if *id > highest {
            let mut what = format!("id {id} is above {highest}, the highest in this container");
            if highest == 0 {
                what.push_str(
                    ": the user who runs cofferdam has no subordinate ids, see `cofferdam doctor`",
                );
            }
            return Err(invalid(what));
        }
    }
    let home = field(5).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Ok(Identity { uid, gid, groups, home })
}

fn find_group(wanted: &str, group: &str) -> io::Result<u32> {
    if let Ok(number) = wanted.parse() {
        return Ok(number);
    }
    group
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(wanted)).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
        .ok_or_else(|| invalid(format!("there is no group `{wanted}` in the image's `/etc/group`")))
}

fn memberships(login: &str, group: &str) -> Vec<u32> {
    /// The kernel's NGROUPS_MAX is larger; no honest image comes near this.
    const MOST: usize = 256;
    group
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let members = fields.get(3)?;
            members.split(',').any(|member| member == login).then(|| fields.get(2)?.parse().ok())?
        })
        .take(MOST)
        .collect()
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nbad line\n\
        ci:x:1000:1000:ci:/home/ci:/bin/sh\nodd:x:1001:100:odd:relative:/bin/sh\nhigh:x:70000:0::/:\n";
    const GROUP: &str =
        "root:x:0:\nwheel:x:10:root\nci:x:1000:\naudio:x:29:ci,odd\nvideo:x:44:ci\nbad\n";

    fn check(name: &str, expected: Result<(u32, u32, &[u32], &str), &str>) {
        check_with(65_535, name, expected);
    }

    fn check_with(highest: u32, name: &str, expected: Result<(u32, u32, &[u32], &str), &str>) {
        match (resolve(name, highest, PASSWD, GROUP), expected) {
            (Ok(got), Ok((uid, gid, groups, home))) => assert_eq!(
                got,
                Identity { uid, gid, groups: groups.to_vec(), home: home.to_owned() },
                "{name}"
            ),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (got, expected) => panic!("{name}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn users_are_found_as_other_engines_find_them() {
        check("", Ok((0, 0, &[10], "/root")));
        check("root", Ok((0, 0, &[10], "/root")));
        check("ci", Ok((1000, 1000, &[29, 44], "/home/ci")));
        check("1000", Ok((1000, 1000, &[29, 44], "/home/ci")));
        check("ci:audio", Ok((1000, 29, &[], "/home/ci")));
        check("4000", Ok((4000, 0, &[], "/")));
        check("4000:5000", Ok((4000, 5000, &[], "/")));
        check("odd", Ok((1001, 100, &[29], "/")));
        check("nobody-here", Err("no user `nobody-here`"));
        check("ci:none", Err("no group `none`"));
        check("high", Err("70000"));
        check("4294967295", Err("above 65535"));
    }

    #[test]
    fn a_container_with_a_single_id_has_root_alone() {
        check_with(0, "", Ok((0, 0, &[], "/root")));
        check_with(0, "0:0", Ok((0, 0, &[], "/root")));
        check_with(0, "ci", Err("no subordinate ids"));
        check_with(0, "0:5", Err("id 5 is above 0"));
        check_with(999, "ci", Err("above 999"));
    }
}
