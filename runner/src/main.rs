//! The `cofferdam` binary: command line in, pipeline runs in throwaway containers, results out.

mod build;
mod cli;
mod command;
mod configuration;
mod exec;
mod execute;
mod exit;
mod git;
mod hexadecimal;
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
use cofferdam_sandbox::{
    Result, cgroup, enter_user_namespace,
    spawner::{self, Spawner},
};
use tracing_subscriber::filter::LevelFilter;

use cli::{Cli, Command};
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
            let error = cli::with_tip(error);
            error.print().ok();
            return u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()).into();
        }
    };
    match prepare(&cli.command, spawner) {
        Ok(spawner) => end(command::run(cli, spawner)),
        Err(error) => end(Err(Problem::sandbox(cli.command.cannot_start(), error))),
    }
}

/// Moves this process where the command can be done, while it has one thread; the spawner, where the
/// command needs it.
fn prepare(command: &Command, spawner: Result<Spawner>) -> Result<Option<Spawner>> {
    if !command.handles_files() {
        return Ok(None);
    }
    if !command.starts_containers() {
        // Where there is none, files are handled as this user's own.
        return spawner.map_or(Ok(()), |spawner| enter_user_namespace(&spawner)).map(|()| None);
    }
    let spawner = spawner?;
    // A login session has no control group that is the user's.
    cgroup::enter_scope(&spawner)?;
    enter_user_namespace(&spawner)?;
    Ok(Some(spawner))
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

fn end(result: std::result::Result<u8, Problem>) -> ExitCode {
    match result {
        Ok(status) => status.into(),
        Err(problem) => {
            problem.print();
            problem.exit().into()
        }
    }
}
