//! The binary under test, with a state directory and an environment of its own.
//!
//! Nothing of the developer's environment reaches it but `PATH`, so that a test means the same on
//! every machine.

use std::{
    cell::RefCell,
    io::{Read as _, Write as _},
    marker::PhantomData,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{LazyLock, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Read by every test that starts the binary, written by one that watches the whole host.
static HOST: RwLock<()> = RwLock::new(());

/// The longest that a command of the tests may take, or what it brings about, before it counts as
/// hanging. Much more than a slow and busy machine needs: whoever waits for this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// How long the kernel and the safety net may take to clear up after a kill: less than what a test has
/// killed would have run on.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// The root of the repository: the project that the pipelines of the fixtures build.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where the tests keep what they make once for all: below the build directory, unless the
/// variable COFFERDAM_TESTS_DIRECTORY names another, as where that cannot be written to.
pub(crate) fn scratch() -> PathBuf {
    std::env::var_os("COFFERDAM_TESTS_DIRECTORY")
        .map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from)
}

/// The operator's configuration: none, unless the variable COFFERDAM_TESTS_CONFIG names one, as where
/// a host cannot enforce the limits of a user's containers.
pub(crate) fn configuration() -> PathBuf {
    std::env::var_os("COFFERDAM_TESTS_CONFIG").map_or_else(|| "/dev/null".into(), PathBuf::from)
}

/// A file of `fixtures/`.
pub(crate) fn fixture(path: &str) -> PathBuf {
    repository().join("fixtures").join(path)
}

/// A program of the host, for what a test arranges around the binary.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests drive the binary and the host's tools as a user does"
)]
pub(crate) fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(name)
}

/// skopeo, which reads nobody's credentials: those that the host has are not for every user.
pub(crate) fn skopeo() -> Command {
    let mut skopeo = program("skopeo");
    skopeo
        .arg("--insecure-policy")
        .env("REGISTRY_AUTH_FILE", fixture("images/no-credentials.json"));
    skopeo
}

/// Waits until no other test uses the binary, and keeps it so.
#[track_caller]
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    assert!(SHARES.with_borrow(|shares| shares.0 == 0), "this test would wait for itself");
    HOST.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A test's share of the host, side by side with others. A second one of the same test takes no lock:
