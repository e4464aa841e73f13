//! What hostile bytes must never do, as functions from bytes to panics.
//!
//! A [`Target`] is run by two: by libFuzzer (`run`), which looks for bytes that make it panic, and by
//! the tests of this package over all seeds and all that was ever found, which needs no fuzzer. Each
//! holds its code to more than "does not panic": to what its module says, and to bounds of memory
//! and processor time.

mod archive;
mod configuration;
mod diagnostics;
mod dockerfile;
mod expression;
mod graph;
mod ignore;
mod include;
mod manifest;
mod pipeline;
mod reference;
mod store;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The processor time that any input may take. It is for what never ends: milliseconds are usual, and
/// a hundred times as many where nothing is optimised.
const PROCESSOR: Duration = Duration::from_secs(10);

/// Something that takes hostile bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called, also as a folder of `seeds/` and `found/`.
    pub name: &'static str,
    /// Runs it. Panics when the code under test breaks a promise.
    run: fn(&[u8]),
    /// The longest input that the fuzzer makes, in bytes.
    pub longest: usize,
    /// Bytes of memory that it may take whatever the input is, and beyond that for each byte of it.
    memory: (usize, usize),
    /// Folders of the repository whose files it starts from, beside its own.
    pub seeds: &'static [&'static str],
}

const MIB: usize = 1 << 20;
const PIPELINES: &[&str] = &["fixtures/pipelines", "fixtures/invalid", "fixtures/included"];

/// All of them.
pub const TARGETS: &[Target] = &[
    // What is read at once of an archive, and the store around it.
    Target {
        name: "archive",
        run: archive::run,
        longest: 8192,
        memory: (64 * MIB, 2048),
        seeds: &[],
    },
    Target {
        name: "configuration",
        run: configuration::run,
        longest: 4096,
        memory: (MIB, 2048),
        seeds: PIPELINES,
    },
    Target {
        name: "dockerfile",
        run: dockerfile::run,
        longest: 8192,
        // Every variable may become as long as a word may be.
        memory: (32 * MIB, 8192),
        seeds: &[],
    },
    Target {
        name: "expression",
        run: expression::run,
        longest: 4500,
        // What an expression may make, a few times over.
        memory: (16 * MIB, 2048),
        seeds: &[],
    },
    Target { name: "graph", run: graph::run, longest: 768, memory: (MIB, 65536), seeds: &[] },
    Target { name: "ignore", run: ignore::run, longest: 4096, memory: (MIB, 4096), seeds: &[] },
    Target {
        name: "include",
        run: include::run,
        longest: 8192,
        memory: (MIB, 2048),
        seeds: PIPELINES,
    },
    Target {
        name: "manifest",
        run: manifest::run,
        longest: 4096,
        memory: (8 * MIB, 2048),
        seeds: &[],
    },
    Target {
        name: "pipeline",
        run: pipeline::run,
        longest: 8192,
        memory: (32 * MIB, 2048),
        seeds: PIPELINES,
    },
    Target {
        name: "reference",
        run: reference::run,
        longest: 512,
        memory: (MIB, 1024),
        seeds: &[],
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Runs it on `input`, within its bounds.
    ///
    /// Memory is counted for the whole process: nothing else may run in it meanwhile.
    ///
    /// # Panics
    /// The code under test broke a promise or a bound.
    pub fn check(&self, input: &[u8]) {
        MEMORY.reset_peak_usage();
        let (memory, processor) = (MEMORY.current_usage(), processor_time());
        (self.run)(input);
        let took = processor_time().saturating_sub(processor);
        let peak = MEMORY.peak_usage().saturating_sub(memory);
        let (always, each) = self.memory;
        let bound = always + each * input.len();
        assert!(peak <= bound, "{peak} bytes of memory for {} of input, over {bound}", input.len());
        assert!(took <= PROCESSOR, "{took:?} of processor time for {} bytes", input.len());
    }
}

/// What this thread has computed, which unlike wall time does not grow while others compute.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
