//! How much of a run of many trivial jobs the runner itself takes: the processor time in which its one
//! loop decides, keeps and shows, against all the time of the run.
//!
//! A plain program that runs the binary as a user does and reads the record that it writes.
//! `cargo bench -p cofferdam --bench many-jobs -- [JOBS [AT ONCE]]`

#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run ends")]

use std::{fmt::Write as _, fs, time::Instant};

fn main() {
    // `cargo test --benches` passes no `--bench`; there is nothing to test here.
    let mut arguments = std::env::args().skip(1);
    let mut numbers: Vec<usize> = Vec::new();
    let mut measured = false;
    for argument in arguments.by_ref() {
        measured |= argument == "--bench";
        numbers.extend(argument.parse::<usize>());
    }
    if !measured {
        return;
    }
    let jobs = numbers.first().copied().unwrap_or(2000);
    let at_once = numbers.get(1).copied().unwrap_or(8);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cofferdam.yml");
    let mut text = String::from("jobs:\n");
    for job in 0..jobs {
        let _ = writeln!(text, "  j{job}: {{ workspace: none, steps: [{{ exec: [\"true\"] }}] }}");
    }
    fs::write(&file, text).unwrap();
    let out = directory.path().join("out");
    #[expect(clippy::disallowed_methods, reason = "the program that is measured")]
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("run").arg(&file).arg("--out").arg(&out);
    command.arg("--state").arg(directory.path().join("state"));
    command.args(["--max-parallel", &at_once.to_string()]);
    command.stdout(fs::File::create(directory.path().join("stdout")).unwrap());
    let began = Instant::now();
    assert!(command.status().unwrap().success());
    let wall = began.elapsed();
    let record = fs::read(out.join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let own = record.get("scheduling_ms").and_then(serde_json::Value::as_f64).unwrap();
    let wall = wall.as_secs_f64() * 1e3;
    let each = wall / f64::from(u32::try_from(jobs).unwrap());
    println!("{jobs} jobs, {at_once} at once: {:.1} s, {each:.1} ms each", wall / 1e3);
    println!("the runner's own: {own:.0} ms, {:.2} % of all (at most 5)", own / wall * 100.0);
}
