//! What one container costs inside a running process: put up, one program run, taken down.
//!
//! `cargo bench -p cofferdam-sandbox --bench container [-- COUNT]`, as root. Prints the median and
//! the 99th percentile of each part in milliseconds; machines are noisy, so compare ratios of one
//! run only.

#![expect(clippy::print_stdout, reason = "a bench is read from its output")]

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use cofferdam_sandbox::{ContainerSpec, Program, Sandbox, Streams, image::Store, spawner};

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().filter_map(|it| it.parse().ok()).next().unwrap_or(200);
    let spawner = spawner::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let state = tempfile::tempdir()?;
    let mut parts = [const { Vec::new() }; 4];
    runtime.block_on(async {
        let sandbox = Sandbox::open(spawner, state.path())?;
        let image = Arc::new(Store::open(state.path())?.get("host")?);
        let spec = ContainerSpec::new(image);
        sandbox.expect_like(spec.clone(), count);
        for _ in 0..count {
            let began = Instant::now();
            let container = sandbox.create(spec.clone()).await?;
            let up = began.elapsed();
            let program = Program::new(["/usr/bin/true"]);
            container.start(program, Streams::null()?, None).await?.wait().await?;
            let ran = began.elapsed();
            container.end().await?;
            drop(container);
            let whole = began.elapsed();
            for (part, time) in parts.iter_mut().zip([up, ran - up, whole - ran, whole]) {
                part.push(time);
            }
        }
        assert_eq!(sandbox.close().await, [], "nothing is left behind");
        Ok::<(), Box<dyn Error>>(())
    })?;
    println!("{count} containers      p50 ms   p99 ms");
    for (name, mut times) in ["up", "run `true`", "down", "whole"].into_iter().zip(parts) {
        times.sort_unstable();
        let at = |percent: usize| {
            let time = times.get(times.len() * percent / 100).copied().unwrap_or_default();
            Duration::as_secs_f64(&time) * 1000.0
        };
        println!("{name:18} {:8.2} {:8.2}", at(50), at(99));
    }
    Ok(())
}
