//! What the steps of a build say, whatever language they were written in.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_jobs::dockerfile::ModeChange;
use cofferdam_sandbox::{Limits, ProgramFile, image::Image, network::Network};

use super::{CacheUse, Change, Configuration};
use crate::{log::secret::Secret, supervise::PATH};

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
    /// Secrets that it sees.
    pub(crate) secrets: Vec<SecretUse>,
    /// Directories that it finds as the last build left them.
    pub(crate) caches: Vec<CacheUse>,
}

/// Where and as whom a program runs, and with which variables.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) env: Vec<(String, String)>,
    pub(super) workdir: String,
    pub(super) user: String,
}

impl Run {
    /// In an image that is configured like this; later variables win over earlier ones.
    pub(super) fn place(&self, configuration: &Configuration) -> Place {
        let mut env: Vec<(String, String)> = vec![("PATH".to_owned(), PATH.to_owned())];
        for (name, value) in configuration.env().into_iter().chain(self.env.iter().cloned()) {
            match env.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => env.push((name, value)),
            }
        }
        Place {
            env,
            workdir: self.workdir.clone().unwrap_or_else(|| configuration.workdir()),
            user: self.user.clone().unwrap_or_else(|| configuration.user()),
        }
    }
}

/// A secret that a program sees. Nothing that is kept holds its value or depends on it: who has
/// another one gets the same layer, and who has none gets it too.
#[derive(Clone, Debug)]
pub(crate) struct SecretUse {
    /// What the build calls it.
    pub(crate) id: String,
    /// [`None`] where the caller gives none.
    pub(crate) value: Option<Secret>,
    /// The permissions of the file that holds it, at [`Self::path`], where there is to be one.
    pub(crate) file: Option<u32>,
    /// The variable that holds it.
    pub(crate) variable: Option<String>,
    /// Where it is to be seen besides [`Self::path`]: there is a link then. Whatever the program does
    /// to that, what it leads to is in no layer.
    pub(crate) link: Option<String>,
}

impl SecretUse {
    /// Where the file is: in memory, and in no layer.
    pub(crate) fn path(&self) -> String {
        format!("{SECRETS}/{}", self.id)
    }

    /// The link to it, where there is to be one and something to lead to.
    pub(super) fn shown(&self) -> Option<Put> {
        let to = self.link.clone().filter(|_| self.value.is_some())?;
        Some(Put {
            from: Source::Link(self.path()),
            paths: vec![PathBuf::from("link")],
            to,
            owner: None,
            mode: None,
            alone: false,
        })
    }
}

/// Where the secrets of a program are files.
const SECRETS: &str = "/run/secrets";

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
    /// Whatever is asked for is a symbolic link to this.
    Link(String),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path, _) => f.debug_tuple("Directory").field(path).finish(),
            Self::Image(image) => f.debug_tuple("Image").field(&image.digest).finish(),
            Self::Files(files) => f.debug_tuple("Files").field(&files.len()).finish(),
            Self::Link(target) => f.debug_tuple("Link").field(target).finish(),
        }
    }
}
