//! A delegated group for an unprivileged caller that sits in none, as a login session has it.
//!
//! A session's processes are in `session-N.scope`, which belongs to root; the groups that the user
//! may write to are below `user@UID.service`, beside it, and only the service managers together can
//! move a process there. `systemd-run --user --scope` asks them to, and then becomes the program
//! that it is given: same process, same terminal, same exit status.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::geteuid;

use super::hierarchy::Hierarchy;
use crate::spawner::Spawner;

/// Set for the program that was started in a scope, so that it does not ask for another.
const ASKED: &str = "COFFERDAM_IN_SCOPE";

/// Where `systemd-run` may be.
const DIRECTORIES: [&str; 3] = ["/usr/bin", "/bin", "/run/current-system/sw/bin"];

/// The command that starts `program` in a delegated group of its own, its arguments to be added;
/// none where the limits can be enforced from here, for root, who asks nobody, or where no service
/// manager of this user answers.
pub fn scope_for(program: &Path, spawner: &Spawner) -> Option<Command> {
    if geteuid().is_root() || std::env::var_os(ASKED).is_some() {
        return None;
    }
    if !Hierarchy::detect(&[spawner.pid()]).ok()?.lacks_delegation() {
        return None;
    }
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // Cron and `su` leave the variable out; the manager is there all the same if it lingers.
    let runtime = named.unwrap_or_else(|| format!("/run/user/{}", geteuid()).into());
    let system_run =
        DIRECTORIES.iter().map(|it| Path::new(it).join("systemd-run")).find(|it| it.is_file())?;
    answers(&runtime).then(|| command(&system_run, &runtime, program))
}

/// Whether the user's message bus is there. It starts the manager's side of it when asked.
fn answers(runtime: &Path) -> bool {
    UnixStream::connect(runtime.join("bus")).is_ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the service manager's own program moves this process; it runs as the caller, before \
              anything else"
)]
fn command(system_run: &Path, runtime: &Path, program: &Path) -> Command {
    let mut command = Command::new(system_run);
    command
        .args(["--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes"])
        .args(["--description=cofferdam", "--"])
        .arg(program)
        .env("XDG_RUNTIME_DIR", runtime)
        // One that names another bus, as in a terminal of an earlier session, would be asked instead
        // of the one that has answered.
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .env(ASKED, "1");
    command
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn only_a_bus_that_answers_counts() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!answers(directory.path()), "nothing is there");
        let listener =
            std::os::unix::net::UnixListener::bind(directory.path().join("bus")).unwrap();
        assert!(answers(directory.path()));
        drop(listener);
        assert!(!answers(directory.path()), "left by a manager that has ended");
    }

    #[test]
    fn the_program_comes_last() {
        let command = command(
            Path::new("/usr/bin/systemd-run"),
            Path::new("/run/user/7"),
            Path::new("/bin/cofferdam"),
        );
        let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
        assert_eq!(
            arguments.join(" "),
            "--user --scope --quiet --collect --property=Delegate=yes --description=cofferdam \
             -- /bin/cofferdam"
        );
        let environment: Vec<_> = command.get_envs().collect();
        let expected = [
            (ASKED, Some("1")),
            ("DBUS_SESSION_BUS_ADDRESS", None),
            ("XDG_RUNTIME_DIR", Some("/run/user/7")),
        ];
        let os = |(name, value): (&'static str, Option<&'static str>)| {
            (OsStr::new(name), value.map(OsStr::new))
        };
        assert_eq!(environment, expected.map(os));
    }
}
