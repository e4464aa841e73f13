//! Everything that is done for a container before it runs, in the order of its undoing.
//!
//! Each resource is owned by a value that gives it back when dropped, so an error anywhere leaves
//! nothing behind.

use std::{
    fs::{self, File},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::ContainerSpec;
use crate::{
    cgroup::{self, GroupOptions},
    channel::Channel,
    devices,
    error::{Doing as _, Error, Fault, Result},
    id_range::IdRange,
    init::message::{Bind, Reply, Setup},
    lower::{self, WithoutIdMap},
    sandbox::Shared,
    scratch,
    spawner::{IdMap, Spawned},
    sys,
};

/// How long an init may take to build its container.
const PATIENCE: Duration = Duration::from_secs(30);

/// A container that stands.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) channel: Channel,
    pub(super) init: Init,
    pub(super) group: Arc<Group>,
    /// The writable file system, for its use at the end.
    pub(super) scratch: OwnedFd,
    pub(super) root: OwnedFd,
    pub(super) workspace: OwnedFd,
    #[expect(dead_code, reason = "given back when dropped")]
    pub(super) ids: IdRange,
    pub(super) spec: ContainerSpec,
}

/// An init that is killed when dropped.
#[derive(Debug)]
pub(super) struct Init(pub(super) Spawned);

impl Drop for Init {
    fn drop(&mut self) {
        // It may have ended already.
        drop(sys::process::pidfd_send_signal(&self.0.pidfd, libc::SIGKILL));
    }
}

/// A control group that is removed when dropped.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) group: cgroup::Group,
    removed: AtomicBool,
}

impl Group {
    /// Removes it now, with all groups below; nothing may run in it any more.
    pub(super) fn remove(&self) -> Result<()> {
        if self.removed.swap(true, Ordering::Relaxed) { Ok(()) } else { self.group.remove() }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.removed.load(Ordering::Relaxed)
            && let Err(error) = self.group.kill().and_then(|()| self.group.remove())
        {
            tracing::warn!(%error, "a control group is left for the end of the run");
        }
    }
}

/// Makes a container, blocking; returns once its init has reported that it stands.
pub(crate) fn prepare(shared: &Shared, spec: ContainerSpec) -> Result<Prepared> {
    let ids = shared.ids.acquire()?;
    let name = format!("{:x}", ids.first());
    let group = shared.groups.create(&name, &spec.limits, &GroupOptions::default())?;
    let entrance = group.entrance()?;
    let group = Arc::new(Group { group, removed: AtomicBool::new(false) });
    let (ours, theirs) = Channel::pair().system(|| "make the init's channel")?;
    let clone_into = entrance.directory.as_ref().map(OwnedFd::as_fd);
    let init =
        Init(shared.spawner.spawn(theirs, IdMap::Range { first: ids.first() }, clone_into)?);
    let join = entrance.tasks;
    let user_namespace = File::open(format!("/proc/{}/ns/user", init.0.pid))
        .system(|| "open the container's user namespace")?;
    let mut mounts = Mounts::default();
    let scratch = scratch::in_memory(&spec.limits).system(|| "make the scratch file system")?;
    sys::mount::map_ids(&scratch, &user_namespace, sys::mount::Attributes::default())
        .system(|| "show the scratch file system with the container's ids")?;
    mounts.collect(shared, &spec, &user_namespace)?;
    let setup = Setup {
        hostname: spec.hostname.clone(),
        join: join.len(),
        layers: spec.image.layers.len(),
        workspace: spec.workspace.is_some(),
        binds: std::mem::take(&mut mounts.binds),
        hosts: hosts(&spec.hostname),
        resolv_conf: "# this container has no network\n".to_owned(),
        shm: spec.limits.shm,
        cgroup_mount: join.is_empty(),
        nofile: spec.limits.nofile,
        host_namespaces: shared.host_namespaces.clone(),
        hidden_paths: hidden_paths(shared, &spec),
    };
    let devices = devices::make().system(|| "make the device file system")?;
    let mut descriptors: Vec<_> = join.iter().map(OwnedFd::as_fd).collect();
    descriptors.push(scratch.as_fd());
    descriptors.push(devices.as_fd());
    descriptors.extend(mounts.mounts.iter().map(OwnedFd::as_fd));
    ours.send(&setup, &descriptors).system(|| "describe the container to its init")?;
    let (root, workspace) = wait_until_ready(&ours)?;
    Ok(Prepared { channel: ours, init, group, scratch, root, workspace, ids, spec })
}

