//! The controllers that are used here, and the directories in which a group's files lie.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

/// A cgroup controller, under the name of the v2 hierarchy where it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    /// Share and quota of processor time.
    Cpu,
    /// What processor time was used; part of every v2 group.
    CpuAcct,
    /// Which processors may be used.
    CpuSet,
    /// Which device nodes may be opened; a BPF program on v2.
    Devices,
    /// Stopping all processes; part of every v2 group.
    Freezer,
    /// Block devices, `blkio` on v1.
    Io,
    /// Memory and swap.
    Memory,
    /// The number of processes and threads.
    Pids,
}

impl Controller {
    /// From the word in `/proc/self/cgroup`, in mount options or in `cgroup.controllers`.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "cpu" => Some(Self::Cpu),
            "cpuacct" => Some(Self::CpuAcct),
            "cpuset" => Some(Self::CpuSet),
            "devices" => Some(Self::Devices),
            "freezer" => Some(Self::Freezer),
            "blkio" | "io" => Some(Self::Io),
            "memory" => Some(Self::Memory),
            "pids" => Some(Self::Pids),
            _ => None,
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::CpuAcct => "cpuacct",
            Self::CpuSet => "cpuset",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Io => "io",
            Self::Memory => "memory",
            Self::Pids => "pids",
        })
    }
}

/// A set of controllers.
pub(super) type Controllers = BTreeSet<Controller>;

/// Where one controller's files of a group lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home<'group> {
    /// In the v1 hierarchy of that controller.
    V1(&'group Path),
    /// In the unified hierarchy.
    V2(&'group Path),
}

/// The directories of one group: one per v1 hierarchy, and one in the unified hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directories {
    /// Each v1 hierarchy's controllers and the group's directory there.
    pub(super) v1: Vec<(Controllers, PathBuf)>,
    /// The controllers that can be had in the unified hierarchy, and the group's directory there.
    pub(super) v2: Option<(Controllers, PathBuf)>,
}

impl Directories {
    /// Where the files of `controller` are; v1 wins, because a controller that is bound there
    /// cannot be had in the unified hierarchy.
    pub(super) fn home(&self, controller: Controller) -> Option<Home<'_>> {
        let v1 = self.v1.iter().find(|(controllers, _)| controllers.contains(&controller));
        match (v1, &self.v2) {
            (Some((_, directory)), _) => Some(Home::V1(directory)),
            (None, Some((controllers, directory))) if controllers.contains(&controller) => {
                Some(Home::V2(directory))
            }
            _ => None,
        }
    }

    /// The v1 directory of `controller`.
    pub(super) fn v1(&self, controller: Controller) -> Option<&Path> {
        match self.home(controller) {
            Some(Home::V1(directory)) => Some(directory),
            _ => None,
        }
    }

    /// The directory in the unified hierarchy.
    pub(super) fn v2(&self) -> Option<&Path> {
        self.v2.as_ref().map(|(_, directory)| directory.as_path())
    }

    /// Every directory.
    pub(super) fn all(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|(_, directory)| directory.as_path()).chain(self.v2())
    }

    /// The directories of a child group.
    pub(super) fn child(&self, name: &str) -> Self {
        let below = |(controllers, directory): &(Controllers, PathBuf)| {
            (controllers.clone(), directory.join(name))
        };
        Self { v1: self.v1.iter().map(below).collect(), v2: self.v2.as_ref().map(below) }
    }

    /// Takes out the v1 hierarchy that does nothing but guard device nodes: it measures nothing and
    /// says the same for all containers, so that they can be in one group of it.
    pub(super) fn take_guard(&mut self) -> Option<PathBuf> {
        let guards = |(controllers, _): &(Controllers, PathBuf)| {
            controllers.iter().eq([&Controller::Devices])
        };
        let place = self.v1.iter().position(guards)?;
        Some(self.v1.remove(place).1)
    }

    /// Without the v1 hierarchies that have none of `controllers`.
    pub(super) fn limited_to(mut self, wanted: &[Controller]) -> Self {
        self.v1.retain(|(controllers, _)| wanted.iter().any(|one| controllers.contains(one)));
        self
    }
}
