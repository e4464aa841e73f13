//! The least that a complete container costs on this machine; see `container.rs`.
//!
//!     cargo bench -p cofferdam-sandbox --bench floor [-- COUNT]
//!
//! As root. First it proves that the container is one; then it runs COUNT one after the other, and
//! COUNT by eight processes at once. Cofferdam beside it: the bench `peers`.

#![expect(clippy::print_stdout, reason = "a bench is read from its output")]

#[expect(dead_code, reason = "others need more of it")]
#[path = "mod.rs"]
mod floor;
#[path = "../../sandbox/src/kernel_file.rs"]
mod kernel_file;
#[expect(dead_code, unused_imports, reason = "the floor needs a part of it, without its tests")]
#[path = "../../sandbox/src/sys/mod.rs"]
mod sys;

use std::{error::Error, time::Instant};

use cofferdam_sandbox::seccomp;
use floor::{Floor, Rootfs, Times};

const AT_ONCE: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().filter_map(|it| it.parse().ok()).next().unwrap_or(1000);
    let rootfs = Rootfs::make()?;
    let mut floor = Floor::open(rootfs.directory())?;
    floor.prove()?;
    let mut times = Times::default();
    for _ in 0..count {
        let began = Instant::now();
        floor.run_true()?;
        times.push(began.elapsed());
    }
    println!("{count} containers      p50 ms   p99 ms");
    println!("floor              {:8.2} {:8.2}", times.percentile(50), times.percentile(99));
    let each = count / AT_ONCE;
    let time = floor.at_once(AT_ONCE, each)?;
    let rate = f64::from(u32::try_from(each * AT_ONCE)?) / time.as_secs_f64();
    println!("{AT_ONCE} at once          {rate:8.0} per second");
    Ok(())
}
