//! A login session has no control group that is the user's; where it is so, this program starts
//! itself anew in one that is, before it did anything.

use std::os::unix::process::CommandExt as _;

use cofferdam_sandbox::{cgroup, spawner::Spawner};

use crate::{exit::Exit, problem::Problem};

/// Gives the spawner back where nothing is to be done, or nothing can be: the sandbox says then what
/// is missing. Otherwise it does not return.
pub(crate) fn ensure(spawner: Spawner) -> Result<Spawner, Problem> {
    let program = std::env::current_exe().ok();
    let scope = program.and_then(|program| cgroup::scope_for(&program, &spawner));
    let Some(mut command) = scope else { return Ok(spawner) };
    // The program that takes this one's place has a spawner of its own.
    drop(spawner);
    let error = command.args(std::env::args_os().skip(1)).exec();
    Err(Problem::new(Exit::System, "failed to start in a control group of your own")
        .because(error)
        .remedy("`cofferdam doctor` says what this host can enforce"))
}
