//! Killing all processes of a group and removing it, whatever they do against it.
//!
//! `cgroup.kill` does it in one write. Without it new processes are forbidden first (`pids.max` of
//! 0), so that after one pass over the list nothing is left that could fork; the freezer of v1 is
//! not needed, and a frozen process would not die.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use super::file;
use crate::{
    error::{Doing as _, Error, Result},
    sys,
};

/// How long processes may take to die and groups to become empty.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks: short at first, because most processes die at once.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Processes that are pinned by descriptors at once; a caller may have 1024 at all.
const MOST_PINNED: usize = 128;
/// Our own groups are three levels deep; nothing else is followed.
const DEEPEST: usize = 4;

/// Kills everything in the groups at these directories, which belong together, and removes them
/// with the groups below. Directories that do not exist are passed over.
///
/// # Errors
/// When a directory is no control group, when a process does not die within ten seconds, or when
/// a group cannot be removed.
pub fn remove_groups(directories: &[PathBuf]) -> Result<()> {
    let there: Vec<PathBuf> = directories.iter().filter(|path| path.exists()).cloned().collect();
    for directory in &there {
        let kind = statfs(directory)
            .map_err(io::Error::from)
            .system(|| format!("look at `{}`", directory.display()))?
            .filesystem_type();
        if kind != CGROUP_SUPER_MAGIC && kind != CGROUP2_SUPER_MAGIC {
            return Err(Error::system(
                format!("remove the control group `{}`", directory.display()),
                "it is no directory of a cgroup file system",
            ));
        }
    }
    remove(&there)
}

/// As [`remove_groups`], for directories that were made here and are known to be groups.
pub(super) fn remove(there: &[PathBuf]) -> Result<()> {
    // Nearly always everything has ended before, and there is nothing to kill or to wait for.
    let now = Instant::now();
    if there.iter().all(|directory| remove_below(directory, 0, now).is_ok()) {
        return Ok(());
    }
    let deadline = now + PATIENCE;
    empty(there, deadline)?;
    // One that stays is no reason to leave the others.
    let removed: Vec<Result<()>> =
        there.iter().map(|directory| remove_below(directory, 0, deadline)).collect();
    removed.into_iter().collect()
}

/// Kills everything in the groups at these directories, which belong together, until nothing of it
/// is there any more.
///
/// # Errors
/// When a process does not die within ten seconds.
pub(super) fn end(directories: &[PathBuf]) -> Result<()> {
    empty(directories, Instant::now() + PATIENCE)
}

fn empty(directories: &[PathBuf], deadline: Instant) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        kill(directories)?;
        let mut left = BTreeSet::new();
        for directory in directories {
            left.extend(processes_below(directory)?);
        }
        if left.is_empty() {
            return Ok(());
        }
        wait(&mut pause, deadline, || {
            format!("processes {left:?} do not die; perhaps a file system does not answer them")
        })
        .system(|| "empty a control group")?;
    }
}

/// Removes one group without children, waiting a little for its last process to be gone.
pub(super) fn remove_directory(directory: &Path) -> Result<()> {
    remove_below(directory, 0, Instant::now() + PATIENCE)
}

fn remove_below(directory: &Path, depth: usize, deadline: Instant) -> Result<()> {
    let doing = || format!("remove the control group `{}`", directory.display());
    let mut pause = FIRST_PAUSE;
    loop {
        match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Children, or a process that is still on its way out.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error).system(doing),
        }
        let children = match file::children(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            children => children.system(doing)?,
        };
        if depth >= DEEPEST && !children.is_empty() {
            return Err(Error::system(doing(), "it has groups below it that are not ours"));
        }
        if children.is_empty() {
            wait(&mut pause, deadline, || "the kernel says it is busy".to_owned()).system(doing)?;
        }
        for child in children {
            remove_below(&child, depth + 1, deadline)?;
        }
    }
}

/// Waits before the next look, or gives up with the reason.
fn wait(
    pause: &mut Duration,
    deadline: Instant,
    reason: impl FnOnce() -> String,
) -> std::result::Result<(), String> {
    if Instant::now() >= deadline {
        return Err(reason());
    }
    thread::sleep(*pause);
    *pause = (*pause * 2).min(LONGEST_PAUSE);
    Ok(())
}

/// Signals every process in the groups at these directories, which belong together.
pub(super) fn kill(directories: &[PathBuf]) -> Result<()> {
    let mut listed = Vec::new();
    for directory in directories {
        let at_once = directory.join("cgroup.kill");
        match write_present(&at_once, "1")? {
            Write::Done => {}
            Write::NoSuchFile => listed.push(directory),
        }
    }
    for directory in &listed {
        write_present(&directory.join("pids.max"), "0")?;
    }
    for directory in listed {
        kill_listed(directory)?;
    }
    Ok(())
}

enum Write {
    Done,
    NoSuchFile,
}

fn write_present(path: &Path, value: &str) -> Result<Write> {
    match file::try_write(path, value) {
        Ok(()) => Ok(Write::Done),
        // ENODEV: the group is being removed while the file is open.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
            Ok(Write::NoSuchFile)
        }
        Err(error) => Err(error).system(|| format!("write `{value}` to `{}`", path.display())),
    }
}

/// Signals what is listed until a look shows no one new: a fork that was under way when new
/// processes were forbidden still shows up a moment later.
fn kill_listed(directory: &Path) -> Result<()> {
    let mut signalled = BTreeSet::new();
    loop {
        let mut listed = processes_below(directory)?;
        listed.retain(|process| !signalled.contains(process));
        if listed.is_empty() {
            return Ok(());
        }
        for some in listed.chunks(MOST_PINNED) {
            kill_pinned(directory, some)?;
        }
        signalled.extend(listed);
    }
}

/// A number read from the list may have been given to a stranger since: so each process is pinned by
/// a descriptor, and signalled only when its number is still on the list after that.
fn kill_pinned(directory: &Path, processes: &[i32]) -> Result<()> {
    let mut pinned = Vec::with_capacity(processes.len());
    for process in processes {
        match sys::process::pidfd_open(*process) {
            Ok(descriptor) => pinned.push((*process, descriptor)),
            // It has ended by itself.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(error).system(|| format!("pin process {process}")),
        }
    }
    let members: BTreeSet<i32> = processes_below(directory)?.into_iter().collect();
    for (process, descriptor) in pinned {
        if members.contains(&process) {
            match sys::process::pidfd_send_signal(&descriptor, libc::SIGKILL) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                result => result.system(|| format!("kill process {process}"))?,
            }
        }
    }
    Ok(())
}

/// The processes in a group and in those below it; none where it is gone.
pub(crate) fn processes_below(directory: &Path) -> Result<Vec<i32>> {
    let mut processes = Vec::new();
    let mut pending = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = pending.pop() {
        match file::processes(&directory) {
            Ok(listed) => processes.extend(listed),
            Err(_) if !directory.exists() => continue,
            Err(error) => return Err(error),
        }
        if depth < DEEPEST {
            let children = file::children(&directory).unwrap_or_default();
            pending.extend(children.into_iter().map(|child| (child, depth + 1)));
        }
    }
    Ok(processes)
}
