//! The room that all runs of a state directory share: who holds how much of it, and whose turn it is.
//!
//! Each run has a file in `shares/`, locked for as long as it lives, in which it says what it holds
//! and whether it waits. The kernel gives the lock back when the process ends in any way, so nothing
//! has to be undone: a file that can be locked is of a run that has gone, and holds nothing. Nobody
//! decides but under the lock of `shares/lock`, which is held for the time of a decision and never
//! waited for: a run that is stopped in the middle of one delays others and hangs none of them.
//!
//! Who waits goes before others that hold more of the machine (by that resource of which they hold
//! most), then before those that have waited for less long; what becomes free is for it, until its
//! job fits. So a run of many jobs does not keep out one of few, nor many small jobs a large one.
//!
//! Each decision has a number, kept in `shares/lock`. By them a run knows who has had a look since
//! room was given back: who has, and still waits, and nobody runs anything, cannot go on before
//! others do.

use std::{
    cmp::Reverse,
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use cofferdam_jobs::state::{Action, Capacity, Demand, Elsewhere, Event, Resource, Run};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// How soon a decision is tried again that someone else was in the middle of.
const BUSY: Duration = Duration::from_millis(5);
/// How soon a run that waits looks again by itself: the lock of one that was killed is given back a
/// moment after its file is closed.
const LOOK: Duration = Duration::from_secs(1);
/// Who waits and has not looked for so long is stopped, and nobody waits for its turn.
const ABSENT: Duration = Duration::from_secs(5);
/// The longest file of a run that is read.
const SHARE_MAX: u64 = 4096;

/// What a run says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Share {
    run: String,
    jobs: u32,
    millicpus: u64,
    memory: u64,
    disk: u64,
    /// The number of the decision since which it waits.
    waits_since: Option<u64>,
    /// The number of its last decision.
    decided: u64,
    /// The number of the decision at which what it holds last changed.
    changed: u64,
    /// When it last decided, in milliseconds since 1970.
    at_ms: u64,
}

impl Share {
    fn used(&self) -> Demand {
        let Self { jobs, millicpus, memory, disk, .. } = *self;
        Demand { jobs, millicpus, memory, disk }
    }

    fn hold(&mut self, used: &Demand) {
        let Demand { jobs, millicpus, memory, disk } = *used;
        (self.jobs, self.millicpus, self.memory, self.disk) = (jobs, millicpus, memory, disk);
    }

    /// Smaller goes first: millionths of the machine, how long it waits, its id.
    fn order(&self, machine: &Capacity) -> (u64, u64, &str) {
        let used = self.used();
        let part = |resource: &Resource| {
            let most = u128::from(resource.most(machine)?);
            let part = u128::from(used.amount(*resource)) * 1_000_000;
            Some(u64::try_from(part.checked_div(most)?).unwrap_or(u64::MAX))
        };
        let most = Resource::ALL.iter().filter_map(part).max().unwrap_or_default();
        (most, self.waits_since.unwrap_or(u64::MAX), &self.run)
    }

