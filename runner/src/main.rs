//! The `cofferdam` binary: command line in, pipeline runs in throwaway containers, results out.

mod cli;
mod command;
mod exec;
mod execute;
mod exit;
mod log;
mod print;
mod problem;
mod report;
mod state;
mod supervise;
mod variables;

use std::process::ExitCode;

use clap::Parser as _;
use cofferdam_sandbox::spawner;

use cli::Cli;
use problem::Problem;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // First of all, while there is one thread and no secret was read.
    let spawner = if cli.command.starts_containers() {
        match spawner::start() {
            Ok(spawner) => Some(spawner),
            Err(error) => return end(Err(Problem::sandbox(cli.command.cannot_start(), error))),
        }
    } else {
        None
    };
    end(command::run(cli, spawner))
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
