//! An instance of one test, and processes that enter its groups.

use std::{
    io::Write as _,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use super::super::{
    Enforcement, Group, GroupOptions, Hierarchy, Instance, controller::Controller, file,
};
use crate::{limits::Limits, tests::not_run};

/// An instance of one test; its groups are removed with it.
pub(super) struct Scene {
    pub(super) hierarchy: Hierarchy,
    pub(super) name: String,
    pub(super) instance: Instance,
}

impl Scene {
    /// Nothing where this host lets this process make no groups.
    pub(super) fn new(test: &str) -> Option<Self> {
        Self::on(Hierarchy::detect(&[]).unwrap(), test)
    }

    /// A hybrid host can play a v1 host as well: both, then.
    pub(super) fn on_each_layout(test: &str) -> Vec<Self> {
        let mut scenes: Vec<Self> = Self::new(test).into_iter().collect();
        let mut v1 = Hierarchy::detect(&[]).unwrap();
        let hybrid = v1.bases.v1(Controller::Memory).is_some();
        if hybrid && v1.bases.v2.take().is_some() {
            scenes.extend(Self::on(v1, &format!("{test}-v1")));
        }
        scenes
    }

    fn on(hierarchy: Hierarchy, test: &str) -> Option<Self> {
        for finding in hierarchy.report() {
            if let Enforcement::Missing { reason, .. } = finding.enforcement
                && !finding.limit.is_optional()
            {
                not_run(test, &format!("`{}`: {reason}", finding.limit));
                return None;
            }
        }
        let name = format!("test-{}-{test}", std::process::id());
        let instance = hierarchy.prepare(&name, &[]).unwrap();
        Some(Self { hierarchy, name, instance })
    }

    pub(super) fn create(&self, limits: &Limits) -> Group {
        self.instance.create("container", limits, &GroupOptions::default()).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.hierarchy.remove_instance(&self.name).unwrap();
        let left: Vec<PathBuf> =
            self.instance.directories().into_iter().filter(|path| path.exists()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' own processes, outside of containers")]
pub(super) fn shell(script: &str) -> Child {
    Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A shell that enters the group by its own doing, as a container's process does, and then runs
/// the script. An entrance that does not work ends it with 99.
pub(super) fn run_in(group: &Group, script: &str) -> Child {
    let entrance = group.entrance_of_a_process().unwrap();
    let paths: Vec<String> = entrance
        .iter()
        .map(|file: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
        .collect();
    let enter = format!("for f in {}; do echo 0 > $f || exit 99; done", paths.join(" "));
    let mut child = shell(&format!("{enter}\nread -r go || exit 98\n{script}"));
    let mut pipe = child.stdin.take().unwrap();
    let number = i32::try_from(child.id()).unwrap();
    let entered = within(Duration::from_secs(20), || {
        let mut entered = group.directories.all().chain(group.guard.as_deref());
        entered.all(|path| file::processes(path).unwrap().contains(&number))
    });
    assert!(entered, "did not enter: {:?}", child.try_wait());
    // The entrance is open until here, because the child opens it by way of this process.
    drop(entrance);
    pipe.write_all(b"go\n").unwrap();
    child
}

pub(super) fn within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    let mut pause = Duration::from_millis(1);
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(pause);
        // Looking takes time from what is looked at, most of all in an emulated machine.
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    true
}

pub(super) fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(libc::SIGKILL)
}
