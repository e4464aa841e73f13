//! Cofferdam beside the floor and beside every other way to run a program in a container that is
//! installed here: one table, all of them in turns, so that a noisy machine is noisy for all.
//!
//!     cargo build --release && cargo bench -p cofferdam-sandbox --bench peers [-- ROUNDS]
//!
//! As root, with Debian's `busybox-static`. Peers are measured where they are installed and run:
//! `unshare`, `bwrap`, `runc`, `crun`, `systemd-nspawn`, `podman`, `docker`. Ten rounds by default;
//! each runs the quick ones some ten times and the slow ones once or twice.

#![expect(clippy::print_stdout, reason = "a bench is read from its output")]

mod first_instruction;
#[path = "../floor/mod.rs"]
mod floor;
#[path = "../../sandbox/src/kernel_file.rs"]
mod kernel_file;
mod others;
mod own;
#[expect(dead_code, unused_imports, reason = "the floor needs a part of it, without its tests")]
#[path = "../../sandbox/src/sys/mod.rs"]
mod sys;
mod worker;

use std::{
    ops::ControlFlow,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use cofferdam_sandbox::{image::Store, seccomp};
use floor::{Floor, Rootfs, Times, rootfs::layer};
use others::{Missing, Other};
use worker::{Order, Result, Worker};

const AT_ONCE: usize = 8;
/// What one subject may take of one round.
const SHARE: Duration = Duration::from_millis(250);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, worker, name, directory] = arguments.as_slice()
        && worker == "worker"
    {
        return match name.as_str() {
            "floor" => work_on_floor(Path::new(directory)),
            _ => own::work(Path::new(directory)),
        };
    }
    // `cargo test --benches` passes no `--bench`; there is nothing to test here.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let rounds = arguments.iter().filter_map(|it| it.parse().ok()).next().unwrap_or(10);
    let rootfs = Rootfs::make()?;
    first_instruction::write_program(&layer(rootfs.directory()).join("bin/first"))?;
    let state = rootfs.directory().join("state");
    import(&rootfs, &state)?;
    let result = compare(&rootfs, &state, rounds);
    others::forget();
    result
}

/// Makes the root file system an image named `bench`.
fn import(rootfs: &Rootfs, state: &Path) -> Result<()> {
    let archive = rootfs.directory().join("image.tar");
    rootfs.archive(&archive)?;
    let go_on = &|_| ControlFlow::Continue(());
    Store::open(state)?.import(&archive, &"bench".parse()?, &Default::default(), go_on)?;
    Ok(())
}

fn work_on_floor(directory: &Path) -> Result<()> {
    let mut floor = Floor::open(directory)?;
    floor.prove()?;
    worker::serve(|order| match order {
        Order::Each(count) => {
            let each = (0..count).map(|_| {
                let began = Instant::now();
                floor.run_true()?;
                Ok(began.elapsed())
            });
            each.collect()
        }
        Order::AtOnce(count) => Ok(vec![floor.at_once(AT_ONCE, count / AT_ONCE)?]),
        Order::Arrivals(_) => Err("the floor has no arrivals".into()),
    })
}

/// What was measured of one subject.
struct Row {
    name: &'static str,
    lacks: &'static str,
    times: Times,
    /// Of eight at once, how long each would have taken alone.
    at_once: Times,
}

impl Row {
    fn new(name: &'static str, lacks: &'static str) -> Self {
        Self { name, lacks, times: Times::default(), at_once: Times::default() }
    }
}

fn compare(rootfs: &Rootfs, state: &Path, rounds: usize) -> Result<()> {
    let (others, missing) = others::find(rootfs);
    let mut floor = Worker::start("floor", rootfs.directory())?;
    let mut own = Worker::start("own", state)?;
    let mut rows = vec![
        Row::new("floor", "everything but the container"),
        Row::new("cofferdam, in process", ""),
    ];
    rows.extend(others.iter().map(|other| Row::new(other.name, other.lacks)));
    let mut arrivals = Times::default();
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        let mut rows = rows.iter_mut();
        for worker in [&mut floor, &mut own] {
            let Some(row) = rows.next() else { break };
            worker.order(Order::Each(50))?.into_iter().for_each(|time| row.times.push(time));
            let all = worker.order(Order::AtOnce(AT_ONCE * 25))?;
            all.into_iter().for_each(|time| row.at_once.push(time / (25 * 8)));
        }
        own.order(Order::Arrivals(25))?.into_iter().for_each(|time| arrivals.push(time));
        for (other, row) in others.iter().zip(rows) {
            measure(other, row)?;
        }
    }
    print(&mut rows, &mut arrivals, &missing);
    Ok(())
}

fn measure(other: &Other, row: &mut Row) -> Result<()> {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    let began = Instant::now();
    while began.elapsed() < SHARE {
        row.times.push(other.run(NUMBER.fetch_add(1, Ordering::Relaxed))?);
    }
    let (began, ran) = (Instant::now(), AtomicUsize::new(0));
    let lane = || -> std::result::Result<(), String> {
        while began.elapsed() < SHARE {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            other.run(number).map_err(|error| error.to_string())?;
            ran.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|it| it.join().map_err(|_| "a lane ended".to_owned())?)
    })?;
    row.at_once.push(began.elapsed() / u32::try_from(ran.into_inner().max(1))?);
    Ok(())
}

fn print(rows: &mut [Row], arrivals: &mut Times, missing: &[Missing]) {
    let rate = |row: &mut Row| 1000.0 / row.at_once.percentile(50);
    let [first, ..] = rows else { return };
    let (floor, floor_rate) = (first.times.percentile(50), rate(first));
    let least = |time: f64| if time < 10.0 { format!("{time:.2}") } else { format!("{time:.0}") };
    println!(
        "\n| one container, start to torn down | p50 ms | p99 ms | × floor | 8 at once, per s | of the floor's | lacks |"
    );
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        let (p50, p99, rate) = (row.times.percentile(50), row.times.percentile(99), rate(row));
        println!(
            "| {} | {} | {} | {:.2} | {rate:.0} | {:.2} | {} |",
            row.name,
            least(p50),
            least(p99),
            p50 / floor,
            rate / floor_rate,
            row.lacks
        );
    }
    for (name, why) in missing {
        println!("| {name} | {why} | | | | | |");
    }
    println!(
        "\nrequest to first instruction, in process, one every 20 ms: p50 {:.2} ms, p99 {:.2} ms",
        arrivals.percentile(50),
        arrivals.percentile(99)
    );
}
