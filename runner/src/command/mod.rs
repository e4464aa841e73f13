//! From a parsed command line to the room that does the work.

mod cache;
mod check;
mod doctor;
mod explain;
mod gc;
mod image;
mod logs;
mod plan;
mod sarif;
mod watch;

use std::io;

use clap::CommandFactory as _;
use cofferdam_jobs::Configuration;
use cofferdam_sandbox::spawner::Spawner;

use crate::{
    cli::{Cli, Command, ImageCommand},
    configuration, exec, execute,
    exit::Exit,
    print,
    problem::Problem,
    state,
};

/// Runs the command; returns the status that this process shall end with.
pub(crate) fn run(cli: Cli, spawner: Option<Spawner>) -> Result<u8, Problem> {
    // Neither of them does anything that an operator has a say in.
    let configuration = match &cli.command {
        Command::Check { .. } | Command::Completions { .. } | Command::Schema => {
            Configuration::default()
        }
        _ => configuration::load(cli.config.as_deref(), cli.command.misconfigured())?,
    };
    let state = || state::directory(cli.state.clone(), &configuration);
    match (cli.command, spawner) {
        (Command::Exec(arguments), Some(spawner)) => {
            let state = state()?;
            block_on(exec::run(*arguments, &configuration, &state, spawner))
        }
        (Command::Run(arguments), _) if arguments.watch => {
            block_on(watch::run(&arguments, &configuration))
        }
        (Command::Run(arguments), Some(spawner)) => {
            let state = state()?;
            block_on(execute::run(*arguments, &configuration, &state, spawner))
        }
        (Command::Check { file, json, sarif }, _) => check::run(&file, json, sarif),
        (Command::Plan(arguments), _) => plan::run(&arguments, &configuration, &state),
        (Command::Explain(arguments), _) => explain::run(&arguments, &configuration, &state),
        (Command::Schema, _) => {
            let schema = serde_json::to_string_pretty(&cofferdam_jobs::schema());
            print::standard_output(schema.unwrap_or_default())?;
            Ok(Exit::Passed.code())
        }
        (Command::Logs(arguments), _) => logs::run(&arguments, &state()?),
        (Command::Image(image), spawner) => {
            let state = state()?;
            match (image.command, spawner) {
                (ImageCommand::Build(arguments), Some(spawner)) => {
                    block_on(image::build(*arguments, &configuration, &state, spawner))
                }
                (command, _) => image::run(command, &configuration, &state),
            }
        }
        (Command::Cache(cache), _) => cache::run(cache.command, &state()?),
        (Command::Gc { dry_run, json }, _) => gc::run(&state()?, dry_run, json),
        (Command::Completions { shell }, _) => {
            clap_complete::generate(shell, &mut Cli::command(), "cofferdam", &mut io::stdout());
            Ok(Exit::Passed.code())
        }
        (Command::Doctor { json }, Some(spawner)) => {
            let state = state()?;
            block_on(async move { doctor::run(json, &state, spawner).await })
        }
        // `main` starts the spawner for exactly these.
        (Command::Run(_) | Command::Exec(_) | Command::Doctor { .. }, None) => {
            Err(Problem::new(Exit::System, "the spawner was not started"))
        }
    }
}

/// One thread is enough: what can block is given to tokio's blocking threads.
fn block_on<T>(future: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Problem::new(Exit::System, "failed to start the event loop").because(error)
    })?;
    let result = runtime.block_on(future);
    // A thread that reads the keyboard would be waited for otherwise.
    runtime.shutdown_background();
    result
}
