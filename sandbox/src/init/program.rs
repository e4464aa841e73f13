//! From a forked child of the init to the user's program.
//!
//! The child reads what to run from a memory file that the init never opens, prepares itself, and
//! executes; a failure goes back over a pipe that closes by itself when the execution succeeds.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{Mode, fchmod, umask},
    unistd::{
        Gid, Uid, UnlinkatFlags, fchdir, fchown, setgroups, setresgid, setresuid, setsid, unlinkat,
    },
};

use super::{
    Inside,
    message::{Become, Failure, Program, ProgramFile},
    rootfs::CONTROL,
    tree,
    user::{Accounts, Identity},
};
use crate::{
    channel::{self, Channel},
    error::{Doing as _, Error, Result},
    sys,
};

/// The terminal or the three streams of a program.
#[derive(Debug)]
enum Streams {
    /// Standard input, output and error.
    Plain([OwnedFd; 3]),
    /// The slave side of a pseudo-terminal.
    Terminal(OwnedFd),
}

/// Waits on `channel` for what to run, and becomes it; what fails on the way is written to `report`.
pub(super) fn become_program(channel: &Channel, inside: &Inside, report: OwnedFd) -> ! {
    let Err(error) = receive_and_execute(channel, inside);
    let failure = Failure::from_error(&error);
    if let Ok(bytes) = postcard::to_allocvec(&failure) {
        drop(File::from(report).write_all(&bytes));
    }
    sys::process::exit_now(127)
}

fn receive_and_execute(channel: &Channel, inside: &Inside) -> Result<std::convert::Infallible> {
    setsid().system(|| "start a session")?;
    // Nobody waits for this child yet, and nothing that could change them runs before it is told what
    // to run.
    let accounts = Accounts::read();
    let doing = || "wait for what to run";
    let received = channel.receive::<Become>().system(doing)?;
    let (Become { terminal }, descriptors) =
        received.ok_or_else(|| Error::system(doing(), "the init has ended"))?;
    // Both ends belong to the container's network namespace, and would show in its list of sockets:
    // the init's is closed by now, or nearly, and this one by the execution.
    if channel.receive::<Become>().system(doing)?.is_some() {
        return Err(Error::system(doing(), "it came twice"));
    }
    let mut descriptors = descriptors.into_iter();
    let mut next =
        || descriptors.next().ok_or_else(|| Error::system(doing(), "nothing came along"));
    let program = next()?;
    let streams = if terminal {
        Streams::Terminal(next()?)
    } else {
        Streams::Plain([next()?, next()?, next()?])
    };
    for group in descriptors {
        File::from(group).write_all(b"0").system(|| "join the step's control group")?;
    }
    attach_streams(streams).system(|| "attach the standard streams")?;
    let program: Program = channel::read_memory_file(program)
        .and_then(|bytes| postcard::from_bytes(&bytes).map_err(io::Error::other))
        .system(|| "read what to run")?;
    umask(Mode::from_bits_truncate(0o022));
    let identity = accounts
        .and_then(|accounts| accounts.look_up(&program.user, inside.highest_id))
        .pipeline(|| format!("look up the user `{}`", program.user))?;
    for file in &program.files {
        write_file(file, &identity, inside).pipeline(|| format!("write `{}`", file.path))?;
    }
    enter_workdir(&program.workdir, &identity)
        .pipeline(|| format!("enter the working directory `{}`", program.workdir))?;
    assume(&identity, inside.highest_id).system(|| "change to the user")?;
    execute(program, &identity)
}

fn attach_streams(streams: Streams) -> io::Result<()> {
    match streams {
        Streams::Plain(plain) => {
            for (number, stream) in (0..).zip(plain) {
                sys::process::duplicate_to(stream, number)?;
            }
        }
        Streams::Terminal(terminal) => {
            sys::terminal::make_controlling(&terminal)?;
            for number in 0..3 {
                sys::process::duplicate_to(&terminal, number)?;
            }
        }
    }
    sys::process::close_on_exec_from(3)
}

/// Writes a file, in memory where its place is one of the steps' own.
fn write_file(file: &ProgramFile, identity: &Identity, inside: &Inside) -> io::Result<()> {
    let (parent, name) = tree::split(&file.path)?;
    let parent = match own_place(parent) {
        // By descriptor: a step that is root can rename `/run`, and what is made at its path then
        // would be on disk, in a layer, and stay when the step has ended.
        Some((place, below)) => {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            let place = sys::beneath::open_beneath(inside.control.as_fd(), place, flags)?;
            tree::directory(place.as_fd(), below)?
        }
        None => {
            let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            tree::directory(root.as_fd(), parent)?
        }
    };
    let how = OpenHow::new()
        .flags(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(0o600))
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut target = File::from(openat2(&parent, name, how)?);
    target.write_all(&file.content)?;
    fchown(&target, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid)))?;
    fchmod(&target, Mode::from_bits_truncate(file.mode))?;
    Ok(())
}