/// The mounts of a container, and where those that are not layers go.
#[derive(Debug, Default)]
struct Mounts {
    mounts: Vec<OwnedFd>,
    binds: Vec<Bind>,
}

impl Mounts {
    fn collect(&mut self, shared: &Shared, spec: &ContainerSpec, ids: &File) -> Result<()> {
        for layer in &spec.image.layers {
            self.mounts.push(lower::tree(&layer.path, ids, true, WithoutIdMap::Refuse)?);
        }
        if let Some(workspace) = &spec.workspace {
            let workspace = canonical(workspace, "the workspace")?;
            refuse_state(shared, &workspace)?;
            self.mounts.push(lower::tree(&workspace, ids, true, WithoutIdMap::Refuse)?);
        }
        for mount in &spec.image.host_mounts {
            // Readable by all is all that the host's programs need to be.
            let shown = lower::tree(&mount.source, ids, true, WithoutIdMap::ShowUnmapped)?;
            self.mounts.push(shown);
            self.binds.push(Bind { target: mount.target.clone(), directory: true });
        }
        for mount in &spec.mounts {
            let source = canonical(&mount.source, "the mount")?;
            refuse_state(shared, &source)?;
            let directory = source.is_dir();
            self.mounts.push(lower::tree(&source, ids, mount.read_only, WithoutIdMap::Refuse)?);
            self.binds.push(Bind { target: mount.target.clone(), directory });
        }
        Ok(())
    }
}

fn canonical(path: &Path, what: &str) -> Result<PathBuf> {
    fs::canonicalize(path).pipeline(|| format!("find {what} `{}`", path.display()))
}

/// Images and other runs' files are nothing that a container may see, let alone change.
fn refuse_state(shared: &Shared, path: &Path) -> Result<()> {
    if shared.state.starts_with(path) || path.starts_with(&shared.state) {
        return Err(Error::pipeline(
            format!("show `{}` in a container", path.display()),
            format!("it holds or lies in the state directory `{}`", shared.state.display()),
        )
        .remedy("choose another directory, or another state directory with `--state`"));
    }
    Ok(())
}

/// Paths that must not show in the container's mount table: not those that the operator mounts.
fn hidden_paths(shared: &Shared, spec: &ContainerSpec) -> Vec<String> {
    [Some(&shared.state), spec.workspace.as_ref()]
        .into_iter()
        .flatten()
        .filter(|path| path.components().count() > 2)
        .filter(|path| !spec.mounts.iter().any(|mount| mount.source.starts_with(path)))
        .map(|path| path.display().to_string())
        .collect()
}

fn hosts(hostname: &str) -> String {
    format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n")
}

fn wait_until_ready(channel: &Channel) -> Result<(OwnedFd, OwnedFd)> {
    let waiting = || "wait for the container to stand";
    channel.set_receive_timeout(Some(PATIENCE)).system(waiting)?;
    let reply = channel.receive::<Reply>().system(waiting)?;
    channel.set_receive_timeout(None).system(waiting)?;
    match reply {
        Some((Reply::Ready, descriptors)) => match <[OwnedFd; 2]>::try_from(descriptors) {
            Ok([root, workspace]) => Ok((root, workspace)),
            Err(_) => Err(Error::system(waiting(), "the init sent no directories")),
        },
        Some((Reply::SetupFailed(failure), _)) => {
            let mut error = failure.into_error();
            if error.fault() == Fault::System && error.remedy_text().is_none() {
                error = error.remedy("`cofferdam doctor` says what this host lacks");
            }
            Err(error)
        }
        Some((other, _)) => Err(Error::system(waiting(), format!("unexpected answer {other:?}"))),
        None => Err(Error::system(waiting(), "its init ended without a word")),
    }
}
