//! `cofferdam logs`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Logs {
    /// The run: its id, or the directory of its results [default: the last one]
    pub(crate) run: Option<PathBuf>,

    /// Only this job, by its name or id
    #[arg(short, long, value_name = "NAME")]
    pub(crate) job: Option<String>,

    /// Put the time before each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
}

const EXAMPLES: &str = "\
Examples:
  cofferdam logs                       the output of the last run
  cofferdam logs --job 'test (2)' -t   one job, with the time of each line
  cofferdam logs results               a run whose results are in ./results";