/// The directory of steps' own files that the absolute `path` is in, and what of it is below.
fn own_place(path: &str) -> Option<(&'static str, &str)> {
    CONTROL.iter().find_map(|(name, target)| {
        let below = path.strip_prefix(target)?;
        (below.is_empty() || below.starts_with('/')).then_some((*name, below))
    })
}

/// Enters the working directory, and checks that it is where it should be: inside.
fn enter_workdir(path: &str, identity: &Identity) -> io::Result<()> {
    let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let directory = match tree::open_inside(&root, path, flags) {
        Err(Errno::ENOENT) => {
            tree::directory(root.as_fd(), path)?;
            let made =
                File::from(tree::open_inside(&root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?);
            fchown(&made, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid)))?;
            OwnedFd::from(made)
        }
        other => other?,
    };
    fchdir(&directory)?;
    if nix::unistd::getcwd()?.starts_with("/") {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it lies outside of the container"))
    }
}

/// Changes to the user; only root keeps capabilities.
fn assume(identity: &Identity, highest_id: u32) -> io::Result<()> {
    if identity.uid != 0 {
        // The bounding set goes first, while there is still a capability to change it with.
        sys::process::limit_capabilities(0)?;
    }
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    if highest_id > 0 {
        // In a namespace with a single mapped id, groups cannot be changed at all.
        setgroups(&groups)?;
    }
    let (user, group) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    if identity.uid != 0 {
        // Who has the same id, but not these capabilities, may not trace this process before it is
        // untraceable again (ptrace(2)).
        sys::process::keep_capabilities()?;
    }
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // Changing ids makes it traceable on a host where `fs.suid_dumpable` is 1, and it still has what
    // belongs to the init; `execve` ends that.
    sys::process::set_not_dumpable()?;
    if identity.uid != 0 {
        sys::process::set_capabilities(0)?;
    }
    Ok(())
}

fn execute(program: Program, identity: &Identity) -> Result<std::convert::Infallible> {
    let name = program.argv.first().cloned().unwrap_or_default();
    let strings = |items: Vec<String>, what: &str| -> Result<Vec<CString>> {
        items
            .into_iter()
            .map(|item| {
                CString::new(item).pipeline(|| format!("pass {what} that contains a NUL byte"))
            })
            .collect()
    };
    let mut env = program.env;
    if !env.iter().any(|(key, _)| key == "HOME") {
        env.push(("HOME".to_owned(), identity.home.clone()));
    }
    let path = env
        .iter()
        .find_map(|(key, value)| (key == "PATH").then(|| value.clone()))
        .unwrap_or_default();
    let argv = strings(program.argv, "an argument")?;
    let env: Vec<String> = env.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let env = strings(env, "a variable")?;
    let mut error = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates(&name, &path) {
        let candidate = CString::new(Path::new(&candidate).as_os_str().as_bytes())
            .pipeline(|| "start a program whose name contains a NUL byte")?;
        let failure = sys::process::execve(&candidate, &argv, &env);
        // As execvp(3): go on looking, but remember that something was there.
        let missing = matches!(failure.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR));
        if !missing {
            error = failure;
            if error.raw_os_error() != Some(libc::EACCES) {
                break;
            }
        }
    }
    Err(Error::pipeline(format!("start `{name}`"), error))
}

/// Where `name` may be: itself when it has a slash, or in each directory of `path`.
fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.is_empty() || name.contains('/') {
        return vec![name.to_owned()];
    }
    path.split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| format!("{}/{name}", directory.trim_end_matches('/')))
        .collect()
}

/// A pseudo-terminal of the container's own `devpts`: master and slave.
pub(super) fn open_terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = tree::open_inside(&root, "/dev/pts/ptmx", flags)?;
    let slave = sys::terminal::unlock_and_open_peer(&master)?;
    Ok((master, slave))
}

#[cfg(test)]
mod tests {
    use super::{candidates, own_place};

    #[test]
    fn own_places_are_told_by_whole_parts() {
        for (path, expected) in [
            ("/run/secrets", Some(("secrets", ""))),
            ("/run/cofferdam/3/x", Some(("cofferdam", "/3/x"))),
            ("/run/secrets-of-mine", None),
            ("/run", None),
        ] {
            assert_eq!(own_place(path), expected, "{path}");
        }
    }

    #[test]
    fn programs_are_looked_up_as_execvp_does() {
        let check = |name: &str, path: &str, expected: &[&str]| {
            assert_eq!(candidates(name, path), expected, "{name} in {path}");
        };
        check("ls", "/usr/bin:/bin", &["/usr/bin/ls", "/bin/ls"]);
        check("ls", "/usr/bin/::relative:/bin", &["/usr/bin/ls", "/bin/ls"]);
        check("./ls", "/bin", &["./ls"]);
        check("", "/bin", &[""]);
        check("ls", "", &[]);
    }
}
