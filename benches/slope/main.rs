//! Whether anything grows: with the containers that went before, with those that are there at the
//! same time, with the jobs of a run, with what jobs print.
//!
//!     cargo bench -p cofferdam --bench slope [-- sequence] [idle] [version] [jobs] [output]
//!
//! All of it unless some are named; as root, with Debian's `busybox-static`. `sequence` takes minutes.

#![expect(clippy::print_stdout, reason = "a bench is read from its output")]

mod commands;
mod containers;
#[expect(dead_code, reason = "this takes no first instructions")]
#[path = "../peers/first_instruction.rs"]
mod first_instruction;
#[path = "../peers/own.rs"]
mod own;
#[path = "../floor/rootfs.rs"]
mod rootfs;
mod sequence;
#[path = "../floor/times.rs"]
mod times;
#[path = "../peers/worker.rs"]
mod worker;

use std::{error::Error, ops::ControlFlow, path::Path};

use cofferdam_sandbox::{image::Store, spawner};
use rootfs::Rootfs;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PARTS: [&str; 5] = ["sequence", "idle", "version", "jobs", "output"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, worker, _, state] = arguments.as_slice()
        && worker == "worker"
    {
        return own::work(Path::new(state));
    }
    // `cargo test --benches` passes no `--bench`; there is nothing to test here.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let named = PARTS.iter().any(|part| arguments.iter().any(|argument| argument == part));
    let wants = |part: &str| !named || arguments.iter().any(|argument| argument == part);

    let spawner = spawner::start()?;
    let rootfs = Rootfs::make()?;
    let state = rootfs.directory().join("state");
    import(&rootfs, &state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let containers = containers::Bench::open(spawner, &state, &runtime)?;
    if wants("version") {
        commands::version()?;
    }
    if wants("idle") {
        runtime.block_on(containers.idle(500))?;
    }
    if wants("jobs") {
        let bare = runtime.block_on(containers.bare(2000))?;
        commands::jobs(&state, 2000, bare)?;
    }
    if wants("output") {
        commands::output(&state, 100)?;
    }
    if wants("sequence") {
        sequence::sequence(&state, 10_000)?;
    }
    runtime.block_on(containers.close())
}

/// Makes the root file system an image named `bench`.
fn import(rootfs: &Rootfs, state: &Path) -> Result<()> {
    let archive = rootfs.directory().join("image.tar");
    rootfs.archive(&archive)?;
    let go_on = &|_| ControlFlow::Continue(());
    Store::open(state)?.import(&archive, &"bench".parse()?, &Default::default(), go_on)?;
    Ok(())
}
