//! A sandbox that has made thousands of containers, beside one that has made a hundred, in turns.

use std::path::Path;

use super::{
    Result,
    times::Times,
    worker::{Order, Worker},
};

/// So many at a time: one order, one turn.
const GROUP: usize = 500;
const TURN: usize = 50;
const TURNS: usize = 20;

/// Makes `count` containers one after the other, then compares with another process that has just
/// begun. What else the machine does meanwhile disturbs both, and the quickest quarter least.
pub(crate) fn sequence(state: &Path, count: usize) -> Result<()> {
    let (mut old, mut new) = (Worker::start("own", state)?, Worker::start("own", state)?);
    for _ in 0..count / GROUP {
        old.order(Order::Each(GROUP))?;
    }
    // The first hundred warm everything up.
    new.order(Order::Each(100))?;
    let mut all = [Times::default(), Times::default()];
    for _ in 0..TURNS {
        for (worker, times) in [&mut old, &mut new].into_iter().zip(&mut all) {
            worker.order(Order::Each(TURN))?.into_iter().for_each(|time| times.push(time));
        }
    }
    println!("\n| containers | p10 ms | p25 ms | p50 ms | p99 ms |\n|---|---|---|---|---|");
    let [old, new] = all.map(|mut times| [10, 25, 50, 99].map(|it| times.percentile(it)));
    for (name, [p10, p25, p50, p99]) in [(format!("after {count}"), old), ("after 100".into(), new)]
    {
        println!("| {name} | {p10:.2} | {p25:.2} | {p50:.2} | {p99:.2} |");
    }
    let [p10, p25, p50, _] = std::array::from_fn(|it| old[it] / new[it]);
    println!("\nthe one to the other: p10 {p10:.3}, p25 {p25:.3}, p50 {p50:.3}");
    Ok(())
}
