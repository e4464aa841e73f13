//! How fast output goes through the log path: masking, timestamps, the whole log kept.
//!
//! A plain program, because what counts is one figure over much data and not the distribution of
//! a short call. It prints megabytes (10^6) per second, the best of five rounds, with a plain
//! write of the same bytes beside it. `cargo bench -p cofferdam --bench log`

#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run ends")]

use std::{
    fs::File,
    hint::black_box,
    io::Write as _,
    sync::Arc,
    time::{Instant, SystemTime},
};

#[path = "../src/log/mod.rs"]
#[expect(dead_code, unused_imports, reason = "only the log path is measured, without its tests")]
mod log;

#[path = "../src/report"]
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
const TOTAL: usize = 256 * 1024 * 1024;
const ROUNDS: usize = 5;
const TOKEN: &str = "ghp_Zk3vQ9xLw7RtYb2NcMd5JfHs8PaUe4";

fn main() {
    // `cargo test --benches` passes no `--bench`; there is nothing to test here.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let secrets = [
        Secret::new("TOKEN", TOKEN).unwrap(),
        Secret::new("PASSWORD", "correct horse battery staple").unwrap(),
        Secret::new("KEY", key()).unwrap(),
    ];
    let masked = Arc::new(Needles::new(&secrets).unwrap());
    let plain = Arc::new(Needles::none());
    println!("{:<28} {:>10} {:>10} {:>10} {:>10}", "MB/s", "100 B", "2 B", "words", "hostile");
    let inputs = [lines(100), lines(2), words(), hostile()];
    let row = |name: &str, measure: &dyn Fn(&[u8])| {
        let rates = inputs.each_ref().map(|input| rate(input, measure));
        let [long, short, words, hostile] = rates;
        println!("{name:<28} {long:>10.0} {short:>10.0} {words:>10.0} {hostile:>10.0}");
    };
    row("plain write", &|input| write_plain(input));
    row("log, no secrets", &|input| keep(input, &plain));
    row("log, three secrets", &|input| keep(input, &masked));
    row("mask only", &|input| mask(input, &masked));
    row("show only", &|input| show(input));
}

/// Megabytes per second of the best round.
fn rate(input: &[u8], measure: &dyn Fn(&[u8])) -> f64 {
    let best = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            measure(input);
            start.elapsed()
        })
        .min()
        .unwrap();
    let bytes = TOTAL / input.len() * input.len();
    f64::from(u32::try_from(bytes).unwrap()) / 1e6 / best.as_secs_f64()
}

fn rounds(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..TOTAL / input.len()).flat_map(|_| input.chunks(CHUNK))
}

fn write_plain(input: &[u8]) {
    let mut file = tempfile::tempfile().unwrap();
    for chunk in rounds(input) {
        file.write_all(black_box(chunk)).unwrap();
    }
    drop::<File>(file);
}

fn keep(input: &[u8], needles: &Arc<Needles>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("step.log");
    let budget = LogBudget::new(u64::MAX);
    let mut log = StepLog::create(&path, Arc::clone(needles), budget, SystemTime::now()).unwrap();
    for chunk in rounds(input) {
        black_box(log.output(Stream::Stdout, SystemTime::now(), black_box(chunk)).unwrap());
    }
    log.end(Stream::Stdout, SystemTime::now(), Ending::Closed).unwrap();
    log.finish(SystemTime::now()).unwrap();
}

fn mask(input: &[u8], needles: &Arc<Needles>) {
    let mut masker = Masker::new(Arc::clone(needles));
    let mut output = Vec::with_capacity(CHUNK * 2);
    for chunk in rounds(input) {
        output.clear();
        masker.push(black_box(chunk), &mut output);
        black_box(&output);
    }
}

fn show(input: &[u8]) {
    let mut sanitizer = Sanitizer::new(true);
    for chunk in rounds(input) {
        sanitizer.push(black_box(chunk), |line| {
            black_box(line);
        });
    }
}

fn lines(length: usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut state = 1_u32;
    while text.len() + length <= 8 * CHUNK {
        for _ in 1..length {
            text.push(letter(&mut state));
        }
        text.push(b'\n');
    }
    text
}

/// What a build prints, over and over.
fn words() -> Vec<u8> {
    let line = b"   Compiling serde v1.0.229 (/workspace/vendor/serde)\nwarning: unused variable: \
                 `x`\n  --> src/main.rs:42:9\n   |\n42 |     let x = 5;\n   |         ^ help: if \
                 this is intentional, prefix it with an underscore: `_x`\n";
    line.repeat(8 * CHUNK / line.len())
}

/// What a job prints that wants the masking to be slow: all of a secret but its last byte.
fn hostile() -> Vec<u8> {
    let almost = &TOKEN.as_bytes()[..TOKEN.len() - 1];
    almost.repeat(8 * CHUNK / almost.len())
}

/// A key as PEM files have it: 27 lines of base64.
fn key() -> Vec<u8> {
    let mut state = 7;
    let mut key = b"-----BEGIN PRIVATE KEY-----\n".to_vec();
    for _ in 0..25 {
        key.extend((0..64).map(|_| letter(&mut state)));
        key.push(b'\n');
    }
    key.extend(b"-----END PRIVATE KEY-----\n");
    key
}

fn letter(state: &mut u32) -> u8 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let index = usize::try_from(*state >> 26).unwrap();
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 /"[index]
}
