//! What one step prints, from its pipe to the whole log kept: the rate of `cofferdam run` with
//! timestamps and masking on, and of engines that keep logs.
//!
//!     cargo bench -p cofferdam --bench output [-- ROUNDS]
//!
//! As root, with Debian's `busybox-static`. A program in a container copies a file of lines to its
//! output; what the same takes with an empty file is taken off. Megabytes are 10^6 bytes. The log
//! path without a container: `--bench log`.

#![expect(clippy::print_stdout, reason = "a bench is read from its output")]
#![expect(clippy::disallowed_methods, reason = "programs are driven as a user does")]

#[path = "floor/rootfs.rs"]
mod rootfs;

use std::{
    error::Error,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rootfs::Rootfs;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
/// Runs something with the lines in this directory.
type Subject<'a> = (&'static str, Box<dyn Fn(&Path) -> Result<Duration> + 'a>);

const IMAGE: &str = "cofferdam-bench";
/// Length of the lines, and how many bytes of them.
const INPUTS: [(usize, usize); 2] = [(100, 512_000_000), (2, 64_000_000)];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` passes no `--bench`; there is nothing to test here.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let rounds = arguments.iter().filter_map(|it| it.parse().ok()).next().unwrap_or(3);
    let rootfs = Rootfs::make()?;
    let archive = rootfs.directory().join("rootfs.tar");
    rootfs.archive(&archive)?;
    let state = rootfs.directory().join("state");
    let cofferdam = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.env("COFFERDAM_STATE", &state);
        command
    };
    timed(cofferdam().args(["image", "import"]).arg(&archive).arg("bench"))?;

    let own = |directory: &Path| {
        let mut run = cofferdam();
        run.args(["run", "--secret", "TOKEN=ghp_Zk3vQ9xLw7RtYb2NcMd5JfHs8PaUe4"]);
        timed(run.current_dir(directory))
    };
    let mut subjects: Vec<Subject<'_>> = vec![("cofferdam run", Box::new(own))];
    for engine in ["docker", "podman"] {
        if Command::new(engine).arg("info").output().is_ok_and(|it| it.status.success()) {
            timed(Command::new(engine).arg("import").arg(&archive).arg(IMAGE))?;
            subjects.push((engine, Box::new(move |directory| keep(engine, directory))));
        } else {
            println!("{engine}: not installed, or not running");
        }
    }
    let result = compare(rootfs.directory(), &subjects, rounds);
    for (engine, _) in subjects.iter().skip(1) {
        Command::new(engine).args(["image", "rm", "--force", IMAGE]).output()?;
    }
    result
}

fn compare(root: &Path, subjects: &[Subject<'_>], rounds: usize) -> Result<()> {
    println!("| lines of | {} |", subjects.iter().map(|it| it.0).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(subjects.len()));
    let empty = project(root, 1, 0)?;
    for (length, bytes) in INPUTS {
        let full = project(root, length, bytes)?;
        let mut rates = vec![Vec::new(); subjects.len()];
        for _ in 0..rounds {
            for ((_, run), rates) in subjects.iter().zip(&mut rates) {
                let took = run(&full)?.saturating_sub(run(&empty)?);
                rates.push(f64::from(u32::try_from(bytes)?) / 1e6 / took.as_secs_f64());
            }
        }
        let medians = rates.iter_mut().map(|rates| {
            rates.sort_unstable_by(f64::total_cmp);
            format!("{:.0} MB/s", rates.get(rates.len() / 2).copied().unwrap_or_default())
        });
        println!("| {length} bytes | {} |", medians.collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}

/// A directory with a file of such lines, and a pipeline that prints it.
fn project(root: &Path, length: usize, bytes: usize) -> Result<std::path::PathBuf> {
    let directory = root.join(format!("lines-{length}-{bytes}"));
    fs::create_dir(&directory)?;
    let mut line = vec![b'x'; length];
    if let Some(last) = line.last_mut() {
        *last = b'\n';
    }
    fs::write(directory.join("lines"), line.repeat(bytes / length))?;
    let pipeline = "secrets: [TOKEN]\njobs:\n  print:\n    image: bench\n    limits: { logs: 4GiB }\n    secrets: [TOKEN]\n    steps: [{ exec: [/bin/cat, /workspace/lines] }]\n";
    fs::write(directory.join("cofferdam.yml"), pipeline)?;
    Ok(directory)
}

/// An engine that keeps the log of a container that nobody is attached to.
fn keep(engine: &str, directory: &Path) -> Result<Duration> {
    let driver = if engine == "docker" { "json-file" } else { "k8s-file" };
    let mut start = Command::new(engine);
    if engine == "podman" && Command::new("runc").arg("--version").output().is_ok() {
        // crun refuses hybrid hierarchies of control groups.
        start.args(["--runtime", "runc"]);
    }
    start.args(["run", "--detach", "--network", "none", "--log-driver", driver, "--volume"]);
    start.arg(format!("{}:/workspace:ro", directory.display()));
    if engine == "podman" {
        // Its own defaults may be more than this process can give.
        start.args(["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]);
    }
    start.args([IMAGE, "/bin/cat", "/workspace/lines"]);
    let began = Instant::now();
    let started = start.output()?;
    if !started.status.success() {
        return Err(String::from_utf8_lossy(&started.stderr).into_owned().into());
    }
    let container = String::from_utf8(started.stdout)?.trim().to_owned();
    timed(Command::new(engine).args(["wait", &container]))?;
    let took = began.elapsed();
    timed(Command::new(engine).args(["rm", &container]))?;
    Ok(took)
}

fn timed(command: &mut Command) -> Result<Duration> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(began.elapsed());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {said}", output.status).into())
}
