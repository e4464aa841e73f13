//! `cofferdam plan`, `cofferdam explain` and `cofferdam schema`.

use std::path::PathBuf;

use clap::Args;

use super::DEFAULT_FILE;

/// A pipeline and what is chosen of it.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Only this job and what it needs; can be repeated
    #[arg(short, long, value_name = "NAME")]
    pub(crate) job: Vec<String>,

    /// Set a parameter of the pipeline
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) param: Vec<String>,

    /// The project [default: the current directory, when the pipeline is in or below it, otherwise
    /// the directory of the pipeline]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = PLAN_EXAMPLES)]
pub(crate) struct Plan {
    /// The pipeline; `-` is standard input
    #[arg(default_value = DEFAULT_FILE)]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) chosen: Chosen,

    #[command(flatten)]
    pub(crate) form: PlanForm,
}

/// How a plan is printed; a table where nothing is said.
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PlanForm {
    /// Print which job waits for which, as a tree
    #[arg(long)]
    pub(crate) tree: bool,

    /// Print everything, as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Print the graph of jobs for Graphviz
    #[arg(long)]
    pub(crate) dot: bool,

    /// Print the graph of jobs for Mermaid
    #[arg(long)]
    pub(crate) mermaid: bool,
}

const PLAN_EXAMPLES: &str = "\
Examples:
  cofferdam plan                             the jobs that `cofferdam run` would run
  cofferdam plan --tree --job test           what one job waits for
  cofferdam plan --dot | dot -Tsvg > plan.svg

Exit status: 0 there is a plan, 2 usage, 65 faults in the pipeline, 66 there is no such file.";

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(crate) struct Explain {
    /// Only this job, by its name or id
    pub(crate) job: Option<String>,

    /// The pipeline
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub(crate) file: PathBuf,

    /// Set a parameter of the pipeline
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) param: Vec<String>,

    /// Explain a run that has ended: its id, the directory of its results, or `last`
    #[arg(short, long, value_name = "RUN", conflicts_with_all = ["file", "param"])]
    pub(crate) run: Option<PathBuf>,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  cofferdam explain test                     why and how `test` will run
  cofferdam explain test --run results       why it ended as it did, in ./results

Exit status: 0 explained, 2 usage, 65 faults in the pipeline, 66 there is no such file or run.";

pub(crate) const SCHEMA_EXAMPLES: &str = "\
Examples:
  cofferdam schema > cofferdam.schema.json   for an editor's YAML support";
