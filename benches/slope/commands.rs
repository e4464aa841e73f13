//! The program as its users start it: to its first byte, with many jobs, with jobs that print.

use std::{
    fmt::Write as _,
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{Result, times::Times};

const COFFERDAM: &str = env!("CARGO_BIN_EXE_cofferdam");
/// What each job of [`output`] prints.
const PRINTED: u64 = 64 * 1024 * 1024;

#[expect(clippy::disallowed_methods, reason = "the program itself is what is measured here")]
fn command(program: &str) -> Command {
    Command::new(program)
}

/// From the start of the program to the first byte that it prints, beside another program's.
pub(crate) fn version() -> Result<()> {
    let subjects = [
        ("cofferdam --version", COFFERDAM, "--version"),
        ("bash --version", "/bin/bash", "--version"),
        ("echo", "/bin/echo", "x"),
    ];
    let mut all = subjects.map(|_| Times::default());
    for _ in 0..300 {
        for ((_, program, argument), times) in subjects.iter().zip(&mut all) {
            let began = Instant::now();
            let mut child = command(program).arg(argument).stdout(Stdio::piped()).spawn()?;
            let mut output = child.stdout.take().ok_or("no output")?;
            output.read_exact(&mut [0])?;
            times.push(began.elapsed());
            output.read_to_end(&mut Vec::new())?;
            child.wait()?;
        }
    }
    println!("\n| to the first byte | p50 ms | p99 ms |\n|---|---|---|");
    for ((name, ..), times) in subjects.iter().zip(&mut all) {
        println!("| `{name}` | {:.2} | {:.2} |", times.percentile(50), times.percentile(99));
    }
    Ok(())
}

/// A run of `count` jobs that do nothing, beside as many containers without a run, which took `bare`.
pub(crate) fn jobs(state: &Path, count: usize, bare: Duration) -> Result<()> {
    let mut pipeline =
        "name: jobs\ndefaults: { image: bench, workspace: none }\njobs:\n".to_owned();
    for number in 0..count / 250 {
        writeln!(pipeline, "  j{number}: {{ parallel: 250, steps: [{{ exec: [/bin/true] }}] }}")?;
    }
    let (took, _) = run(state, &pipeline, &[])?;
    let (took, bare) = (took.as_secs_f64(), bare.as_secs_f64());
    println!(
        "\n{count} jobs: {took:.2} s, {count} bare containers: {bare:.2} s, ratio {:.2}",
        took / bare
    );
    Ok(())
}

/// A run of `count` jobs at once that print as fast as they can.
pub(crate) fn output(state: &Path, count: usize) -> Result<()> {
    let line = "a line of one hundred bytes, as programs print them, over and over and over again, until it is e";
    let pipeline = format!(
        "name: output\ndefaults: {{ image: bench, workspace: none, limits: {{ memory: 32MiB, disk: 16MiB, logs: 1GiB }} }}\njobs:\n  print: {{ parallel: {count}, steps: [{{ run: \"yes '{line}' | head -c {PRINTED}\" }}] }}\n"
    );
    let at_once = count.to_string();
    let (took, peak) =
        run(state, &pipeline, &["--max-parallel", &at_once, "--max-cpus", &at_once])?;
    println!(
        "\n{count} jobs that print {PRINTED} bytes each at the same time: {:.1} s, runner's peak {:.1} MiB",
        took.as_secs_f64(),
        f64::from(u32::try_from(peak)?) / 1024.0
    );
    Ok(())
}

/// Runs a pipeline; how long that took, and the runner's largest resident set in KiB.
fn run(state: &Path, pipeline: &str, arguments: &[&str]) -> Result<(Duration, u64)> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("cofferdam.yml");
    fs::write(&file, pipeline)?;
    let log = fs::File::create(directory.path().join("output"))?;
    let began = Instant::now();
    let mut child = command(COFFERDAM)
        .arg("run")
        .args(arguments)
        .arg(&file)
        .current_dir(directory.path())
        .env("COFFERDAM_STATE", state)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        // The kernel keeps the largest, so that looking at it now and then misses nothing but the end.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
        peak = number.parse().unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(20));
    };
    if !ended.success() {
        let said = fs::read_to_string(directory.path().join("output"))?;
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        return Err(format!("the run ended with {ended}: {last:?}").into());
    }
    Ok((began.elapsed(), peak))
}
