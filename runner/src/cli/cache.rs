//! `cofferdam cache`.

use clap::{Args, Subcommand};

/// Arguments of `cache`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

/// What to do with caches.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the caches that are kept, what was not used for longest first
    #[command(after_help = LS_EXAMPLES)]
    Ls {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove caches; those that are in use stay
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// Ids from `cofferdam cache ls`
        #[arg(required_unless_present = "all")]
        id: Vec<String>,
        /// Remove all caches
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// Print what became of each as a line of JSON
        #[arg(long)]
        json: bool,
    },
}

const EXAMPLES: &str = "\
Examples:
  cofferdam cache ls
  cofferdam cache rm 3f9c2a7b1d04
  cofferdam cache rm --all

These are the caches of jobs (`cache:`) and of builds (`RUN --mount=type=cache`). There is rarely
anything to do: what was not used for longest goes by itself (`cofferdam run --cache-size`).";

const LS_EXAMPLES: &str = "\
Examples:
  cofferdam cache ls
  cofferdam cache ls --json | jq 'map(.bytes) | add'";

const RM_EXAMPLES: &str = "\
Examples:
  cofferdam cache rm 3f9c2a7b1d04
  cofferdam cache rm --all

Exit status: 0 all are gone, 1 one is in use and stays, 66 there is no such cache.";
