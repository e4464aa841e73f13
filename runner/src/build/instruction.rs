//! What the steps of a build say, whatever language they were written in.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_jobs::dockerfile::ModeChange;
use cofferdam_sandbox::{Limits, ProgramFile, image::Image, network::Network};

use super::Change;

/// One step of a build.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What the image's history says of it.
    pub(crate) created_by: String,
    /// What is done.
    pub(crate) instruction: Instruction,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(crate) enum Instruction {
    /// Runs a program in a container of the image so far; what it writes is the step's layer.
    Run(Box<Run>),
    /// Puts files in. Nothing runs.
    Put(Put),
    /// Changes how containers of the image are started.
    Configure(Vec<Change>),
    /// Makes a directory where it is missing, and starts programs there.
    Enter(String),
}

/// A program that makes a layer.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The program and its arguments: for a script, its shell and the path of one of the files.
    pub(crate) argv: Vec<String>,
    /// What is written for it first: scripts, here-documents. Only what lies below
    /// `/run/cofferdam` is not part of the layer.
    pub(crate) files: Vec<ProgramFile>,
    /// Variables beside those of the image so far; these win.
    pub(crate) env: Vec<(String, String)>,
    /// Where it starts; otherwise where the image so far says.
    pub(crate) workdir: Option<String>,
    /// Who it is; otherwise who the image so far says.
    pub(crate) user: Option<String>,
    /// What it can reach.
    pub(crate) network: Network,
    /// What it may use, its wall time included.
    pub(crate) limits: Limits,
    /// Files that it sees beside those of the image so far.
    pub(crate) shown: Vec<Put>,
    /// Absolute paths of which nothing becomes part of its layer.
    pub(crate) aside: Vec<String>,
}

/// Files that are put into an image.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    /// Where they come from.
    pub(crate) from: Source,
    /// What of that, relative to its root. Of a directory, what is in it. With none, `to` is made
    /// as a directory where it is missing.
    pub(crate) paths: Vec<PathBuf>,
    /// Absolute. The place of the one file, or the directory that they get into: that is where it
    /// ends in a slash, where it is one, and where there are several.
    pub(crate) to: String,
    /// `user[:group]`, names of the image so far or numbers; otherwise root, or as in the image
    /// that they come from.
    pub(crate) owner: Option<String>,
    /// Permission bits; otherwise they stay.
    pub(crate) mode: Option<ModeChange>,
    /// Whether what there is in the directory `to` before is hidden.
    pub(crate) alone: bool,
}

/// Whether a path of a directory is taken, and whether it is a directory.
pub(crate) type Selects = Arc<dyn Fn(&Path, bool) -> bool + Send + Sync>;

/// Where files come from.
#[derive(Clone)]
pub(crate) enum Source {
    /// A directory of the host, and what of it there is to see. Links in it are not followed.
    Directory(PathBuf, Selects),
    /// Another image.
    Image(Arc<Image>),
    /// Names and contents.
    Files(Vec<(String, Vec<u8>)>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path, _) => f.debug_tuple("Directory").field(path).finish(),
            Self::Image(image) => f.debug_tuple("Image").field(&image.digest).finish(),
            Self::Files(files) => f.debug_tuple("Files").field(&files.len()).finish(),
        }
    }
}
