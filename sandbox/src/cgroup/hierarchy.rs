//! What this host offers, where our groups go, and the group of one instance.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, Pid, eaccess, geteuid};

use super::{
    base::{self, Candidate},
    controller::{Controller, Controllers, Directories, Home},
    create::Instance,
    device, file,
    layout::{self, Layout, Tree},
    removal,
    report::{self, Enforcement, Finding, Limit},
};
use crate::{
    error::{Doing as _, Error, Result},
    ids, sys,
};

/// The leaf into which our own processes move where they would be in the way.
pub(super) const SUPERVISOR: &str = "cofferdam-supervisor";

/// Bytes that are not taken from the supervisor when memory is short: more than runner and spawner use.
pub(super) const SUPERVISOR_MEMORY: u64 = 64 << 20;

/// What every container needs.
const NEEDED: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

/// What is taken along on v1 where it is there.
const WANTED_V1: [Controller; 6] = [
    Controller::Cpu,
    Controller::CpuAcct,
    Controller::Devices,
    Controller::Io,
    Controller::Memory,
    Controller::Pids,
];

/// The control groups of this host, as this process can use them. Detecting changes nothing.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// The groups below which ours are made.
    pub(super) bases: Directories,
    /// What the whole unified hierarchy has, delegated or not.
    pub(super) unified: Controllers,
    /// Where the processes of `ours` go, or are already, when the base must hold no process.
    pub(super) leaf: Option<PathBuf>,
    ours: Vec<i32>,
    /// Whether the host has swap space in use.
    pub(super) swaps: bool,
    /// Whether device nodes can be made here at all.
    pub(super) privileged: bool,
}

impl Hierarchy {
    /// Looks at the host. `ours` are processes besides the caller that belong to this instance and
    /// may be moved into a leaf group together with it.
    ///
    /// # Errors
    /// When `/proc` or the cgroup file systems cannot be read. A hierarchy that is missing is no
    /// error here; [`Hierarchy::report`] says what cannot be enforced.
    pub fn detect(ours: &[Pid]) -> Result<Self> {
        let read = |path: &str| crate::kernel_file::read(path).system(|| format!("read `{path}`"));
        let layout = layout::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
        let swaps = file::read_optional(Path::new("/proc/swaps"))?.unwrap_or_default();
        let whole = ids::in_first_namespace().system(|| "read `/proc/self/uid_map`")?;
        let mut ours: Vec<i32> = ours.iter().map(|pid| pid.as_raw()).collect();
        ours.push(Pid::this().as_raw());
        let mut hierarchy = Self {
            bases: Directories::default(),
            unified: Controllers::new(),
            leaf: None,
            ours,
            swaps: swaps.lines().count() > 1,
            privileged: whole && geteuid().is_root(),
        };
        hierarchy.find_bases(layout)?;
        Ok(hierarchy)
    }

    fn find_bases(&mut self, layout: Layout) -> Result<()> {
        let Layout { v1, v2 } = layout;
        let bound: Controllers =
            v1.iter().flat_map(|tree| tree.controllers.iter().copied()).collect();
        self.bases.v1 = v1.into_iter().map(|tree| (tree.controllers, tree.own)).collect();
        let Some(tree) = v2 else { return Ok(()) };
        let needed = NEEDED.into_iter().filter(|one| !bound.contains(one)).collect();
        let mut candidates = Vec::new();
        let mut directories = Vec::new();
        // In the leaf of an instance that is or was here: its base is the group above.
        let in_leaf = tree.own.file_name() == Some(SUPERVISOR.as_ref());
        let own = tree.own.ancestors().skip(usize::from(in_leaf));
        for directory in own.take_while(|path| path.starts_with(&tree.mount)) {
            candidates.push(self.candidate(directory, &tree)?);
            directories.push(directory.to_owned());
        }
        self.unified = candidates.last().map(|top| top.controllers.clone()).unwrap_or_default();
        let Some(index) = base::choose(&candidates, &needed) else { return Ok(()) };
        let (Some(candidate), Some(directory)) = (candidates.get(index), directories.get(index))
        else {
            return Ok(());
        };
        if index == 0 && !needed.is_empty() && (in_leaf || !candidate.root) {
            self.leaf = Some(directory.join(SUPERVISOR));
        }
        self.bases.v2 = Some((candidate.controllers.clone(), directory.clone()));
        Ok(())
    }

    fn candidate(&self, directory: &Path, tree: &Tree) -> Result<Candidate> {
        let controllers = file::read(&directory.join("cgroup.controllers"))?;
        let root = directory == tree.mount && !directory.join("cgroup.type").exists();
        // The root of a busy host has thousands of processes, and may have them.
        let processes = if root { Vec::new() } else { file::processes(directory)? };
        Ok(Candidate {
            writable: writable(directory)
                && writable(&directory.join("cgroup.procs"))
                && writable(&directory.join("cgroup.subtree_control")),
            delegated: sys::cgroup::is_delegated(directory),
            root,
            strangers: processes.iter().any(|process| !self.ours.contains(process)),
            controllers: controllers.split_whitespace().filter_map(Controller::parse).collect(),
        })
    }

