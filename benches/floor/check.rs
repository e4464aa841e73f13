//! That the floor's container is one, and how it is run many times.

use std::{
    ffi::CString,
    io,
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    sys::wait::{WaitStatus, waitpid},
    unistd::{pipe2, read},
};

use super::Floor;
use crate::sys::process;

/// Exits with the number of the first line that does not hold.
const PROOF: &str = "
grep -q '^overlay / overlay rw,' /proc/mounts || exit 2
test $$ = 1 && test $(id -u) = 0 || exit 3
touch /written && test ! -e /proc/2 || exit 4
grep -q '^Seccomp:.2' /proc/self/status && grep -q '^NoNewPrivs:.1' /proc/self/status || exit 5
grep -q ' 1862270976 ' /proc/self/uid_map || exit 6
test -c /dev/null && test -d /sys/kernel && test ! -e /etc/passwd || exit 7
test $(cat /proc/net/dev | grep -c :) = 1 || exit 8
grep -q ':memory:/$' /proc/self/cgroup || grep -q '^0::/$' /proc/self/cgroup || exit 9
exit 42
";

impl Floor {
    /// # Errors
    /// When the program does not run inside of what was promised.
    pub(crate) fn prove(&mut self) -> io::Result<()> {
        let argv = [c"/bin/sh", c"-c"].map(Into::into).into_iter();
        let argv: Vec<CString> = argv.chain([CString::new(PROOF)?]).collect();
        match self.run(&argv)? {
            WaitStatus::Exited(_, 42) => Ok(()),
            other => Err(io::Error::other(format!("the floor's container is none: {other:?}"))),
        }
    }

    /// Runs `true`.
    pub(crate) fn run_true(&mut self) -> io::Result<()> {
        match self.run(&[c"/bin/true".into()])? {
            WaitStatus::Exited(_, 0) => Ok(()),
            other => Err(io::Error::other(format!("`true` ended with {other:?}"))),
        }
    }

    /// How long so many processes take to run `each` containers each.
    pub(crate) fn at_once(&mut self, processes: usize, each: usize) -> io::Result<Duration> {
        let (started, start) = pipe2(OFlag::O_CLOEXEC)?;
        let mut children = Vec::new();
        for _ in 0..processes {
            match process::fork()? {
                Some(child) => children.push(child),
                None => {
                    drop(start);
                    // Readable when the parent closes its end.
                    let ran = read(&started, &mut [0]).map_err(io::Error::from);
                    let ran = ran.and_then(|_| (0..each).try_for_each(|_| self.run_true()));
                    process::exit_now(i32::from(ran.is_err()))
                }
            }
        }
        let began = Instant::now();
        drop(start);
        for child in children {
            match waitpid(child, None)? {
                WaitStatus::Exited(_, 0) => {}
                other => return Err(io::Error::other(format!("a worker ended with {other:?}"))),
            }
        }
        Ok(began.elapsed())
    }
}
