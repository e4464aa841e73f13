//! The command line.

mod build;
mod cache;
mod exec;
mod image;
mod logs;
mod mount;
mod plan;
mod pull;
mod run;
mod secret;
mod tip;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::Exit;

pub(crate) use build::BuildImage;
pub(crate) use cache::{Cache, CacheCommand};
pub(crate) use exec::{Exec, LimitArguments};
pub(crate) use image::{
    CommitImage, ExportFormat, ExportImage, Image, ImageCommand, PullImage, PushImage,
};
pub(crate) use logs::Logs;
pub(crate) use mount::MountArgument;
pub(crate) use plan::{Chosen, Explain, Plan};
pub(crate) use pull::Pull;
pub(crate) use run::{KeepState, Run};
pub(crate) use secret::{SecretArgument, SecretSource};
pub(crate) use tip::with_tip;

/// Run CI jobs in throwaway containers: strict, fast, and with an answer to why it failed.
#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Where images and runs are kept [default: /var/lib/cofferdam for root, the user's data
    /// directory otherwise]
    #[arg(
        long,
        global = true,
        env = "COFFERDAM_STATE",
        hide_env_values = true,
        value_name = "DIR",
        display_order = LAST
    )]
    pub(crate) state: Option<PathBuf>,

    /// The operator's configuration [default: /etc/cofferdam/config.yml for root, config.yml in
    /// the user's configuration directory otherwise]
    #[arg(
        long,
        global = true,
        env = "COFFERDAM_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        display_order = LAST
    )]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the options of all commands are listed: after the command's own.
const LAST: usize = 900;

const EXAMPLES: &str = "\
Examples:
  cofferdam run                              run ./cofferdam.yml
  cofferdam run ci.yml --job test            run one job and what it needs
  cofferdam exec host -- make test           one command in one throwaway container
  cofferdam image pull debian:12             an image from a registry
  cofferdam doctor                           what can this host enforce?

Exit status: 0 passed, 1 failed, 2 usage, 65 faults in the pipeline, 66 missing input,
70 the host failed, 78 faults in the configuration, 124 timed out, 130 cancelled.";

const CHECK_EXAMPLES: &str = "\
Examples:
  cofferdam check                            check ./cofferdam.yml
  cofferdam check ci.yml --json              the faults, for an editor or a bot
  cofferdam check - < ci.yml                 a pipeline that is no file

Exit status: 0 well-formed, 65 faults, 66 there is no such file.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  cofferdam doctor
  cofferdam doctor --json

Exit status: 0 jobs can run here, 70 no job can.";

const GC_EXAMPLES: &str = "\
Examples:
  cofferdam gc --dry-run
  cofferdam gc

It touches nothing that a live run holds. Each run cleans up after itself, and each start after the
runs that were killed, so there is rarely anything to do.

Exit status: 0 nothing is left, 70 something could not be removed.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  cofferdam completions bash > /etc/bash_completion.d/cofferdam
  cofferdam completions zsh > /usr/local/share/zsh/site-functions/_cofferdam
  cofferdam completions fish > ~/.config/fish/completions/cofferdam.fish";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline
    Run(Box<Run>),
    /// Run one command in one throwaway container
    Exec(Box<Exec>),
    /// Find the faults of a pipeline without running anything
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// The pipeline; `-` is standard input
        #[arg(default_value = DEFAULT_FILE)]
        file: PathBuf,
        /// Print the faults as JSON
        #[arg(long)]
        json: bool,
        /// Print the faults as SARIF, for code scanning
        #[arg(long, conflicts_with = "json")]
        sarif: bool,
    },
    /// Print what would run, in order
    Plan(Plan),
    /// Say why jobs and steps run or not, before a run or after it
    Explain(Explain),
    /// Print the JSON Schema of pipelines
    #[command(after_help = plan::SCHEMA_EXAMPLES)]
    Schema,
    /// Print what the steps of a run wrote
    Logs(Logs),
    /// Look after images
    Image(Image),
    /// Look after what jobs and builds have kept for the next ones
    Cache(Cache),
    /// Say what this host can enforce, and how to mend what it cannot
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor {
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what runs that were killed have left on this host
    #[command(after_help = GC_EXAMPLES)]
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Print what was removed, and what could not be, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The pipeline that is used when none is named.
pub(crate) const DEFAULT_FILE: &str = "cofferdam.yml";

impl Command {
    /// How a failure to begin at all ends the process.
    pub(crate) fn cannot_start(&self) -> Exit {
        if matches!(self, Self::Exec(_)) { Exit::NotStarted } else { Exit::System }
    }

    /// How a wrong configuration ends the process.
    pub(crate) fn misconfigured(&self) -> Exit {
        if matches!(self, Self::Exec(_)) { Exit::NotStarted } else { Exit::Configuration }
    }

    /// Whether containers are started, so that the spawner is needed.
    pub(crate) fn starts_containers(&self) -> bool {
        match self {
            // Each of its runs is a process of its own.
            Self::Run(run) => !run.watch,
            Self::Image(image) => matches!(image.command, ImageCommand::Build(_)),
            other => matches!(other, Self::Exec(_) | Self::Doctor { .. }),
        }
    }

    /// Whether files of images or containers are made, read or removed, which takes their ids; so
    /// does looking up what was built.
    pub(crate) fn handles_files(&self) -> bool {
        match self {
            Self::Image(_) | Self::Cache(_) | Self::Plan(_) => true,
            Self::Explain(explain) => explain.run.is_none(),
            other => other.starts_containers(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
