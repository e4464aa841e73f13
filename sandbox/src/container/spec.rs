//! What a container and a program in it shall be.

use std::{fs::File, io, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use super::{Container, State};
use crate::{Limits, ScratchKind, image::Image, init::message, network::ContainerNetwork};

/// Description of a container.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// The image to start from; its layers stay while this lives.
    pub image: Arc<Image>,
    /// What it may use.
    pub limits: Limits,
    /// Host name inside.
    pub hostname: String,
    /// A directory to show at `/workspace`; the container's changes to it are thrown away.
    pub workspace: Option<PathBuf>,
    /// A container whose workspace it has, and whose ids, so that both may write there; there is no
    /// workspace of its own then.
    pub beside: Option<Arc<Container>>,
    /// How many containers will be put up beside this one.
    pub workspace_copies: usize,
    /// What lies over the image and the project, from the lowest up.
    pub layers: Vec<Layer>,
    /// Whether other containers may start from what this one writes: see [`super::Container::state`].
    pub keep: bool,
    /// Host directories or files to show as well.
    pub mounts: Vec<Mount>,
    /// Where what it writes is kept.
    pub scratch: ScratchKind,
    /// What it may reach, and who is there with it.
    pub network: ContainerNetwork,
}

impl ContainerSpec {
    /// A container of `image` with the default limits, no workspace, no mounts and no network.
    pub fn new(image: Arc<Image>) -> Self {
        Self {
            image,
            limits: Limits::default(),
            hostname: "sandbox".to_owned(),
            workspace: None,
            beside: None,
            workspace_copies: 0,
            layers: Vec::new(),
            keep: false,
            mounts: Vec::new(),
            scratch: ScratchKind::default(),
            network: ContainerNetwork::default(),
        }
    }
}

impl ContainerSpec {
    /// Whether a container of one is a container of the other. Where that cannot be told by looking,
    /// it is not.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let Self {
            image,
            limits,
            hostname,
            workspace,
            beside,
            workspace_copies,
            layers,
            keep,
            mounts,
            scratch,
            network,
        } = self;
        Arc::ptr_eq(image, &other.image)
            && *limits == other.limits
            && *hostname == other.hostname
            && *workspace == other.workspace
            && beside.is_none()
            && other.beside.is_none()
            && *workspace_copies == other.workspace_copies
            && layers.len() == other.layers.len()
            && layers.iter().zip(&other.layers).all(|(layer, other)| layer.is(other))
            && *keep == other.keep
            && *mounts == other.mounts
            && *scratch == other.scratch
            && match (network, &other.network) {
                (ContainerNetwork::Own(network), ContainerNetwork::Own(other)) => network == other,
                _ => false,
            }
    }
}

/// Something that lies over a container's image and project and below what it writes. It is shown as
/// it stands: nothing of it is copied.
#[derive(Clone, Debug)]
pub enum Layer {
    /// What another container had written when it ended.
    State(Arc<State>),
    /// A directory of the host that stands for `/`; its `workspace` lies over the project.
    Tree(PathBuf),
}

impl Layer {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::State(state), Self::State(other)) => Arc::ptr_eq(state, other),
            (Self::Tree(path), Self::Tree(other)) => path == other,
            (Self::State(_), Self::Tree(_)) | (Self::Tree(_), Self::State(_)) => false,
        }
    }
}

/// A part of the host that the operator shows to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Path on the host.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: String,
    /// Whether it cannot be changed from inside.
    pub read_only: bool,
}

/// A program to run in a container.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The program, looked up in `PATH` of `env`, and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment; `HOME` is added from the user's entry where it is missing.
    pub env: Vec<(String, String)>,
    /// Working directory, made where it is missing; empty means `/`.
    pub workdir: String,
    /// `user[:group]` by name or number; empty means root of the container.
    pub user: String,
    /// Files that are written first, owned by that user.
    pub files: Vec<ProgramFile>,
}

/// A small file for a program.
#[derive(Clone)]
pub struct ProgramFile {
    /// Absolute path inside; a file that is there is replaced.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for ProgramFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The content may be a secret.
        f.debug_struct("ProgramFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Program {
    /// A program with arguments, in `/`, as root, with an empty environment.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub(crate) fn into_message(self) -> message::Program {
        let files = self.files.into_iter().map(|file| message::ProgramFile {
            path: file.path,
            mode: file.mode,
            content: file.content,
        });
        let workdir = if self.workdir.is_empty() { "/".to_owned() } else { self.workdir };
        message::Program {
            argv: self.argv,
            env: self.env,
            workdir,
            user: self.user,
            files: files.collect(),
        }
    }
}

/// Where a program reads and writes.
#[derive(Debug)]
pub enum Streams {
    /// Three descriptors, which only the program will hold.
    Plain {
        /// Standard input; without it the container's own `/dev/null`.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A pseudo-terminal of the container's own; see [`super::Process::terminal`].
    Terminal {
        /// Rows of characters.
        rows: u16,
        /// Columns of characters.
        columns: u16,
    },
}

impl Streams {
    /// No input, and output that goes nowhere.
    ///
    /// # Errors
    /// When the host's `/dev/null` cannot be opened.
    pub fn null() -> io::Result<Self> {
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        Ok(Self::Plain { stdin: None, stdout: null()?, stderr: null()? })
    }

    /// No input, and output to these.
    pub fn output(stdout: OwnedFd, stderr: OwnedFd) -> Self {
        Self::Plain { stdin: None, stdout, stderr }
    }
}
