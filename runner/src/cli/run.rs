//! `cofferdam run`.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, ValueEnum};
use cofferdam_jobs::{model::quantity, state::KeepStates};

use super::{DEFAULT_FILE, MountArgument, Pull};
use crate::scratch::Scratch;

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    /// The pipeline
    #[arg(default_value = DEFAULT_FILE)]
    pub(crate) file: PathBuf,

    /// Run only this job and what it needs; can be repeated
    #[arg(short, long, value_name = "NAME")]
    pub(crate) job: Vec<String>,

    /// Set a parameter of the pipeline
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) param: Vec<String>,

    /// Hand over a secret; NAME alone takes the value from this environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) secret: Vec<String>,

    /// Hand over the secrets of a file with lines NAME=VALUE
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Vec<PathBuf>,

    /// Hand over the declared secrets that are files of this directory, by their names
    #[arg(long, value_name = "DIR")]
    pub(crate) secret_dir: Vec<PathBuf>,

    /// Hand over what a command of this host prints, such as `TOKEN=pass show ci/token`
    #[arg(long, value_name = "NAME=COMMAND")]
    pub(crate) secret_command: Vec<String>,

    /// Jobs of this run at the same time [default: the number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) max_parallel: Option<NonZeroUsize>,

    /// Processors that all running jobs of this run may ask for together, such as 3.5; more have to wait
    #[arg(long, value_name = "N", value_parser = quantity::millicpus)]
    pub(crate) max_cpus: Option<u64>,

    /// Memory that all running jobs of this run may ask for together, such as 8GiB; more have to wait
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) max_memory: Option<u64>,

    /// When images are pulled from their registries [default: what each job says, or missing]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) pull: Option<Pull>,

    /// Where what jobs write is kept [default: the configuration's, or auto]
    #[arg(long, value_enum, value_name = "WHERE")]
    pub(crate) scratch: Option<Scratch>,

    /// Keep the files of jobs in the image store, for `image commit` and `image diff`; with
    /// `=steps`, as they were after each step as well
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "jobs"
    )]
    pub(crate) keep_state: Option<KeepState>,

    /// Bytes that all caches may take, such as 20GiB; what was not used for longest goes first
    /// [default: 10GiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) cache_size: Option<u64>,

    /// Share caches with all runs that name the same scope [default: those of the same file]
    #[arg(long, value_name = "NAME")]
    pub(crate) cache_scope: Option<String>,

    /// Where the results go [default: a directory of the run's own in the state directory]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// The project that jobs see at /workspace [default: the current directory, when the pipeline
    /// is in or below it, otherwise the directory of the pipeline]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,

    /// Show a part of this host in every job, such as a toolchain or a mirror of packages
    #[arg(long, value_name = "SRC:DST[:ro]")]
    pub(crate) mount: Vec<MountArgument>,

    /// Let jobs and images that have a way out reach every public host, and print what they reached
    /// as the `network` that each of them needs
    #[arg(long)]
    pub(crate) learn_network: bool,

    /// Run again what a change in the project affects, until ^C
    #[arg(long)]
    pub(crate) watch: bool,

    /// Print the record of the run as JSON at the end
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which states are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeepState {
    /// Of each job, as it ended
    Jobs,
    /// After each step too: what a step leaves running ends there
    Steps,
}

impl From<KeepState> for KeepStates {
    fn from(keep: KeepState) -> Self {
        match keep {
            KeepState::Jobs => Self::Ends,
            KeepState::Steps => Self::Steps,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  cofferdam run
  cofferdam run ci.yml --job test --param profile=release
  TOKEN=… cofferdam run --secret TOKEN
  cofferdam run --max-parallel 8 --out results
  cofferdam run --mount /opt/toolchain:/opt/toolchain:ro
  cofferdam run --learn-network --job build
  cofferdam run --keep-state && cofferdam image diff last/build

In the directory of the results: run.json, junit.xml, logs/, artifacts/, results/.

Exit status: 0 passed, 1 a job failed, 65 faults in the pipeline, 66 missing input,
70 the host failed, 124 timed out, 130 cancelled, 141 nobody reads the output any more.";
