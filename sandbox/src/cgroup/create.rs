//! The group of one instance, and making a container's group in it.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    controller::{Controller, Directories, Home},
    device, file,
    group::Group,
    hierarchy::{self, Hierarchy},
    removal,
    report::{self, Limit},
    setting::{self, Setting, Version},
};
use crate::{
    error::{Doing as _, Error, Result},
    limits::Limits,
    sys,
};

/// At most so many groups of steps exist at once below a container.
const MOST_STEPS: &str = "64";

/// The bandwidth of one block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoLimit {
    /// Major number of the whole device, not of a partition.
    pub major: u32,
    /// Minor number of the whole device.
    pub minor: u32,
    /// Bytes per second read.
    pub read: Option<u64>,
    /// Bytes per second written.
    pub write: Option<u64>,
}

/// Limits that only some containers have. One that the host cannot enforce fails the creation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupOptions {
    /// Bandwidth per block device.
    pub io: Vec<IoLimit>,
    /// The processors to run on, as the kernel lists them: `0-3,8`.
    pub cpuset: Option<String>,
}

/// The groups of one running Cofferdam, below which its containers' groups are made.
#[derive(Clone, Debug)]
pub struct Instance {
    hierarchy: Hierarchy,
    pub(super) directories: Directories,
    /// Guards device nodes where there is no v1 `devices` controller.
    device_program: Option<Arc<OwnedFd>>,
    /// Limits that the operator can do without, and which of them the host cannot enforce.
    dispensable: Vec<Limit>,
    without: Vec<Limit>,
}

impl Instance {
    pub(super) fn new(hierarchy: Hierarchy, directories: Directories) -> Self {
        Self {
            hierarchy,
            directories,
            device_program: None,
            dispensable: Vec::new(),
            without: Vec::new(),
        }
    }

    pub(super) fn with_device_program(mut self, program: OwnedFd) -> Self {
        self.device_program = Some(Arc::new(program));
        self
    }

    /// Guards device nodes for all groups below (v1: a group has at most what its parent has).
    pub(super) fn guard_devices(&self) -> Result<()> {
        let Some(directory) = self.directories.v1(Controller::Devices) else { return Ok(()) };
        file::write(&directory.join("devices.deny"), "a")?;
        file::write_each(&directory.join("devices.allow"), device::lines())
    }

    pub(super) fn going_without(mut self, without: Vec<Limit>, dispensable: &[Limit]) -> Self {
        (self.without, self.dispensable) = (without, dispensable.to_owned());
        self
    }

    /// Whether the operator would do without a limit.
    pub(crate) fn can_do_without(&self, limit: Limit) -> bool {
        self.dispensable.contains(&limit)
    }

    /// The limits that its containers do not have: the host cannot enforce them, and the caller
    /// named them as dispensable.
    pub fn without(&self) -> &[Limit] {
        &self.without
    }

