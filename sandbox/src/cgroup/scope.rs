//! A delegated group for an unprivileged caller that sits in none, as a login session has it.
//!
//! A session's processes are in `session-N.scope`, which belongs to root; the groups that the user
//! may write to are below `user@UID.service`, beside it, and only the service managers together can
//! move a process there. They are asked to, by `busctl`, for this process and its spawner: same
//! processes, same terminal, nothing started anew.

use std::{
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::{Pid, geteuid, getpid};

use super::hierarchy::Hierarchy;
use crate::{
    error::{Doing as _, Error, Result},
    host_program,
    spawner::Spawner,
};

/// How long the managers may take, in all; ordinarily some tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at whether it is done, which tells nobody.
const PAUSE: Duration = Duration::from_millis(1);
/// What is to be done where it cannot be.
const REMEDY: &str = "start it with `systemd-run --user --scope -p Delegate=yes`, or as a service \
                      with `Delegate=yes`; `cofferdam doctor` says what this host can enforce";

/// Moves this process and its spawner into a delegated group of their own. Does nothing where the
/// limits can be enforced from here, for root, who asks nobody, or where no service manager of this
/// user answers: what is missing then is told when the limits are.
///
/// # Errors
/// When there is a manager, and it refuses.
pub fn enter_scope(spawner: &Spawner) -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let lacks = Hierarchy::detect(&[spawner.pid()]).is_ok_and(|it| it.lacks_delegation());
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // Cron and `su` leave the variable out; the manager is there all the same if it lingers.
    let runtime = named.unwrap_or_else(|| format!("/run/user/{}", geteuid()).into());
    match host_program::find("busctl") {
        Some(busctl) if lacks && answers(&runtime) => {
            let processes = [getpid(), spawner.pid()];
            enter(&busctl, &runtime, processes).map_err(|error| error.remedy(REMEDY))
        }
        _ => Ok(()),
    }
}

/// Whether the user's message bus is there. It starts the manager's side of it when asked.
fn answers(runtime: &Path) -> bool {
    UnixStream::connect(runtime.join("bus")).is_ok()
}

fn enter(busctl: &Path, runtime: &Path, processes: [Pid; 2]) -> Result<()> {
    let doing = || "ask the user's service manager for a control group";
    let name = format!("cofferdam-{}.scope", getpid());
    let deadline = Instant::now() + PATIENCE;
    let output = command(busctl, runtime, &name, processes).output().system(doing)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        return Err(Error::system(doing(), said));
    }
    // It has been accepted, and is done a little later.
    while !is_in(&name).system(doing)? {
        if Instant::now() > deadline {
            return Err(Error::system(doing(), format!("`{name}` was not entered in 20 s")));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether this process is in the unit `name`.
fn is_in(name: &str) -> io::Result<bool> {
    Ok(fs::read_to_string("/proc/self/cgroup")?.trim_end().ends_with(&format!("/{name}")))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the service manager's own program speaks to it; it runs as the caller, before \
              anything else"
)]
fn command(busctl: &Path, runtime: &Path, name: &str, processes: [Pid; 2]) -> Command {
    let mut command = Command::new(busctl);
    command
        .args(["--user", "--quiet", "--timeout=10", "call", "org.freedesktop.systemd1"])
        .args(["/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"])
        .args(["StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", "4"])
        .args(["Description", "s", "cofferdam", "Delegate", "b", "true"])
        .args(["CollectMode", "s", "inactive-or-failed", "PIDs", "au", "2"])
        .args(processes.map(|it| it.to_string()))
        .arg("0")
        .env("XDG_RUNTIME_DIR", runtime)
        // One that names another bus, as in a terminal of an earlier session, would be asked instead
        // of the one that has answered.
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
    fn both_processes_are_named() {
        let processes = [7, 8].map(Pid::from_raw);
        let command = command(Path::new("busctl"), Path::new("/run/user/7"), "c.scope", processes);
        let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
        assert_eq!(
            arguments.join(" "),
            "--user --quiet --timeout=10 call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
             org.freedesktop.systemd1.Manager StartTransientUnit ssa(sv)a(sa(sv)) c.scope fail 4 \
             Description s cofferdam Delegate b true CollectMode s inactive-or-failed PIDs au 2 7 8 0"
        );
    }

    /// A manager that refuses is told in its own words, and is a fault of the host.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a copy that another process makes")]
    fn a_refusal_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let [written, program] = ["written", "busctl"].map(|name| directory.path().join(name));
        fs::write(&written, "#!/bin/sh\necho 'Call failed: Access denied' >&2\nexit 1\n").unwrap();
        fs::set_permissions(&written, fs::Permissions::from_mode(0o755)).unwrap();
        // By another process: one that a test beside this one forks holds for a moment what is open
        // here, and nobody can execute a file that somebody has open for writing.
        assert!(Command::new("cp").args([&written, &program]).status().unwrap().success());
        let error = enter(&program, directory.path(), [getpid(), getpid()]).unwrap_err();
        assert_eq!(error.fault(), crate::Fault::System);
        let text = crate::with_causes(&error);
        assert!(text.contains("service manager") && text.contains("Access denied"), "{text}");
    }
}
