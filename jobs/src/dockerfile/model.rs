//! What a Dockerfile says, typed, with places.

use super::{mode::ModeChange, word::Word};
use crate::source::{Span, Spanned};

/// A whole file that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct Dockerfile {
    /// The character that takes the meaning from the next one: `\`, or a backtick.
    pub escape: char,
    /// `ARG` before the first stage, for `FROM` lines.
    pub arguments: Vec<Argument>,
    /// In the order of the file; at least one.
    pub stages: Vec<Stage>,
}

/// From one `FROM` to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// What it starts from: an image, an earlier stage, or `scratch`.
    pub from: Word,
    /// `--platform`.
    pub platform: Option<Word>,
    /// `AS NAME`, in lower case.
    pub name: Option<Spanned<String>>,
    /// What is done, in order.
    pub instructions: Vec<Instruction>,
    /// The `FROM` line.
    pub span: Span,
}

/// One instruction of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// What to do.
    pub kind: Kind,
    /// As it is written, its lines joined.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// What an instruction does.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `ARG`
    Argument(Vec<Argument>),
    /// `ENV`
    Environment(Vec<Assignment>),
    /// `LABEL`
    Label(Vec<Assignment>),
    /// `RUN`
    Run(Run),
    /// `COPY` and `ADD`
    Copy(Copy),
    /// `WORKDIR`
    Workdir(Word),
    /// `USER`
    User(Word),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `CMD`
    Command(Command),
    /// `SHELL`
    Shell(Vec<String>),
    /// `EXPOSE`
    Expose(Vec<Word>),
    /// `VOLUME`
    Volume(Vec<Word>),
    /// `STOPSIGNAL`
    StopSignal(Word),
    /// `MAINTAINER`
    Maintainer(String),
    /// `HEALTHCHECK`
    Health(Health),
    /// `ONBUILD`
    Trigger(Trigger),
}

/// A variable of `ARG`.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// Its name.
    pub name: Spanned<String>,
    /// Its value where the caller gives none.
    pub default: Option<Word>,
}

/// `KEY=VALUE` of `ENV` and `LABEL`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The key, in which variables are put in as well.
    pub key: Word,
    /// The value.
    pub value: Word,
}

/// A program to start.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// For the shell.
    Shell(String),
    /// The program and its arguments.
    Exec(Vec<String>),
}

/// `RUN`
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The program.
    pub command: Command,
    /// A script that starts with `#!` and so is not for the shell; `command` is empty then.
    pub script: Option<String>,
    /// `--mount`
    pub mounts: Vec<Mount>,
    /// `--network`
    pub network: Option<Spanned<RunNetwork>>,
}

/// What a `RUN` can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunNetwork {
    /// What the build can.
    Default,
    /// Nothing.
    None,
}

/// Where `COPY`, `ADD` and mounts take files from, other than the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFrom {
    /// An earlier stage, by its number.
    Stage(usize),
    /// An image.
    Image(String),
}

/// `COPY` and `ADD`
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// Whether archives are unpacked: `ADD`.
    pub unpack: bool,
    /// `--from`; without it the context.
    pub from: Option<Spanned<CopyFrom>>,
    /// `--chown`
    pub owner: Option<Word>,
    /// `--chmod`
    pub mode: Option<Spanned<ModeChange>>,
    /// `--exclude`
    pub exclude: Vec<Word>,
    /// Files or directories, perhaps with wildcards.
    pub sources: Vec<Word>,
    /// Files that are written in the Dockerfile itself.
    pub inline: Vec<Inline>,
    /// Where to; a directory where it ends with a slash.
    pub destination: Word,
}

/// A file that is written in the Dockerfile itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Inline {
    /// Its name, where the destination is a directory.
    pub name: String,
    /// What is in it.
    pub content: Word,
}

/// `--mount` of a `RUN`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// What is shown.
    pub kind: MountKind,
    /// Where in the container.
    pub target: Option<Word>,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// The flag.
    pub span: Span,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind {
        /// Where from.
        from: Option<Spanned<CopyFrom>>,
        /// Which directory or file; all where it says nothing.
        source: Option<Word>,
    },
    /// A directory that is kept from one build to the next.
    Cache {
        /// Its name; the target where it says nothing.
        id: Option<Word>,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// The permissions of a new one.
        mode: u32,
        /// The owner of a new one.
        owner: (u32, u32),
    },
    /// A directory in memory.
    Tmpfs {
        /// Bytes, where it says so.
        size: Option<u64>,
    },
    /// A secret of the caller's.
    Secret {
        /// Its name.
        id: Word,
        /// The variable that holds it, where it is not only a file.
        variable: Option<String>,
        /// Whether the build fails where the caller does not give it.
        required: bool,
        /// The permissions of the file.
        mode: u32,
        /// The owner of the file.
        owner: (u32, u32),
    },
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All.
    Shared,
    /// Each its own.
    Private,
    /// One after the other.
    Locked,
}

/// `HEALTHCHECK`
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// `NONE`: not even what the base image says.
    None,
    /// A command.
    Check(HealthCheck),
}

/// A command that says whether a container is well. Times are in nanoseconds; 0 is the engine's
/// own.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// The command.
    pub command: Command,
    /// `--interval`
    pub interval: u64,
    /// `--timeout`
    pub timeout: u64,
    /// `--start-period`
    pub start_period: u64,
    /// `--start-interval`
    pub start_interval: u64,
    /// `--retries`
    pub retries: u64,
}

/// An instruction for images that are built on this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// As it is written.
    pub text: String,
}