    fn is_absent(&self, now: u64) -> bool {
        now.saturating_sub(self.at_ms) > u64::try_from(ABSENT.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What one run has of the room.
#[derive(Debug)]
pub(in crate::execute) struct Room {
    machine: Capacity,
    directory: PathBuf,
    lock: File,
    path: PathBuf,
    file: File,
    share: Share,
    /// What is written in the file.
    written: Share,
    /// Others have said something, or have gone.
    changes: Arc<Notify>,
    /// When to look again, where anything is waited for.
    again: Option<Duration>,
}

impl Room {
    /// Takes part in what all runs of the state directory share; nothing to share is [`None`].
    pub(in crate::execute) fn enter(
        state: &Path,
        run: &str,
        machine: Capacity,
    ) -> io::Result<Option<Self>> {
        if !machine.is_bounded() {
            return Ok(None);
        }
        let directory = state.join("shares");
        fs::create_dir_all(&directory)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        let of_interest =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE;
        inotify.add_watch(&directory, of_interest)?;
        let lock = open(&directory.join("lock"))?;
        let path = directory.join(format!("{run}.json"));
        // Found by others only when it is locked: without a name of theirs until then.
        let unnamed = directory.join(format!("{run}.new"));
        let file = open(&unnamed)?;
        file.lock()?;
        fs::rename(&unnamed, &path)?;
        let share = Share { run: run.to_owned(), ..Share::default() };
        let changes = Arc::new(Notify::new());
        let (changed, own) = (Arc::clone(&changes), format!("{run}.json"));
        // It ends with the process.
        std::thread::Builder::new()
            .name("shares".to_owned())
            .spawn(move || tell_changes(&inotify, &own, &changed))?;
        let (written, again) = (Share::default(), None);
        Ok(Some(Self { machine, directory, lock, path, file, share, written, changes, again }))
    }

    /// Lets the run start what there is room for beside the others.
    pub(in crate::execute) fn decide(&mut self, run: &mut Run) -> io::Result<Vec<Action>> {
        let says = *run.used() == self.share.used() && self.share.waits_since.is_none();
        if says && !run.wants_room() {
            self.again = None;
            return Ok(Vec::new());
        }
        match self.lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                self.again = Some(BUSY);
                return Ok(Vec::new());
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let decided = self.decide_alone(run);
        self.lock.unlock()?;
        decided
    }

    fn decide_alone(&mut self, run: &mut Run) -> io::Result<Vec<Action>> {
        let number = self.next_number()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.share.at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        // What it has given back counts for who comes next.
        self.hold(run, number);
        let others = self.others()?;
        let elsewhere = elsewhere(&self.share, &others, &self.machine);
        let before = *run.used();
        let actions = run.handle(Event::Room(elsewhere));
        self.hold(run, number);
        self.share.decided = number;
        self.share.waits_since = match (run.is_crowded(), self.share.waits_since) {
            (false, _) => None,
            (true, Some(since)) if *run.used() == before => Some(since),
            (true, _) => Some(number),
        };
        self.again = run.is_crowded().then_some(LOOK);
        self.write()?;
        Ok(actions)
    }

    fn hold(&mut self, run: &Run, number: u64) {
        if self.share.used() != *run.used() {
            self.share.hold(run.used());
            self.share.changed = number;
        }
    }

    fn next_number(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        let number = match self.lock.read_exact_at(&mut bytes, 0) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error),
        };
        let next = number.saturating_add(1);
        self.lock.write_all_at(&next.to_le_bytes(), 0)?;
        Ok(next)
    }

    /// The shares of all other runs that live. Those of runs that have gone are removed.
    fn others(&self) -> io::Result<Vec<Share>> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path == self.path || path.extension().is_none_or(|it| it != "json") {
                continue;
            }
            let file = match open_existing(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match file.try_lock_shared() {
                Ok(()) => {
                    match fs::remove_file(&path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => continue,
                    };
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let mut text = String::new();
            file.take(SHARE_MAX).read_to_string(&mut text)?;
            // One that has not yet said anything holds nothing.
            others.extend(serde_json::from_str::<Share>(&text).ok());
        }
        Ok(others)
    }

    fn write(&mut self) -> io::Result<()> {
        if self.share != self.written {
            let text = serde_json::to_string(&self.share).map_err(io::Error::other)?;
            self.file.set_len(0)?;
            self.file.write_all_at(text.as_bytes(), 0)?;
            self.written = self.share.clone();
        }
        Ok(())
    }

    /// Whether the last request to decide was granted.
    pub(in crate::execute) fn has_decided(&self) -> bool {
        self.again != Some(BUSY)
    }

    /// Returns when it is worth while to decide again; never, where nothing is waited for.
    pub(in crate::execute) async fn changed(&mut self) {
        let Some(again) = self.again else { return std::future::pending().await };
        tokio::select! {
            () = self.changes.notified() => {}
            () = tokio::time::sleep(again) => {}
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Only to keep the directory small; without its lock it counts for nothing.
        fs::remove_file(&self.path).ok();
    }
}

/// Tells of what others do in the directory, for ever.
fn tell_changes(inotify: &Inotify, own: &str, changed: &Notify) {
    while let Ok(events) = inotify.read_events() {
        let theirs = |name: &OsString| name != own && name != "lock";
        if events.iter().filter_map(|event| event.name.as_ref()).any(theirs) {
            changed.notify_one();
        }
    }
}

/// What is elsewhere for the run that says `own`.
fn elsewhere(own: &Share, others: &[Share], machine: &Capacity) -> Elsewhere {
    let mut elsewhere = Elsewhere::default();
    for other in others {
        let used = other.used();
        elsewhere.used.add(&used);
        if used != Demand::default() {
            elsewhere.runs.push(other.run.clone());
        }
    }
    elsewhere.runs.sort();
    let idle = own.jobs == 0 && elsewhere.used.jobs == 0;
    let waiting = |share: &&Share| share.waits_since.is_some() && !share.is_absent(own.at_ms);
    // It has looked since anything changed, and no more is going to change.
    let in_vain = |share: &Share| {
        let all = others.iter().chain([own]).filter(|other| other.run != share.run);
        idle && all.map(|other| other.changed).max().unwrap_or_default() < share.decided
    };
    let first = others
        .iter()
        .filter(waiting)
        .filter(|share| !in_vain(share))
        .min_by_key(|share| share.order(machine))
        .filter(|share| share.order(machine) < own.order(machine));
    elsewhere.first = first.map(|share| share.run.clone());
    let holders = || others.iter().filter(|share| share.used() != Demand::default());
    let last = others.iter().filter(waiting).map(|share| Reverse(share.order(machine))).min();
    elsewhere.stuck = own.waits_since.is_some()
        && holders().next().is_some()
        && holders().all(|share| share.waits_since.is_some() && in_vain(share))
        && last.is_some_and(|Reverse(last)| last < own.order(machine));
    elsewhere
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(nix::libc::O_NOFOLLOW).open(path)
}

fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Capacity =
        Capacity { jobs: None, millicpus: Some(4000), memory: Some(1 << 30), disk: None };

    fn share(run: &str, millicpus: u64, waits_since: Option<u64>, decided: u64) -> Share {
        let jobs = u32::from(millicpus > 0);
        let run = run.to_owned();
        Share { run, jobs, millicpus, waits_since, decided, ..Share::default() }
    }

    #[test]
    fn who_holds_less_goes_first_then_who_waits_for_longer() {
        let check = |own: Share, others: &[Share], first: Option<&str>| {
            assert_eq!(elsewhere(&own, others, &MACHINE).first.as_deref(), first);
        };
        let own = || share("m", 1000, Some(7), 9);
        check(own(), &[], None);
        check(own(), &[share("a", 2000, Some(1), 9)], None);
        check(own(), &[share("a", 0, Some(8), 9)], Some("a"));
        check(own(), &[share("a", 1000, Some(8), 9)], None);
        check(own(), &[share("a", 1000, Some(6), 9)], Some("a"));
        check(own(), &[share("a", 1000, Some(7), 9)], Some("a"));
        check(own(), &[share("z", 1000, Some(7), 9)], None);
        check(own(), &[share("a", 1000, Some(6), 9), share("b", 500, Some(8), 9)], Some("b"));
        // It does not wait, or has not looked for long.
        check(own(), &[share("a", 0, None, 9)], None);
        let now = Share { at_ms: 60_000, ..own() };
        check(now, &[share("a", 0, Some(1), 9)], None);
        // The part of the resource of which it holds most counts.
        let memory = Share { memory: 1 << 29, ..share("a", 0, Some(1), 9) };
        check(own(), &[memory], None);
    }

    /// `a` keeps files of jobs that have ended, and so does this one.
    #[test]
    fn who_waits_in_vain_keeps_nobody_out() {
        let keeps = |run: &str, decided, changed| Share {
            memory: 1 << 29,
            changed,
            ..share(run, 0, Some(1), decided)
        };
        let own = || keeps("m", 8, 4);
        // It has not looked since this one gave something back.
        let found = elsewhere(&own(), &[keeps("a", 3, 2)], &MACHINE);
        assert_eq!((found.first.as_deref(), found.stuck), (Some("a"), false));
        // It has, and there was too little for it.
        let found = elsewhere(&own(), &[keeps("a", 5, 2)], &MACHINE);
        assert_eq!((found.first.as_deref(), found.stuck), (None, true));
        // Of the two, the other is to give way.
        assert!(!elsewhere(&own(), &[keeps("z", 5, 2)], &MACHINE).stuck);
        // While anybody runs anything, there is hope.
        let runs = share("r", 1000, None, 5);
        assert!(!elsewhere(&own(), &[keeps("a", 5, 2), runs], &MACHINE).stuck);
    }
}