    /// The directories of this instance, for the journal; [`super::remove_groups`] removes them.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.directories.all().map(Path::to_owned).collect()
    }

    /// A container's group that was created before, perhaps by another process.
    ///
    /// # Errors
    /// When the name is not made of letters, digits, `.`, `_` and `-`.
    pub fn group(&self, container: &str) -> Result<Group> {
        hierarchy::check_name(container)?;
        let mut shared = self.directories.clone();
        let guard = shared.take_guard();
        Ok(Group::new(shared.child(container), guard))
    }

    /// Makes a container's group with its limits in force. What was made is removed again when
    /// something fails.
    ///
    /// # Errors
    /// When a limit cannot be set, with the controller and the remedy; when the group exists.
    pub fn create(
        &self,
        container: &str,
        limits: &Limits,
        options: &GroupOptions,
    ) -> Result<Group> {
        let mut group = self.group(container)?;
        if options.cpuset.is_some() {
            report::require(&self.hierarchy, Limit::CpuSet)?;
            self.add_cpuset(&mut group)?;
        }
        self.fill(&group)?;
        match self.limit(&mut group, limits, options) {
            Ok(()) => Ok(group),
            Err(error) => {
                discard(group.directories.all());
                Err(error)
            }
        }
    }

    /// Makes a container's group that has no limits yet but guards device nodes. What was made is
    /// removed again when something fails.
    ///
    /// # Errors
    /// When the group exists, or cannot be made.
    pub fn make(&self, container: &str) -> Result<Group> {
        let group = self.group(container)?;
        self.fill(&group)?;
        Ok(group)
    }

    /// Puts limits in force.
    ///
    /// # Errors
    /// When a limit cannot be set, with the controller and the remedy.
    pub fn limit(&self, group: &mut Group, limits: &Limits, options: &GroupOptions) -> Result<()> {
        let mut options = options.clone();
        for io in &mut options.io {
            for (limit, rate) in [(Limit::IoRead, &mut io.read), (Limit::IoWrite, &mut io.write)] {
                if rate.is_some() && self.without.contains(&limit) {
                    *rate = None;
                } else if rate.is_some() {
                    report::require(&self.hierarchy, limit)?;
                }
            }
        }
        options.io.retain(|io| io.read.or(io.write).is_some());
        let home = |controller| match self.directories.home(controller) {
            Some(Home::V1(_)) => Version::V1,
            _ if self.hierarchy.bases.v1(controller).is_some() => Version::V1,
            _ => Version::V2,
        };
        let settings = setting::settings(limits, &options, self.hierarchy.swaps, home)?;
        group.io_limited = !options.io.is_empty();
        settings
            .iter()
            .filter(|setting| !self.without.contains(&setting.limit))
            .try_for_each(|setting| apply(&group.directories, setting))
    }

    fn fill(&self, group: &Group) -> Result<()> {
        for (made, directory) in group.directories.all().enumerate() {
            if let Err(error) = file::make_directory(directory) {
                discard(group.directories.all().take(made));
                return Err(error)
                    .system(|| format!("make the control group `{}`", directory.display()));
            }
        }
        self.guard(group).inspect_err(|_| discard(group.directories.all()))
    }

    /// Sets what does not depend on the container's limits.
    fn guard(&self, group: &Group) -> Result<()> {
        if let Some(directory) = group.directories.v1(Controller::CpuSet) {
            copy_memory_nodes(directory)?;
        }
        if let Some(directory) = group.directories.v2() {
            file::write(&directory.join("cgroup.max.depth"), "1")?;
            file::write(&directory.join("cgroup.max.descendants"), MOST_STEPS)?;
            if let Some(program) = &self.device_program {
                File::open(directory)
                    .and_then(|group| sys::bpf::attach_device_program(group, program.as_ref()))
                    .system(|| format!("attach the device program to `{}`", directory.display()))
                    .map_err(|error| error.remedy(device::BPF_REMEDY))?;
            }
        }
        Ok(())
    }

    /// Extends a group to the cpuset controller, which most containers do without.
    fn add_cpuset(&self, group: &mut Group) -> Result<()> {
        let bases = &self.hierarchy.bases;
        match bases.home(Controller::CpuSet) {
            Some(Home::V2(base)) => {
                let wanted = [Controller::CpuSet].into();
                hierarchy::enable(base, &wanted)?;
                self.directories.v2().map_or(Ok(()), |own| hierarchy::enable(own, &wanted))
            }
            Some(Home::V1(base)) => {
                let named = self.directories.all().next().and_then(Path::file_name);
                let container = group.directories.all().next().and_then(Path::file_name);
                let (Some(named), Some(container)) = (named, container) else { return Ok(()) };
                let own = base.join(named);
                let together = group.directories.v1(Controller::CpuSet).is_some();
                if !together {
                    hierarchy::make_directory(&own)?;
                    let controllers = [Controller::CpuSet].into();
                    group.directories.v1.push((controllers, own.join(container)));
                }
                copy_memory_nodes(&own)?;
                let processors = file::read(&base.join("cpuset.cpus"))?;
                file::write(&own.join("cpuset.cpus"), processors.trim())
            }
            None => report::require(&self.hierarchy, Limit::CpuSet),
        }
    }
}

/// Removes what was made of a group that cannot be used. The first error counts; what stays is
/// removed with the instance.
fn discard<'a>(directories: impl Iterator<Item = &'a Path>) {
    for directory in directories {
        removal::remove_directory(directory).ok();
    }
}

/// A new v1 cpuset has no memory nodes and takes no process before it has some.
fn copy_memory_nodes(directory: &Path) -> Result<()> {
    let Some(parent) = directory.parent() else { return Ok(()) };
    let nodes = file::read(&parent.join("cpuset.mems"))?;
    file::write(&directory.join("cpuset.mems"), nodes.trim())
}

pub(super) fn apply(directories: &Directories, setting: &Setting) -> Result<()> {
    let Some(Home::V1(directory) | Home::V2(directory)) = directories.home(setting.controller)
    else {
        if setting.dispensable {
            return Ok(());
        }
        return Err(Error::system(
            format!("enforce the limit `{}`", setting.limit),
            format!("the group has no `{}` controller", setting.controller),
        ));
    };
    let path = directory.join(setting.file);
    match file::try_write(&path, &setting.value) {
        Err(error) if setting.dispensable && is_absent(&error) => Ok(()),
        result => result
            .system(|| {
                format!(
                    "enforce the limit `{}`: write `{}` to `{}`",
                    setting.limit,
                    setting.value,
                    path.display()
                )
            })
            .map_err(|error| {
                error.remedy(format!(
                    "check that the kernel has the `{}` controller with `{}`, and the value",
                    setting.controller, setting.file
                ))
            }),
    }
}

/// No such file, or one that the kernel kept without a function (`ENOTSUPP`, 524, is its own).
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP | 524))
}
