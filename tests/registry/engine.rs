//! A Docker engine of a test's own: `dockerd` in namespaces of processes and mounts that end with it.
//!
//! All that it keeps is in a temporary directory, or in a `/run` that nobody else sees. Only its control
//! groups are in sight of the host; they have a parent of their own, which is taken away at the end.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::binary::{Ended, PATIENCE, file, kill, program, wait};

/// The `/run` of the host keeps what other engines have there. `dockerd` is where a user's `PATH` may
/// not lead.
const START: &str = "PATH=$PATH:/usr/sbin:/sbin && mount -t tmpfs run /run && exec dockerd \"$@\"";

/// A running engine, ended when dropped.
pub(crate) struct Engine {
    child: Child,
    directory: TempDir,
    /// The name of its control groups' parent.
    group: String,
}

impl Engine {
    /// An engine that has no image, and that speaks to registries on loopback without encryption.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let group = format!("docker-{}", name.trim_start_matches('.'));
        let log = fs::File::create(path.join("log")).expect("its log");
        let child = program("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"])
            .args(["sh", "-c", START, "sh", "--config-file"])
            .arg(file(path, "daemon.json", "{}"))
            .arg("--data-root")
            .arg(path.join("data"))
            .arg("--exec-root")
            .arg(path.join("exec"))
            .arg("--pidfile")
            .arg(path.join("pid"))
            .arg("--host")
            .arg(host(path))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--insecure-registry=127.0.0.0/8", "--cgroup-parent"])
            .arg(format!("/{group}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log)
            .spawn()
            .expect("start unshare");
        let mut engine = Self { child, directory, group };
        let deadline = Instant::now() + PATIENCE;
        while engine.ask(&["version"]).status != 0 {
            let ended = engine.child.try_wait().expect("look at dockerd");
            let log = || fs::read_to_string(engine.directory.path().join("log"));
            assert!(ended.is_none(), "dockerd ended:\n{}", log().expect("its log"));
            assert!(Instant::now() < deadline, "dockerd hangs:\n{}", log().expect("its log"));
            std::thread::sleep(Duration::from_millis(50));
        }
        engine
    }

    /// Runs `docker` with these arguments; what it printed.
    #[track_caller]
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        self.ask(arguments).expect(0).stdout
    }

    fn ask<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ended {
        let path = self.directory.path();
        let docker = program("docker")
            .args(arguments)
            .env("DOCKER_HOST", host(path))
            .env("DOCKER_CONFIG", path)
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        wait(docker.expect("start docker"))
    }

    /// Its control groups that are there, the innermost first.
    fn groups(&self) -> Vec<PathBuf> {
        let entries = |directory: &Path| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        let root = Path::new("/sys/fs/cgroup");
        let mut groups = Vec::new();
        for hierarchy in std::iter::once(root.to_owned()).chain(entries(root)) {
            let parent = hierarchy.join(&self.group);
            groups.extend(entries(&parent));
            groups.extend(parent.is_dir().then_some(parent));
        }
        groups
    }
}

impl Drop for Engine {
    /// Ends the first process of its namespace, with which the kernel ends all others and the mounts.
    fn drop(&mut self) {
        let unshare = self.child.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        // There are none where it has ended by itself.
        let children = fs::read_to_string(children).unwrap_or_default();
        for dockerd in children.split_whitespace() {
            kill(dockerd.parse().expect("a pid"), Signal::SIGKILL);
        }
        self.child.wait().expect("wait for dockerd");
        for group in self.groups() {
            // One is in sight in two places, where controllers share a hierarchy.
            drop(fs::remove_dir(group));
        }
        if !std::thread::panicking() {
            assert_eq!(self.groups(), Vec::<PathBuf>::new(), "left behind by dockerd");
            let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            let path = self.directory.path().to_str().expect("a path that is text");
            assert!(!mounts.contains(path), "left behind by dockerd in\n{mounts}");
        }
    }
}

fn host(directory: &Path) -> String {
    format!("unix://{}/socket", directory.display())
}
