//! Everything that is done for a container before it runs, in the order of its undoing.
//!
//! Each resource is owned by a value that gives it back when dropped, so an error anywhere leaves
//! nothing behind.

use std::{
    collections::BTreeSet,
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    ContainerSpec,
    mounts::Wanted,
    warm::{Pool, Warm},
};
use crate::{
    IoRates,
    block_device::{self, BlockDevice},
    cgroup::{self, GroupOptions, IoLimit, Limit},
    channel::Channel,
    error::{Doing as _, Error, Fault, Result},
    ids::HeldIds,
    in_use::InUse,
    init::message::{Reply, Setup},
    kept_mounts::KeptMount,
    network::{ContainerNetwork, RESOLVER, SharedNetwork},
    sandbox::Shared,
    scratch::Room,
    spawner::Spawned,
    sys,
};

/// How long an init may take to build its container.
const PATIENCE: Duration = Duration::from_secs(30);

/// A container that stands.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) channel: Channel,
    pub(super) init: Init,
    /// Its mounts: what the kernel does to take them apart is done when this is closed, and not while
    /// the init's end is waited for.
    #[expect(dead_code, reason = "being open is what it is for")]
    pub(super) mounts: Option<File>,
    pub(super) group: Group,
    pub(super) root: OwnedFd,
    pub(super) workspace: OwnedFd,
    pub(super) control: OwnedFd,
    /// Its workspace, for those that are put up beside it.
    pub(super) workspace_copies: Mutex<Vec<OwnedFd>>,
    /// Holds the writable file system where others can start in it.
    pub(super) kept: Option<Arc<KeptMount>>,
    /// The writable file system, for its use at the end; dropped after the overlays over it.
    pub(super) scratch: Arc<Room>,
    /// Given back when dropped.
    pub(super) ids: Arc<HeldIds>,
    pub(super) spec: ContainerSpec,
    /// Where its network namespace is not its own alone, until its end.
    pub(super) network: Mutex<Option<SharedNetwork>>,
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
}

impl Group {
    pub(super) fn new(group: cgroup::Group) -> Self {
        Self { group }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Kills what is still in it, where nothing has waited for its end.
        if let Err(error) = self.group.remove() {
            tracing::warn!(%error, "a control group is left for the end of the run");
        }
    }
}

/// Makes a container, blocking; returns once its init has reported that it stands.
pub(crate) fn prepare(
    shared: &InUse<Shared>,
    pool: &Pool,
    spec: ContainerSpec,
) -> Result<Prepared> {
    spec.limits.check()?;
    let making = shared.rooms.start(spec.scratch, &spec.limits, shared.site())?;
    if making.is_on_loop_device() {
        shared.trail.has_loop_device();
    }
    let network = network(shared, &spec)?;
    let (warm, workspace_shared) = match &spec.beside {
        Some(other) => {
            let ids = Some(Arc::clone(other.ids()));
            (Warm::begin(shared, network.as_ref(), ids)?, Some(other.take_workspace()?))
        }
        None => (pool.take(shared, network.as_ref())?, None),
    };
    let Warm { channel, init, mut group, ids } = warm;
    let mut wanted = Wanted::collect(shared, &spec)?;
    let options = group_options(shared, &spec, &wanted)?;
    shared.groups.limit(&mut group.group, &spec.limits, &options)?;
    let privileged = ids.map().is_privileged();
    let keep = spec.keep.then_some(&shared.kept_mounts);
    let (mounts, others) = if privileged {
        (Some(wanted.prepare(&init.0, making, keep)?), None)
    } else {
        (None, Some(wanted.prepare_kept(making, keep)?))
    };
    let setup = Setup {
        hostname: spec.hostname.clone(),
        layers: wanted.layers,
        workspace: wanted.workspace,
        workspace_shared: workspace_shared.is_some(),
        workspace_copies: spec.workspace_copies,
        own_mounts: (!privileged).then(|| wanted.describe(&spec.limits, spec.keep)).transpose()?,
        binds: std::mem::take(&mut wanted.binds),
        hosts: hosts(&spec.hostname, network.as_ref().map_or(&[], SharedNetwork::names)),
        resolv_conf: resolv_conf(network.as_ref().is_some_and(SharedNetwork::is_connected)),
        shm: spec.limits.shm,
        nofile: spec.limits.nofile,
        host_namespaces: shared.host_namespaces.clone(),
        foreign_abi: shared.foreign_abi,
        hidden: wanted.hidden(shared)?,
    };
    let mut descriptors = Vec::new();
    descriptors.extend(workspace_shared.as_ref().map(OwnedFd::as_fd));
    if let Some(mounts) = &mounts {
        descriptors.push(mounts.shown());
        descriptors.extend(mounts.trees.iter().map(OwnedFd::as_fd));
    }
    if let Some(others) = &others {
        descriptors.extend(others.sent.iter().map(OwnedFd::as_fd));
    }
    let sent = channel.send(&setup, &descriptors).system(|| "describe the container to its init");
    // An init that could not even begin has said why, and is told no more.
    let stands = wait_until_ready(&channel, spec.workspace_copies)
        .and_then(|stands| sent.map(|()| stands))?;
    let room = others.and_then(|others| others.room);
    let (scratch, kept) = match (mounts, room, stands.scratch) {
        (Some(mounts), ..) => (mounts.scratch, mounts.kept),
        (None, Some((scratch, kept)), _) => (scratch, Some(kept)),
        (None, None, Some(made)) => {
            (Room::in_memory(made).system(|| "look at the scratch file system")?, None)
        }
        (None, None, None) => {
            let missing = "the init sent no scratch file system";
            return Err(Error::system("wait for the container to stand", missing));
        }
    };
    let Stands { root, workspace, control, copies, .. } = stands;
    // Without root, nobody outside may look at it: the init takes them apart by itself.
    let namespace = || File::open(format!("/proc/{}/ns/mnt", init.0.pid));
    let mount_namespace = privileged.then(namespace).transpose();
    let mount_namespace = mount_namespace.system(|| "open the container's mount namespace")?;
    Ok(Prepared {
        channel,
        init,
        mounts: mount_namespace,
        group,
        scratch: Arc::new(scratch),
        kept: kept.map(Arc::new),
        root,
        workspace,
        control,
        workspace_copies: Mutex::new(copies),
        ids,
        spec,
        network: Mutex::new(network),
    })
}