/// it would wait behind a test that wants to be alone, which waits for the first.
struct Share(PhantomData<RwLockReadGuard<'static, ()>>);

thread_local! {
    static SHARES: RefCell<(usize, Option<RwLockReadGuard<'static, ()>>)> =
        const { RefCell::new((0, None)) };
}

impl Share {
    fn take() -> Self {
        SHARES.with_borrow_mut(|(count, guard)| {
            *count += 1;
            guard.get_or_insert_with(|| {
                HOST.read().unwrap_or_else(std::sync::PoisonError::into_inner)
            });
        });
        Self(PhantomData)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        SHARES.with_borrow_mut(|(count, guard)| {
            *count -= 1;
            if *count == 0 {
                *guard = None;
            }
        });
    }
}

/// Begun anew by each test process, so that it is never that of another build.
fn common_state() -> &'static Path {
    static MADE: LazyLock<PathBuf> = LazyLock::new(|| {
        let directory = scratch().join("state");
        remove(&directory);
        directory
    });
    &MADE
}

/// Removes a state directory. Where this is not root, images in it have files of subordinate ids,
/// which are in reach of a user namespace only.
fn remove(directory: &Path) {
    match std::fs::remove_dir_all(directory) {
        Ok(()) => return,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(_) => {}
    }
    let status = program("unshare")
        .args(["--map-root-user", "--map-auto", "rm", "-rf", "--"])
        .arg(directory)
        .status();
    let removed = status.is_ok_and(|status| status.success());
    assert!(removed || std::thread::panicking(), "`{}` cannot be removed", directory.display());
}

/// The binary with a state directory.
pub(crate) struct Cofferdam {
    state: State,
    directory: PathBuf,
    variables: Vec<(String, String)>,
    _share: Option<Share>,
}

enum State {
    /// One test's, removed in the end.
    Own(TempDir),
    /// Where a test has arranged it.
    At(PathBuf),
    /// The build directory's, used by all tests that leave nothing in it, as a user's is by all runs.
    Common(&'static Path),
}

impl Cofferdam {
    /// With a state directory of its own, side by side with other tests.
    pub(crate) fn new() -> Self {
        Self::with(State::own(), Some(Share::take()))
    }

    /// With the state directory that tests share, in which the host image is ready.
    pub(crate) fn common() -> Self {
        Self::with(State::Common(common_state()), Some(Share::take()))
    }

    /// With a state directory of its own, for a test that holds [`alone`].
    pub(crate) fn unshared() -> Self {
        Self::with(State::own(), None)
    }

    fn with(state: State, share: Option<Share>) -> Self {
        Self { state, directory: repository().to_owned(), variables: Vec::new(), _share: share }
    }

    /// The state directory; its path is in the environment of every process of this instance.
    pub(crate) fn state(&self) -> &Path {
        match &self.state {
            State::Own(directory) => directory.path(),
            State::At(directory) => directory,
            State::Common(directory) => directory,
        }
    }

    /// The directory that the binary is started in: the workspace, unless told otherwise.
    pub(crate) fn in_directory(mut self, directory: &Path) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// With another state directory.
    pub(crate) fn with_state(mut self, directory: &Path) -> Self {
        self.state = State::At(directory.to_owned());
        self
    }

    /// One more variable in the caller's environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command, ready to be started.
    pub(crate) fn command<A: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = program(env!("CARGO_BIN_EXE_cofferdam"));
        command
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("COFFERDAM_STATE", self.state())
            .env("COFFERDAM_CONFIG", configuration())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// As [`Self::command`], started by another program of the host's, in this process' directory.
    pub(crate) fn command_by(&self, name: &str, before: &[&str], arguments: &[&str]) -> Command {
        let plain = self.command(arguments);
        let mut by = program(name);
        by.args(before).arg(plain.get_program()).args(plain.get_args()).env_clear();
        for (name, value) in plain.get_envs() {
            by.envs(value.map(|value| (name, value)));
        }
        by.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        by
    }

    /// Runs it to its end.
    pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Ended {
        wait(self.command(arguments).spawn().expect("start cofferdam"))
    }

    /// Runs `script` in the host image; `flags` come before the command.
    pub(crate) fn script(&self, flags: &[&str], script: &str) -> Ended {
        self.script_in("host", flags, script)
    }

    /// Runs `script` with `sh` in `image`.
    pub(crate) fn script_in(&self, image: &str, flags: &[&str], script: &str) -> Ended {
        let command = ["--", "sh", "-c", script];
        self.run(["exec", image].iter().chain(flags).chain(&command))
    }
}

impl State {
    fn own() -> Self {
        Self::Own(tempfile::Builder::new().prefix("cofferdam-test-").tempdir().expect("state"))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Self::Own(directory) = self {
            remove(directory.path());
        }
    }
}

impl Drop for Cofferdam {
    /// Every test ends with this: no instance has left its journal, so none has left anything.
    fn drop(&mut self) {
        if std::thread::panicking() || matches!(self.state, State::Common(_)) {
            return;
        }
        let instances = self.state().join("instances");
        let left = || std::fs::read_dir(&instances).map_or(0, Iterator::count);
        // The safety net of a runner that was killed works on after the runner's end.
        let deadline = Instant::now() + GRACE;
        while left() > 0 {
            assert!(Instant::now() < deadline, "left behind in `{}`", instances.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit status; 128 and the signal's number where a signal ended it.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// What was printed to standard output, where it need not be text.
    pub(crate) bytes: Vec<u8>,
    pub(crate) took: Duration,
}

impl Ended {
    /// Both outputs, for a message that may be in either.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Asserts the exit status, and shows what was printed where it differs.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(
            self.status, status,
            "wrong exit status\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Asserts that every word is in what was printed.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.text().contains(word),
                "`{word}` is not in\n--- stdout\n{}\n--- stderr\n{}",
                self.stdout,
                self.stderr
            );
        }
        self
    }
}

/// Waits for the end of a started command and reads what it printed; kills it when it hangs.
pub(crate) fn wait(mut child: Child) -> Ended {
    let started = Instant::now();
    let pid = child.id();
    let (finished, watch) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let hangs = watch.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if hangs {
            kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        hangs
    });
    let mut errors = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        errors.as_mut().map(|pipe| pipe.read_to_end(&mut bytes));
        bytes
    });
    let mut stdout = Vec::new();
    child.stdout.take().map(|mut pipe| pipe.read_to_end(&mut stdout));
    let stderr = reader.join().expect("read stderr");
    let status = child.wait().expect("wait for the command");
    finished.send(()).expect("tell the watchdog");
    let hung = watchdog.join().expect("watchdog");
    let ended = Ended::from_parts(Output { status, stdout, stderr }, started.elapsed());
    assert!(!hung, "hung for {PATIENCE:?}\n{}", ended.text());
    ended
}

impl Ended {
    fn from_parts(output: Output, took: Duration) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let status = match (output.status.code(), output.status.signal()) {
            (Some(code), _) => code,
            (None, signal) => 128 + signal.unwrap_or(0),
        };
        Self {
            status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            bytes: output.stdout,
            took,
        }
    }
}

/// Sends a signal to a process that the test started.
pub(crate) fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    // A process that has ended by itself needs no signal.
    let _ = nix::sys::signal::kill(pid, signal);
}

/// Waits for something that another process brings about.
#[track_caller]
pub(crate) fn await_that(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come about in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A copy of a program at `to`. Another process writes it: what this one starts beside the test holds,
/// for a moment, what is open here, and nobody can execute a file that somebody has open for writing.
pub(crate) fn copy_program(from: impl AsRef<Path>, to: &Path) {
    let copied = program("cp").args([from.as_ref(), to]).status().expect("run cp");
    assert!(copied.success(), "`{}` cannot be copied", from.as_ref().display());
}

/// A file with `text` in `directory`.
pub(crate) fn file(directory: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    let mut file = std::fs::File::create(&path).expect("create a file");
    file.write_all(text.as_ref()).expect("write a file");
    path
}
