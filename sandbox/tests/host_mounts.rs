//! What the host unmounts is gone, whatever is kept ahead of need: through the library, with its own
//! `main`, because a spawner is forked before any thread.
//!
//! The mounts are those of a namespace of the test's own.

#![expect(clippy::unwrap_used, reason = "a test without the test harness")]

mod library;

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

use cofferdam_sandbox::{ContainerSpec, Sandbox};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use library::{Tested, inits, not_run, say, until, with_sandbox};

fn main() -> Tested {
    let name = "host-mounts";
    if let Err(why) = unshare(CloneFlags::CLONE_NEWNS) {
        return not_run(name, &format!("a mount namespace: {why}"));
    }
    propagate(MsFlags::MS_PRIVATE)?;
    with_sandbox(name, async |sandbox, image| {
        let spec = ContainerSpec::new(image);
        // Mounts that nobody else hears of, and, as systemd makes them, ones that all hear of.
        for propagation in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
            propagate(propagation)?;
            what_is_unmounted_is_gone(sandbox, &spec).await?;
        }
        Ok(())
    })
}

fn propagate(how: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | how, None::<&str>)
}

/// A file system is mounted, then containers begin ahead of need, then it is unmounted: nobody holds it,
/// and the containers are none the worse for it.
async fn what_is_unmounted_is_gone(sandbox: &Sandbox, spec: &ContainerSpec) -> Tested {
    let directory = tempfile::tempdir()?;
    let at = directory.path().join("mounted-by-the-host");
    fs::create_dir(&at)?;
    let device = mount_disk(directory.path(), &at);
    if device.is_none() {
        mount(Some("kept"), &at, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    }
    assert_eq!(holders(&at, &["self"]), ["self"]);
    sandbox.expect(2);
    until("two begin", || inits().len() == 2).await;
    umount2(&at, MntFlags::empty())?;
    until("nobody holds the mount", || holders(&at, &inits()).is_empty()).await;
    if let Some(device) = device {
        until("the loop device is free", || !device.exists()).await;
    }

    for _ in 0..2 {
        let container = sandbox.create(spec.clone()).await?;
        assert_eq!(say(&container, "echo alive").await?, "alive\n");
        container.end().await?;
    }
    until("both have ended", || inits().is_empty()).await;
    Ok(())
}

/// Mounts a disk that is a file; returns what is there while the kernel uses that. `None` where only
/// root can.
fn mount_disk(directory: &Path, at: &Path) -> Option<PathBuf> {
    let file = directory.join("disk");
    fs::File::create(&file).unwrap().set_len(8 << 20).unwrap();
    let run = |name: &str, arguments: &[&Path]| {
        #[expect(clippy::disallowed_methods, reason = "a host's administrator does this")]
        let mut command = std::process::Command::new(name);
        let output = command.args(arguments).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
        output.is_ok_and(|output| output.status.success())
    };
    let loop_device = [Path::new("-o"), Path::new("loop"), &file, at];
    if !run("mke2fs", &[Path::new("-q"), &file]) || !run("mount", &loop_device) {
        return None;
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(at.to_str().unwrap())).unwrap();
    let device = line.split_whitespace().find_map(|word| word.strip_prefix("/dev/")).unwrap();
    let used = Path::new("/sys/block").join(device).join("loop");
    assert!(used.exists());
    Some(used)
}

/// Which of these processes see a mount.
fn holders<P: Display + Copy>(at: &Path, processes: &[P]) -> Vec<P> {
    let sees = |process: &P| {
        let table = fs::read_to_string(format!("/proc/{process}/mountinfo"));
        table.is_ok_and(|table| table.contains(at.to_str().unwrap()))
    };
    processes.iter().copied().filter(sees).collect()
}
