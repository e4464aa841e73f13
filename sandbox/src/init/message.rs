//! What runner and init say to each other.
//!
//! Wire types of their own: both sides are the same binary, so there is no version to agree on.
//! Whatever comes *from* an init is not trusted further than its own job.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ids::IdMap, mount_table, seccomp::ForeignAbi};

/// The first message: what every container begins with, whatever it is for.
///
/// Its descriptors are `join` control group files, and the device mount where the runner could
/// make one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Control group files to write `0` to.
    pub(crate) join: usize,
    /// How ids inside map to those of the host.
    pub(crate) ids: IdMap,
    /// Whose its network namespace is.
    pub(crate) network: NetworkNamespace,
    /// Whether `/sys/fs/cgroup` shows the container's own v2 tree.
    pub(crate) cgroup_mount: bool,
}

/// The second message: everything else that the init needs to build the container.
///
/// Its descriptors come in this order: the workspace of another container where
/// `workspace_shared`, the scratch mount, `layers` lower mounts from the lowest up, `workspace`
/// lower mounts of the workspace likewise, one mount per entry of `binds`. With `own_mounts` there
/// are only the first and those that it says are sent: the init makes the others, and the devices, by
/// itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Host name inside.
    pub(crate) hostname: String,
    /// Lower layers.
    pub(crate) layers: usize,
    /// Lower layers of `/workspace`; without any, that is a directory of the root.
    pub(crate) workspace: usize,
    /// Whether `/workspace` is that of another container.
    pub(crate) workspace_shared: bool,
    /// How many copies of it are wanted for others.
    pub(crate) workspace_copies: usize,
    /// Mounts to place, in order.
    pub(crate) binds: Vec<Bind>,
    /// Content of `/etc/hosts`.
    pub(crate) hosts: String,
    /// Content of `/etc/resolv.conf`.
    pub(crate) resolv_conf: String,
    /// Bytes of `/dev/shm`.
    pub(crate) shm: u64,
    /// What the init has to make where the runner may not.
    pub(crate) own_mounts: Option<OwnMounts>,
    /// Open files per process.
    pub(crate) nofile: u64,
    /// Inodes of the host's namespaces, none of which may be the container's.
    pub(crate) host_namespaces: Vec<u64>,
    /// What becomes of programs for another ABI.
    pub(crate) foreign_abi: ForeignAbi,
    /// What of the host must not show in the container's mount table.
    pub(crate) hidden: Vec<HiddenTree>,
}

/// A part of the host that no mount may show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HiddenTree {
    /// Its path on the host.
    pub(crate) path: PathBuf,
    /// Where it lies; unknown where the runner's own mount table does not say.
    pub(crate) tree: Option<mount_table::Tree>,
}

/// The network namespace of an init.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NetworkNamespace {
    /// Its own, in which nothing is set up.
    Own,
    /// One that was ready before it, which the host's user namespace owns.
    Shared,
    /// One that was ready before it, which the parent of its user namespace owns; that has the same
    /// map of ids.
    SharedBelow,
}

/// Mounts that an unprivileged runner cannot prepare. The container's root can, in its own
/// namespaces, as long as the host's tree is in sight.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OwnMounts {
    /// Bytes and inodes of the scratch file system; without them it is sent.
    pub(crate) scratch: Option<(u64, u64)>,
    /// The layers from the lowest up, the workspace, the binds.
    pub(crate) trees: Vec<Tree>,
}

/// A tree in a container that an unprivileged runner puts up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Tree {
    /// One of the host.
    Own(OwnTree),
    /// The runner's, whose descriptor is sent.
    Sent,
}

/// A tree of the host that the init mounts by itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OwnTree {
    /// Absolute path without symbolic links.
    pub(crate) path: PathBuf,
    /// Whether it cannot be changed from inside.
    pub(crate) read_only: bool,
    /// Whether what is mounted below it comes along; otherwise nothing may be mounted there.
    pub(crate) recursive: bool,
}

/// Where to place a prepared mount.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bind {
    /// Absolute path inside, made where it is missing.
    pub(crate) target: String,
    /// Whether the mount is a directory; otherwise a file.
    pub(crate) directory: bool,
    /// Whether the container gets inodes of its own, so that locks, leases and watches on the
    /// files are not shared with the host and other containers; read-only directories only.
    pub(crate) own_inodes: bool,
}

/// From the runner, once the container is ready.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start a process. Descriptors: a memory file with a [`Program`], then standard input where
    /// `input`, output and error (none of these with `terminal`), then `join` control group files.
    Start {
        /// Names the process in later messages.
        id: u64,
        /// Control group files to write `0` to.
        join: usize,
        /// Whether its standard input comes along; otherwise it is the container's `/dev/null`.
        input: bool,
        /// Give it a pseudo-terminal, whose other side comes back with [`Reply::Started`].
        terminal: bool,
    },
    /// Send a signal to a process and its process group.
    Signal {
        /// Which process.
        id: u64,
        /// Signal number.
        signal: i32,
    },
}

/// From the init to a child of its that waits for a program. Descriptors: a memory file with a
/// [`Program`], then the slave side of its terminal or its three streams, then control group files.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Become {
    /// Whether it gets a terminal.
    pub(crate) terminal: bool,
}

/// What to run. The init never reads this: only the process that becomes the program does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    /// Program and arguments; the program is looked up in `PATH` of `env`.
    pub(crate) argv: Vec<String>,
    /// Environment; nothing else is in it but `HOME`, when that is not given.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory, made where it is missing.
    pub(crate) workdir: String,
    /// `user[:group]`, by name or number, as in an OCI image's config; empty means root.
    pub(crate) user: String,
    /// Files to write first, owned by that user.
    pub(crate) files: Vec<ProgramFile>,
}

/// A small file for a program, such as a script or a secret.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProgramFile {
    /// Absolute path inside.
    pub(crate) path: String,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Content.
    pub(crate) content: Vec<u8>,
}

/// From the init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The container stands and was verified. Descriptors: its root directory, its workspace, the
    /// directory of its steps' own files, `workspace_copies` mounts of its workspace, and its scratch mount where the init made it.
    Ready,
    /// Setting up failed; the init has ended.
    SetupFailed(Failure),
    /// The process runs. With a terminal, its master side comes along.
    Started {
        /// Which request.
        id: u64,
    },
    /// The process could not be started.
    StartFailed {
        /// Which request.
        id: u64,
        /// Why.
        failure: Failure,
    },
    /// The process has ended.
    Exited {
        /// Which request.
        id: u64,
        /// Wait status.
        status: i32,
        /// Microseconds of user time.
        user_us: u64,
        /// Microseconds of system time.
        system_us: u64,
        /// Largest resident set in bytes.
        max_rss: u64,
    },
}

/// A failure inside the container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What was being done ("failed to …").
    pub(crate) doing: String,
    /// The kernel's error number; 0 when it was not the kernel.
    pub(crate) errno: i32,
    /// The cause in words.
    pub(crate) cause: String,
    /// Whether the image or the job is to blame, and not the host.
    pub(crate) pipeline: bool,
}
