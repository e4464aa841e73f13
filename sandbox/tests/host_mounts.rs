//! What the host unmounts is gone, whatever is kept ahead of need: through the library, with its own
//! `main`, because a spawner is forked before any thread.
//!
//! The mounts are those of a namespace of the test's own.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test without the test harness"
)]

use std::{
    error::Error,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cofferdam_sandbox::{ContainerSpec, Program, Sandbox, Streams, image::Store, spawner};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

fn main() -> Result<(), Box<dyn Error>> {
    if let Err(why) = unshare(CloneFlags::CLONE_NEWNS) {
        return not_run(&format!("a mount namespace: {why}"));
    }
    propagate(MsFlags::MS_PRIVATE)?;
    let spawner = spawner::start()?;
    let state = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let sandbox = match Sandbox::open(spawner, state.path()) {
            Ok(sandbox) => sandbox,
            Err(error) => return not_run(&cofferdam_sandbox::with_causes(&error)),
        };
        let spec = ContainerSpec::new(Arc::new(Store::open(state.path())?.get("host")?));
        // Mounts that nobody else hears of, and, as systemd makes them, ones that all hear of.
        for propagation in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
            propagate(propagation)?;
            what_is_unmounted_is_gone(&sandbox, &spec).await?;
        }
        assert_eq!(sandbox.close().await, [], "nothing is left behind");
        println!("host-mounts: ok");
        Ok(())
    })
}

fn not_run(why: &str) -> Result<(), Box<dyn Error>> {
    assert!(std::env::var_os("COFFERDAM_TESTS_REQUIRE").is_none(), "{why}");
    println!("NOT RUN on this host: host-mounts: {why}");
    Ok(())
}

fn propagate(how: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | how, None::<&str>)
}

/// A file system is mounted, then containers begin ahead of need, then it is unmounted: nobody holds it,
/// and the containers are none the worse for it.
async fn what_is_unmounted_is_gone(
    sandbox: &Sandbox,
    spec: &ContainerSpec,
) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let at = directory.path().join("mounted-by-the-host");
    fs::create_dir(&at)?;
    let device = mount_disk(directory.path(), &at);
    if device.is_none() {
        mount(Some("kept"), &at, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    }
    assert_eq!(holders(&at, &["self".to_owned()]), ["self"]);
    sandbox.expect(2);
    until("two begin", || inits().len() == 2).await;
    umount2(&at, MntFlags::empty())?;
    until("nobody holds the mount", || holders(&at, &inits()).is_empty()).await;
    if let Some(device) = device {
        until("the loop device is free", || !device.exists()).await;
    }

    for _ in 0..2 {
        let container = sandbox.create(spec.clone()).await?;
        let mut program = Program::new(["sh", "-c", "exit 7"]);
        program.env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let null = || fs::File::options().write(true).open("/dev/null").map(OwnedFd::from);
        let streams = Streams::output(null()?, null()?);
        let exit = container.start(program, streams, None).await?.wait().await?;
        assert_eq!(exit.code(), Some(7));
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
fn holders(at: &Path, processes: &[String]) -> Vec<String> {
    let sees = |process: &&String| {
        let table = fs::read_to_string(format!("/proc/{process}/mountinfo"));
        table.is_ok_and(|table| table.contains(at.to_str().unwrap()))
    };
    processes.iter().filter(sees).cloned().collect()
}

/// The inits of all containers, as the spawner's children.
fn inits() -> Vec<String> {
    let children = |pid: &str| -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = tasks.flat_map(|task| fs::read_to_string(task.path().join("children")));
        lists.flat_map(|it| it.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    children("self").iter().flat_map(|spawner| children(spawner)).collect()
}

async fn until(what: &str, happened: impl Fn() -> bool) {
    let look = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.expect(what);
}