/// The bandwidth of each disk that the container's files are on.
fn group_options(shared: &Shared, spec: &ContainerSpec, wanted: &Wanted) -> Result<GroupOptions> {
    let IoRates { read, write } = spec.limits.io;
    if read.or(write).is_none() {
        return Ok(GroupOptions::default());
    }
    let mut places = wanted.places()?;
    // The workspace of another lies over that one's project.
    places.extend(spec.beside.as_ref().and_then(|other| other.spec().workspace.clone()));
    places.insert(shared.state.clone());
    let mut disks = BTreeSet::new();
    for path in &places {
        match block_device::of_files(path) {
            Ok(disk) => disks.extend(disk),
            Err(_) if shared.groups.can_do_without(Limit::IoWrite) => {}
            Err(error) => return Err(error),
        }
    }
    let limit = |disk: BlockDevice| IoLimit { major: disk.major, minor: disk.minor, read, write };
    Ok(GroupOptions { io: disks.into_iter().map(limit).collect(), cpuset: None })
}

/// The network namespace that the container shall be in; `None` for one of its own.
fn network(shared: &InUse<Shared>, spec: &ContainerSpec) -> Result<Option<SharedNetwork>> {
    match &spec.network {
        ContainerNetwork::Shared(network) => Ok(Some(network.clone())),
        ContainerNetwork::Own(network) if network.is_connected() => {
            shared.networks.open(shared, network, Vec::new()).map(Some)
        }
        ContainerNetwork::Own(_) => Ok(None),
    }
}

/// Never the host's: its servers may be on a loopback that is not the container's.
fn resolv_conf(connected: bool) -> String {
    if connected {
        format!("nameserver {}\n", RESOLVER.ip())
    } else {
        "# this container has no network\n".to_owned()
    }
}

fn hosts(hostname: &str, names: &[String]) -> String {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for name in names {
        text.extend(["127.0.0.1\t", name, "\n"]);
    }
    text
}

/// What the init shows of a container that stands.
#[derive(Debug)]
struct Stands {
    root: OwnedFd,
    workspace: OwnedFd,
    control: OwnedFd,
    copies: Vec<OwnedFd>,
    scratch: Option<OwnedFd>,
}

fn wait_until_ready(channel: &Channel, copies: usize) -> Result<Stands> {
    let waiting = || "wait for the container to stand";
    channel.set_receive_timeout(Some(PATIENCE)).system(waiting)?;
    let reply = channel.receive::<Reply>().system(waiting)?;
    channel.set_receive_timeout(None).system(waiting)?;
    match reply {
        Some((Reply::Ready, descriptors)) => {
            let mut descriptors = descriptors.into_iter();
            let mut directory = || {
                let missing = || Error::system(waiting(), "the init sent no directories");
                descriptors.next().ok_or_else(missing)
            };
            let (root, workspace, control) = (directory()?, directory()?, directory()?);
            let copies = descriptors.by_ref().take(copies).collect();
            Ok(Stands { root, workspace, control, copies, scratch: descriptors.next() })
        }
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
