//! One container's group, or one step's below it.
//!
//! In the unified hierarchy a group that hands controllers to children may hold no process itself.
//! So the init is cloned straight into the container's group, which becomes the root of its cgroup
//! namespace, and the first [`Group::step`] moves it into a leaf beside the steps.

use std::{
    fs::OpenOptions,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    controller::{Controller, Directories, Home},
    create,
    event::MemoryEvents,
    file, hierarchy, removal,
    setting::{self, SOCKET_MEMORY, StepLimits, Version},
    usage::{self, Usage},
};
use crate::error::{Doing as _, Error, Result};

/// The leaf for the container's init.
const INIT: &str = "init";

/// What a step's group measures, and what ends it; everything else holds for the whole container.
const OF_A_STEP: [Controller; 4] =
    [Controller::CpuAcct, Controller::Io, Controller::Memory, Controller::Pids];

/// A control group with all its directories. Dropping it removes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub(super) directories: Directories,
    /// The group that guards device nodes for all containers, where that is one of its own.
    pub(super) guard: Option<PathBuf>,
    /// Whether the bandwidth of disks is limited.
    pub(super) io_limited: bool,
}

/// Open files by which a process enters a group. The right to write was checked when they were
/// opened, so a process that has given up every privilege can still use them.
#[derive(Debug)]
pub struct Entrance {
    /// Files into which a single-threaded process writes `0` to enter: `tasks` of each v1
    /// hierarchy. (Writing `cgroup.procs` there takes 4 ms instead of 0.05 ms, because it stops
    /// all forks of the host for a moment.)
    pub tasks: Vec<OwnedFd>,
    /// The directory in the unified hierarchy, for `CLONE_INTO_CGROUP`; the cheapest way in.
    pub directory: Option<OwnedFd>,
}

impl Group {
    pub(super) fn new(directories: Directories, guard: Option<PathBuf>) -> Self {
        Self { directories, guard, io_limited: false }
    }