    /// Makes the groups of this instance, with the controllers handed down to it. Where the
    /// caller sits in the group that holds them, it moves into a leaf first; [`Hierarchy::leave`]
    /// undoes that.
    ///
    /// Of `dispensable`, what cannot be enforced here is left out, see [`Instance::without`].
    ///
    /// # Errors
    /// When a limit that is not dispensable cannot be enforced, with the remedy.
    pub fn prepare(&self, instance: &str, dispensable: &[Limit]) -> Result<Instance> {
        let mut without = Vec::new();
        let needed = [Limit::Memory, Limit::Swap, Limit::Pids, Limit::Cpu, Limit::Devices];
        for limit in needed.into_iter().chain([Limit::IoRead, Limit::IoWrite]) {
            match report::require(self, limit) {
                Err(_) if dispensable.contains(&limit) => without.push(limit),
                // Asked of the containers that have it.
                _ if limit.is_optional() => {}
                result => result?,
            }
        }
        if let (Some(leaf), Some(base)) = (&self.leaf, self.bases.v2()) {
            make_directory(leaf)?;
            move_processes(base, leaf)?;
        }
        if let Some((controllers, base)) = &self.bases.v2 {
            enable(base, &wanted_v2(controllers))?;
            self.protect();
        }
        let mut prepared = self.instance(instance)?;
        // Trees that none of the limits needs may be closed to this process.
        prepared.directories.v1.retain(|(controllers, directory)| {
            let needs =
                |limit: &Limit| limit.controller().is_some_and(|it| controllers.contains(&it));
            directory.parent().is_some_and(writable)
                || needed.iter().any(|limit| needs(limit) && self.enforces(*limit))
        });
        let prepared = prepared.going_without(without, dispensable);
        for directory in prepared.directories.all() {
            if let Err(error) = make_directory(directory) {
                // Those that were made are empty; what stays is found by the instance's name.
                self.remove_instance(instance).ok();
                return Err(error);
            }
        }
        prepared.guard_devices().inspect_err(|_| {
            self.remove_instance(instance).ok();
        })?;
        if let Some((controllers, directory)) = &prepared.directories.v2 {
            enable(directory, &wanted_v2(controllers))?;
        }
        let by_program = self.bases.v1(Controller::Devices).is_none() && self.privileged;
        if by_program && !prepared.without().contains(&Limit::Devices) {
            let program = sys::bpf::load_device_program(&device::program())
                .system(|| "load the BPF program that guards device nodes")
                .map_err(|error| error.remedy(device::BPF_REMEDY))?;
            return Ok(prepared.with_device_program(program));
        }
        Ok(prepared)
    }

    /// Claims for the supervisor what the groups above are protected with: of what nobody below
    /// claims, the containers beside it would take their share. Where nothing protects those above,
    /// or the controller is not there, it has no effect.
    fn protect(&self) {
        if let Some(leaf) = &self.leaf
            && let Err(error) =
                file::try_write(&leaf.join("memory.min"), &SUPERVISOR_MEMORY.to_string())
        {
            tracing::debug!(%error, "the supervisor's memory is protected like any other");
        }
    }

    /// The groups of an instance that was prepared before, perhaps by another process.
    ///
    /// # Errors
    /// When the name is not made of letters, digits, `.`, `_` and `-`.
    pub fn instance(&self, instance: &str) -> Result<Instance> {
        let name = instance_directory(instance)?;
        let mut directories = self.bases.child(&name).limited_to(&WANTED_V1);
        if let Some((controllers, _)) = &mut directories.v2 {
            // A controller that is bound on v1 shows in neither list, so nothing is taken twice.
            controllers.retain(|one| self.bases.v1(*one).is_none());
        }
        Ok(Instance::new(self.clone(), directories))
    }

    /// Kills everything in the groups of an instance and removes them. Does nothing where there
    /// are none.
    ///
    /// # Errors
    /// When a process does not die within some seconds, or a group cannot be removed.
    pub fn remove_instance(&self, instance: &str) -> Result<()> {
        let name = instance_directory(instance)?;
        let groups: Vec<PathBuf> = self.bases.all().map(|base| base.join(&name)).collect();
        removal::remove_groups(&groups)
    }

    /// Takes the caller back to the group it came from, when [`Hierarchy::prepare`] moved it, and
    /// removes the leaf. Nothing changes as long as other instances are there.
    ///
    /// # Errors
    /// When the processes cannot be moved back.
    pub fn leave(&self) -> Result<()> {
        let (Some(leaf), Some((controllers, base))) = (&self.leaf, &self.bases.v2) else {
            return Ok(());
        };
        if !leaf.exists() {
            return Ok(());
        }
        let others = file::children(base).system(|| format!("list `{}`", base.display()))?;
        let strangers = |process: &i32| !self.ours.contains(process);
        if others.iter().any(|other| other != leaf) || file::processes(leaf)?.iter().any(strangers)
        {
            return Ok(());
        }
        let disabled = words(&wanted_v2(controllers), '-');
        file::write(&base.join("cgroup.subtree_control"), &disabled)?;
        move_processes(leaf, base)?;
        removal::remove_directory(leaf)
    }

