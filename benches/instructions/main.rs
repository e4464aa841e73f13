//! Hot paths, once each, to be counted by callgrind: `benches/instructions/run` does that.
//!
//! What is counted are the instructions of [`counted`] and all that it calls. They do not depend on
//! how busy the machine is, so that a regression of a few percent shows.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run ends")]

use std::{fmt::Write as _, hint::black_box, sync::Arc, time::SystemTime};

use cofferdam_jobs::{Inputs, Sources, parse, plan};

#[path = "../../runner/src/log/mod.rs"]
#[expect(dead_code, unused_imports, reason = "only the log path is measured, without its tests")]
mod log;

#[path = "../../runner/src/report"]
mod report {
    #[expect(dead_code, unused_imports, reason = "only what logs need, without its tests")]
    pub(crate) mod quantity;
}

use log::{
    index::Stream, masker::Ending, masker::Masker, needles::Needles, recorder::LogBudget,
    secret::Secret, step_log::StepLog, terminal::Sanitizer,
};

/// What one read of a full pipe returns.
const CHUNK: usize = 64 * 1024;
const TOTAL: usize = 64 * 1024 * 1024;
const JOBS: usize = 5000;

fn main() {
    // Without one of these, `cargo test --benches` has nothing to do here.
    match std::env::args().nth(1).as_deref() {
        Some("plan-5000-jobs") => plan_jobs(),
        Some("mask-64-mib") => mask(),
        Some("keep-64-mib") => keep(),
        Some("show-64-mib-of-100-byte-lines") => show(100),
        Some("show-64-mib-of-2-byte-lines") => show(2),
        _ => {}
    }
}

#[inline(never)]
fn counted(work: impl FnOnce()) {
    work();
}

/// Jobs in layers of fifty, each after one of the layer before.
fn plan_jobs() {
    let mut text = "jobs:\n".to_owned();
    for job in 0..JOBS {
        write!(text, "  job-{job}: {{ ").unwrap();
        if let Some(above) = job.checked_sub(50) {
            write!(text, "needs: [job-{above}], ").unwrap();
        }
        text.push_str(
            "env: { RUN: '${{ run.id }}' }, steps: [{ run: make }, { run: make test }] }\n",
        );
    }
    counted(|| {
        let mut sources = Sources::new();
        let file = sources.add("cofferdam.yml", text.as_bytes());
        let pipeline = parse(&sources, file).pipeline.unwrap();
        assert_eq!(plan(&pipeline, &Inputs::default()).unwrap().jobs.len(), JOBS);
    });
}

fn needles() -> Arc<Needles> {
    let secrets = [
        Secret::new("TOKEN", "ghp_Zk3vQ9xLw7RtYb2NcMd5JfHs8PaUe4").unwrap(),
        Secret::new("PASSWORD", "correct horse battery staple").unwrap(),
    ];
    Arc::new(Needles::new(&secrets).unwrap())
}

fn mask() {
    let (input, mut masker) = (lines(100), Masker::new(needles()));
    let mut output = Vec::with_capacity(CHUNK * 2);
    counted(|| {
        for _ in 0..TOTAL / CHUNK {
            output.clear();
            masker.push(black_box(&input), &mut output);
            black_box(&output);
        }
    });
}

fn keep() {
    let directory = tempfile::tempdir().unwrap();
    let (path, budget, now) =
        (directory.path().join("step.log"), LogBudget::new(u64::MAX), SystemTime::UNIX_EPOCH);
    let mut log = StepLog::create(&path, needles(), budget, now).unwrap();
    let input = lines(100);
    counted(|| {
        for _ in 0..TOTAL / CHUNK {
            black_box(log.output(Stream::Stdout, now, black_box(&input)).unwrap());
        }
        log.end(Stream::Stdout, now, Ending::Closed).unwrap();
        log.finish(now).unwrap();
    });
}

fn show(length: usize) {
    let (input, mut sanitizer) = (lines(length), Sanitizer::new(true));
    counted(|| {
        for _ in 0..TOTAL / CHUNK {
            sanitizer.push(black_box(&input), |line| {
                black_box(line);
            });
        }
    });
}

/// One chunk of lines of this length, from a linear congruential generator.
fn lines(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut letter = |index: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 /";
        let letter = letters.get(usize::try_from(state >> 26).unwrap_or_default());
        if (index + 1).is_multiple_of(length) { b'\n' } else { *letter.unwrap_or(&b'x') }
    };
    (0..CHUNK).map(&mut letter).collect()
}