    /// The directories, for the journal.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.directories.all().map(Path::to_owned).collect()
    }

    /// Opens the ways in for a child that is yet to be cloned: it enters by `CLONE_INTO_CGROUP` with
    /// `directory`, and by all of `tasks`.
    ///
    /// # Errors
    /// When the group does not exist.
    pub fn entrance(&self) -> Result<Entrance> {
        let v2 = self.directories.v2();
        let directory = v2.map(|path| open(path, libc::O_PATH | libc::O_DIRECTORY)).transpose()?;
        Ok(Entrance { tasks: self.tasks()?, directory })
    }

    /// Opens the ways in for a process that exists already: files into which it writes `0`, those of
    /// [`Entrance::tasks`] and `cgroup.procs` in the unified hierarchy.
    ///
    /// # Errors
    /// When the group does not exist.
    pub fn entrance_of_a_process(&self) -> Result<Vec<OwnedFd>> {
        let mut files = self.tasks()?;
        let v2 = self.directories.v2();
        files.extend(v2.map(|path| open(&path.join("cgroup.procs"), 0)).transpose()?);
        Ok(files)
    }

    fn tasks(&self) -> Result<Vec<OwnedFd>> {
        let directories = self.directories.v1.iter().map(|(_, directory)| directory);
        directories.chain(&self.guard).map(|directory| open(&directory.join("tasks"), 0)).collect()
    }

    /// [`Self::step_limited`], without limits of its own.
    ///
    /// # Errors
    /// As there.
    pub fn step(&self, name: &str) -> Result<Self> {
        self.step_limited(name, &StepLimits::default())
    }

    /// Makes the group of a step below this group. The container's processes move into a leaf
    /// first, where the rules demand it; that happens once.
    ///
    /// On a hybrid host a step is no member of the unified hierarchy: entering it would cost
    /// 4 ms, and [`Group::kill`] does without it.
    ///
    /// # Errors
    /// When the name is not plain or taken, when there are too many steps at once, or when a
    /// limit cannot be set.
    pub fn step_limited(&self, name: &str, limits: &StepLimits) -> Result<Self> {
        hierarchy::check_name(name)?;
        if let Some((controllers, directory)) = &self.directories.v2
            && !controllers.is_empty()
        {
            let wanted = hierarchy::wanted_v2(controllers);
            let enabled = file::read(&directory.join("cgroup.subtree_control"))?;
            if enabled.trim().is_empty() {
                let leaf = directory.join(INIT);
                hierarchy::make_directory(&leaf)?;
                hierarchy::move_processes(directory, &leaf)?;
            }
            hierarchy::enable(directory, &wanted)?;
        }
        let controllers: Vec<Controller> = match limits.cpus {
            Some(_) => OF_A_STEP.into_iter().chain([Controller::Cpu]).collect(),
            None => OF_A_STEP.to_vec(),
        };
        let mut step = self.directories.child(&format!("step-{name}")).limited_to(&controllers);
        step.v2.take_if(|(controllers, _)| controllers.is_empty());
        if self.io_limited {
            // The throttle of v1 does not hold for groups below: the step stays in this one.
            step.v1.retain(|(controllers, _)| !controllers.contains(&Controller::Io));
        }
        for (index, directory) in step.all().enumerate() {
            if let Err(error) = file::make_directory(directory) {
                for made in step.all().take(index) {
                    removal::remove_directory(made).ok();
                }
                return Err(error)
                    .system(|| format!("make the control group `{}`", directory.display()));
            }
        }
        if let (Some(own), Some(of_step)) =
            (self.directories.v1(Controller::Memory), step.v1(Controller::Memory))
            && let Ok(limit) = file::read(&own.join(SOCKET_MEMORY))
        {
            file::write(&of_step.join(SOCKET_MEMORY), limit.trim())?;
        }
        let step = Self { directories: step, guard: None, io_limited: self.io_limited };
        if let Err(error) = step.limit(limits) {
            step.remove_empty();
            return Err(error);
        }
        Ok(step)
    }

    fn limit(&self, limits: &StepLimits) -> Result<()> {
        if *limits == StepLimits::default() {
            return Ok(());
        }
        let version = |controller| match self.directories.home(controller) {
            Some(Home::V1(_)) => Version::V1,
            _ => Version::V2,
        };
        for setting in setting::of_step(limits, version)? {
            create::apply(&self.directories, &setting)?;
        }
        Ok(())
    }

    /// Removes the group of a step in which nothing runs any more, so that a job may have more
    /// steps than groups can exist at once. One with processes, such as a server that the step
    /// left running, stays until its container's end.
    pub fn remove_empty(&self) {
        for directory in self.directories.all() {
            // Whatever keeps it, the container's end removes it.
            std::fs::remove_dir(directory).ok();
        }
    }

    /// What the group and all groups below it have used so far.
    ///
    /// # Errors
    /// When the group is gone, or one of its files cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        usage::read(&self.directories)
    }

    /// Watches for the memory limit being hit. On v1 nothing but the caller ends the container's
    /// other processes after the kernel has killed one of them.
    ///
    /// # Errors
    /// When the group is gone or the kernel is out of descriptors.
    pub fn memory_events(&self) -> Result<MemoryEvents> {
        MemoryEvents::watch(&self.directories)
    }

    /// Where its memory is limited.
    pub(crate) fn memory_directory(&self) -> Option<&Path> {
        match self.directories.home(Controller::Memory)? {
            Home::V1(directory) | Home::V2(directory) => Some(directory),
        }
    }

    /// Sends SIGKILL to every process of the group and the groups below it, in such a way that
    /// none can escape by forking. Does not wait for their end. A group that is gone has nothing to
    /// kill. This is for the end of a group: on v1 no process can be made in it afterwards.
    ///
    /// # Errors
    /// When a file of the group cannot be used.
    pub fn kill(&self) -> Result<()> {
        removal::kill(&self.directories())
    }

    /// As [`Self::kill`], and waits until no process of it is there any more: a killed one can
    /// still be seen, and hold its ports and files, until the kernel has come to it.
    ///
    /// # Errors
    /// When a file of the group cannot be used, or a process does not die within ten seconds.
    pub fn end(&self) -> Result<()> {
        removal::end(&self.directories())
    }

    /// Stops all processes of the group, or lets them go on.
    ///
    /// # Errors
    /// When the group is in no unified hierarchy.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let Some(directory) = self.directories.v2() else {
            return Err(Error::system(
                "freeze a control group",
                "the host has no unified control group hierarchy",
            )
            .remedy("mount cgroup2 on `/sys/fs/cgroup/unified`"));
        };
        file::write(&directory.join("cgroup.freeze"), if frozen { "1" } else { "0" })
    }

    /// The processes in the group and the groups below it.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut processes = Vec::new();
        for directory in self.directories.all() {
            processes.extend(removal::processes_below(directory)?);
        }
        processes.sort_unstable();
        processes.dedup();
        Ok(processes)
    }

    /// Removes the group and the groups below it, killing what is still in there.
    ///
    /// # Errors
    /// When a process does not die within some seconds.
    pub fn remove(&self) -> Result<()> {
        removal::remove(&self.directories())
    }
}

/// Opens a file to be written, or what `flags` say.
fn open(path: &Path, flags: i32) -> Result<OwnedFd> {
    let write = flags == 0;
    OpenOptions::new()
        .read(!write)
        .write(write)
        .custom_flags(flags)
        .open(path)
        .map(OwnedFd::from)
        .system(|| format!("open `{}`", path.display()))
}
