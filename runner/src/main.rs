//! The `cofferdam` binary: command line in, pipeline runs in throwaway containers, results out.

mod build;
mod cli;
mod command;
mod configuration;
mod exec;
mod execute;
mod exit;
mod git;
mod image_bounds;
mod images;
mod limits;
mod log;
mod network;
mod print;
mod problem;
mod registry;
mod report;
mod scratch;
mod state;
mod supervise;
mod variables;

use std::process::ExitCode;

use clap::Parser as _;
use cofferdam_sandbox::{cgroup, spawner};
use tracing_subscriber::filter::LevelFilter;

use cli::Cli;
use exit::Exit;
use problem::Problem;

fn main() -> ExitCode {
    // First of all, while there is one thread and nothing was read: the command line may hold
    // secrets, and every container's init is a copy of the spawner.
    let spawner = spawner::start();
    show_warnings();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Standard error is gone then, and the status says the same.
            error.print().ok();
            return u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()).into();
        }
    };
    if !cli.command.starts_containers() {
        drop(spawner);
        return end(command::run(cli, None));
    }
    // A login session has no control group that is the user's.
    match spawner.and_then(|spawner| cgroup::enter_scope(&spawner).map(|()| spawner)) {
        Ok(spawner) => end(command::run(cli, Some(spawner))),
        Err(error) => end(Err(Problem::sandbox(cli.command.cannot_start(), error))),
    }
}

/// What went wrong beside the work, such as something that could not be removed, goes to standard
/// error; nothing depends on it.
fn show_warnings() {
    let stderr = std::io::stderr();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_ansi(std::io::IsTerminal::is_terminal(&stderr))
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
}

fn end(result: Result<u8, Problem>) -> ExitCode {
    match result {
        Ok(status) => status.into(),
        Err(problem) => {
            problem.print();
            problem.exit().into()
        }
    }
}
