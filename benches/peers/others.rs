//! The other ways to run a program in a container, each with what comes nearest to ours: the same
//! root file system, no network, and limits where it has any.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    floor::{Rootfs, rootfs::layer},
    worker::Result,
};

/// What engines know the root file system as.
const IMAGE: &str = "cofferdam-bench";

/// A command that starts a container with `true` in it, and ends when that has ended.
pub(crate) struct Other {
    pub(crate) name: &'static str,
    /// What its containers lack of what ours have.
    pub(crate) lacks: &'static str,
    command: Box<dyn Fn(usize) -> Command + Send + Sync>,
}

impl Other {
    /// Runs it once; `number` tells it from all other runs.
    pub(crate) fn run(&self, number: usize) -> Result<Duration> {
        let mut command = (self.command)(number);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let began = Instant::now();
        let output = command.spawn()?.wait_with_output()?;
        let time = began.elapsed();
        if output.status.success() {
            return Ok(time);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: {}", output.status, said.lines().last().unwrap_or_default()).into())
    }
}

/// All that can be run here, and the names of the others with the reason.
pub(crate) fn find(rootfs: &Rootfs) -> (Vec<Other>, Vec<Missing>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let makers: [(&'static str, Make); 8] = [
        ("unshare", unshare),
        ("bwrap", bwrap),
        ("runc", |rootfs| bundle(rootfs, "runc")),
        ("crun", |rootfs| bundle(rootfs, "crun")),
        ("systemd-nspawn", nspawn),
        ("podman run", |rootfs| engine(rootfs, "podman")),
        ("docker run", |rootfs| engine(rootfs, "docker")),
        ("cofferdam exec host", host),
    ];
    for (name, make) in makers {
        let program = name.split(' ').next().unwrap_or(name);
        if name != "cofferdam exec host" && !answers(program, &["--version"]) {
            missing.push((name, "not installed".to_owned()));
            continue;
        }
        match make(rootfs).and_then(|other| other.run(0).map(|_| other)) {
            Ok(other) => found.push(other),
            Err(error) => missing.push((name, format!("does not run here: {error}"))),
        }
    }
    (found, missing)
}

/// Who is not here, and why.
pub(crate) type Missing = (&'static str, String);

type Make = fn(&Rootfs) -> Result<Other>;

#[expect(clippy::disallowed_methods, reason = "other programs are what is measured here")]
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    command(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// A command that is always the same.
fn fixed(
    name: &'static str,
    lacks: &'static str,
    program: impl Into<std::ffi::OsString>,
    arguments: Vec<String>,
) -> Other {
    let program = program.into();
    let command = Box::new(move |_| {
        let mut command = command(&program);
        command.args(&arguments);
        command
    });
    Other { name, lacks, command }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn unshare(rootfs: &Rootfs) -> Result<Other> {
    let root = layer(rootfs.directory());
    let arguments = format!(
        "--user --map-root-user --mount --pid --fork --ipc --uts --net --cgroup --root {} --mount-proc /bin/true",
        root.display()
    );
    let lacks = "limits, filter, overlay, `/dev`, `/sys`; the old root stays in reach";
    Ok(fixed("unshare", lacks, "unshare", words(&arguments)))
}

fn bwrap(rootfs: &Rootfs) -> Result<Other> {
    let arguments = format!(
        "--unshare-all --die-with-parent --new-session --cap-drop ALL --ro-bind {} / --proc /proc --dev /dev --tmpfs /tmp /bin/true",
        layer(rootfs.directory()).display()
    );
    Ok(fixed("bwrap", "limits, filter, overlay, `/sys`", "bwrap", words(&arguments)))
}

fn nspawn(rootfs: &Rootfs) -> Result<Other> {
    let root = layer(rootfs.directory());
    // It refuses a tree without one.
    fs::create_dir_all(root.join("usr/lib"))?;
    fs::write(root.join("usr/lib/os-release"), "ID=bench\n")?;
    let arguments = format!(
        "--quiet --register=no --keep-unit --private-network --private-users=1862270976:65536 --private-users-ownership=off --volatile=overlay --directory={} /bin/true",
        root.display()
    );
    Ok(fixed("systemd-nspawn", "limits", "systemd-nspawn", words(&arguments)))
}

/// runc and crun, with the bundle that `spec` makes and what is missing in it.
fn bundle(rootfs: &Rootfs, runtime: &'static str) -> Result<Other> {
    let directory = rootfs.directory().join(runtime);
    fs::create_dir_all(&directory)?;
    let made = command(runtime).arg("spec").current_dir(&directory).output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
    }
    let path = directory.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    let set = |value: &mut serde_json::Value, pointer: &str, new: serde_json::Value| {
        let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
        if let Some(parent) = value.pointer_mut(parent).and_then(|it| it.as_object_mut()) {
            parent.insert(name.to_owned(), new);
        }
    };
    set(&mut spec, "/process/terminal", false.into());
    set(&mut spec, "/process/args", serde_json::json!(["/bin/true"]));
    set(&mut spec, "/root/path", layer(rootfs.directory()).display().to_string().into());
    let limits = serde_json::json!({
        "memory": { "limit": 2_147_483_648_i64 },
        "cpu": { "quota": 100_000, "period": 100_000 },
        "pids": { "limit": 512 },
    });
    set(&mut spec, "/linux/resources", limits);
    fs::write(&path, serde_json::to_vec(&spec)?)?;
    let make = move |number: usize| {
        let mut command = command(runtime);
        command.args(["run", "--bundle"]).arg(&directory);
        command.arg(format!("cofferdam-bench-{}-{number}", std::process::id()));
        command
    };
    let lacks = "user namespace, filter, overlay";
    Ok(Other { name: runtime, lacks, command: Box::new(make) })
}

/// docker and podman, with the root file system as an image of theirs.
fn engine(rootfs: &Rootfs, engine: &'static str) -> Result<Other> {
    if !answers(engine, &["info"]) {
        return Err(format!("`{engine} info` fails").into());
    }
    let archive = rootfs.directory().join("rootfs.tar");
    rootfs.archive(&archive)?;
    let imported = command(engine).arg("import").arg(&archive).arg(IMAGE).output()?;
    if !imported.status.success() {
        return Err(String::from_utf8_lossy(&imported.stderr).into_owned().into());
    }
    let run = "run --rm --network none --memory 2g --cpus 1 --pids-limit 512";
    let lacks = "user namespace, limit of disk";
    if engine == "docker" {
        let arguments = words(&format!("{run} {IMAGE} /bin/true"));
        return Ok(fixed("docker run", lacks, engine, arguments));
    }
    // Its own defaults are more than this process may give, and crun refuses hybrid hierarchies.
    let run = format!("{run} --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 {IMAGE} /bin/true");
    let own = fixed("podman run", lacks, engine, words(&run));
    if own.run(0).is_ok() {
        return Ok(own);
    }
    Ok(fixed("podman run (runc)", lacks, engine, words(&format!("--runtime runc {run}"))))
}

/// Our own program, from nothing.
fn host(rootfs: &Rootfs) -> Result<Other> {
    let state = rootfs.directory().join("state");
    // Benches are in a directory beside it.
    let program = std::env::current_exe()?.ancestors().nth(2).map(|it| it.join("cofferdam"));
    let program = program.filter(|it| it.exists()).ok_or("run `cargo build --release` before")?;
    let make = move |_| {
        let mut command = command(&program);
        command.args(["exec", "host", "--", "/bin/true"]).env("COFFERDAM_STATE", &state);
        command
    };
    Ok(Other { name: "cofferdam exec host", lacks: "", command: Box::new(make) })
}

/// Removes what engines were given.
pub(crate) fn forget() {
    for engine in ["podman", "docker"] {
        // Where there is none, there is nothing to remove.
        command(engine).args(["image", "rm", "--force", IMAGE]).output().ok();
    }
}