    /// The instances that have groups here, dead or alive.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn instances(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for base in self.bases.all() {
            for child in file::children(base).system(|| format!("list `{}`", base.display()))? {
                let name = child.file_name().and_then(|name| name.to_str());
                if let Some(instance) = name.and_then(|name| name.strip_prefix("cofferdam-"))
                    && child.file_name() != Some(SUPERVISOR.as_ref())
                {
                    names.push(instance.to_owned());
                }
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// What can be enforced here, limit by limit, and how.
    pub fn report(&self) -> Vec<Finding> {
        Limit::ALL.iter().map(|limit| report::find(self, *limit)).collect()
    }

    /// A host that looks as told.
    #[cfg(test)]
    pub(super) fn imagined(
        bases: Directories,
        unified: &str,
        swaps: bool,
        privileged: bool,
    ) -> Self {
        let unified = unified.split_whitespace().filter_map(Controller::parse).collect();
        Self { bases, unified, leaf: None, ours: Vec::new(), swaps, privileged }
    }

    /// As if the caller were process `own`, alone in a group that was delegated to it.
    #[cfg(test)]
    pub(super) fn in_delegated(mut self, directory: &Path, own: i32) -> Self {
        self.ours = vec![own];
        self.leaf = Some(directory.join(SUPERVISOR));
        if let Some((_, base)) = &mut self.bases.v2 {
            directory.clone_into(base);
        }
        self
    }

    /// Whether the unified hierarchy has what every container needs, and this process has no part
    /// of it.
    pub(super) fn lacks_delegation(&self) -> bool {
        NEEDED.iter().any(|needed| {
            self.unified.contains(needed)
                && !self.bases.home(*needed).is_some_and(|home| self.can_write(home))
        })
    }

    fn enforces(&self, limit: Limit) -> bool {
        matches!(report::find(self, limit).enforcement, Enforcement::Enforced(_))
    }

    /// Whether groups can be made at the home of a controller.
    pub(super) fn can_write(&self, home: Home<'_>) -> bool {
        match home {
            Home::V1(directory) | Home::V2(directory) => writable(directory),
        }
    }
}

/// The instance that a group with this path is of; names that are not those of journals, such as
/// that of [`SUPERVISOR`], are of none.
pub(super) fn instance_of(directory: &Path) -> Option<&str> {
    let instance = directory.file_name()?.to_str()?.strip_prefix("cofferdam-")?;
    crate::journal::is_id(instance).then_some(instance)
}

fn instance_directory(instance: &str) -> Result<String> {
    check_name(instance)?;
    Ok(format!("cofferdam-{instance}"))
}

/// Refuses a name that is no single, plain path component.
pub(super) fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=128).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    Err(Error::system(
        format!("make a control group named `{}`", name.escape_debug()),
        "a name has 1 to 128 letters, digits, `.`, `_` and `-`, and does not start with a dot",
    ))
}

/// The controllers that groups with several levels hand down: needed ones and those that measure.
pub(super) fn wanted_v2(available: &Controllers) -> Controllers {
    let wanted = [Controller::Cpu, Controller::Io, Controller::Memory, Controller::Pids];
    wanted.into_iter().filter(|one| available.contains(one)).collect()
}

fn words(controllers: &Controllers, sign: char) -> String {
    let words: Vec<String> = controllers.iter().map(|one| format!("{sign}{one}")).collect();
    words.join(" ")
}

/// Hands `controllers` to the children of a group; those that they have already stay as they are,
/// because each change waits for all processors.
pub(super) fn enable(directory: &Path, controllers: &Controllers) -> Result<()> {
    let path = directory.join("cgroup.subtree_control");
    let enabled = file::read(&path)?;
    let enabled: Controllers = enabled.split_whitespace().filter_map(Controller::parse).collect();
    let missing: Controllers = controllers.difference(&enabled).copied().collect();
    if missing.is_empty() { Ok(()) } else { file::write(&path, &words(&missing, '+')) }
}

/// Moves every process of one group into another of the same hierarchy.
pub(super) fn move_processes(from: &Path, to: &Path) -> Result<()> {
    // A process may fork while it is being moved, so the list is read again until it is empty.
    for _ in 0..64 {
        let processes = file::processes(from)?;
        if processes.is_empty() {
            return Ok(());
        }
        for process in processes {
            match file::try_write(&to.join("cgroup.procs"), &process.to_string()) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                result => {
                    result.system(|| format!("move process {process} to `{}`", to.display()))?;
                }
            }
        }
    }
    Err(Error::system(
        format!("empty the control group `{}`", from.display()),
        "processes keep appearing in it",
    ))
}

/// Makes a group's directory; one that is there already is fine.
pub(super) fn make_directory(directory: &Path) -> Result<()> {
    match file::make_directory(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.system(|| format!("make the control group `{}`", directory.display())),
    }
}

fn writable(path: &Path) -> bool {
    eaccess(path, AccessFlags::W_OK).is_ok()
}
