//! Writes the id maps of a fresh init, which waits for its first message meanwhile.
//!
//! Root writes any map. Everyone else may map the own id alone; for more, the set-user-id programs
//! `newuidmap` and `newgidmap` look up what was delegated. Whatever they say, the map
//! is read back.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    process::{Command, Stdio},
};

use nix::unistd::Pid;

use crate::{
    error::{Doing as _, Error, Result},
    host_program,
    ids::{IdMap, Line},
};

/// Bytes of a program's message that are passed on.
const MESSAGE: u64 = 4096;

/// Maps the ids of the process `pid`, whose user namespace is new.
pub(super) fn map_ids(pid: Pid, map: IdMap) -> Result<()> {
    let (users, groups) = (map.users(), map.groups());
    match map {
        IdMap::Range { .. } => {
            write(pid, "uid_map", &text(&users))?;
            write(pid, "gid_map", &text(&groups))
        }
        IdMap::Subordinate { .. } => {
            delegate("newuidmap", pid, &users)?;
            delegate("newgidmap", pid, &groups)?;
            check_ids(pid, map)
        }
        IdMap::Single { .. } => {
            // Without this the kernel takes no group map from an unprivileged user
            // (user_namespaces(7)): giving up a group must not give access.
            write(pid, "setgroups", "deny")?;
            write(pid, "uid_map", &text(&users))?;
            write(pid, "gid_map", &text(&groups))
        }
    }
}

/// As [`map_ids`], from a parent of the new namespace that has this very map: each id is itself.
pub(super) fn map_ids_below(pid: Pid, map: IdMap) -> Result<()> {
    write(pid, "uid_map", &text(&Line::unchanged(&map.users())))?;
    write(pid, "gid_map", &text(&Line::unchanged(&map.groups())))
}

/// Whether the ids of the process `pid` are mapped like this, as they are seen from here.
pub(super) fn check_ids(pid: Pid, map: IdMap) -> Result<()> {
    check(pid, "uid_map", &map.users())?;
    check(pid, "gid_map", &map.groups())
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn write(pid: Pid, name: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    let open = fs::OpenOptions::new().write(true).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .system(|| format!("map the container's ids: write `{name}`"))
}

/// Has a set-user-id program write the map.
#[expect(
    clippy::disallowed_methods,
    reason = "no one else may write a map of subordinate ids; this is the one place for it"
)]
fn delegate(name: &str, pid: Pid, lines: &[Line]) -> Result<()> {
    let doing = || format!("map the container's ids with `{name}`");
    let Some(path) = host_program::find(name) else {
        return Err(Error::system(doing(), io::Error::from_raw_os_error(libc::ENOENT)));
    };
    let mut command = Command::new(path);
    command.arg(pid.to_string()).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    for line in lines {
        command.args([line.inside, line.outside, line.count].map(|number| number.to_string()));
    }
    let mut child = command.stderr(Stdio::piped()).spawn().system(doing)?;
    let mut message = String::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(MESSAGE).read_to_string(&mut message).system(doing)?;
    }
    // The spawner has its children buried by the kernel, so there may be no status to wait for.
    drop(child.wait());
    if message.is_empty() { Ok(()) } else { Err(Error::system(doing(), message.trim())) }
}

/// Whether the map is what was asked for.
fn check(pid: Pid, name: &str, expected: &[Line]) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    let doing = || format!("map the container's ids: read back `{name}`");
    let found = fs::read_to_string(path).system(doing)?;
    if IdMap::is_written(expected, &found) {
        return Ok(());
    }
    let expected = text(expected);
    Err(Error::system(
        doing(),
        format!("it is `{}` instead of `{}`", found.trim(), expected.trim()),
    ))
}
