//! The `cofferdam` binary: command line in, pipeline runs in throwaway containers, results out.

#[cfg_attr(not(test), expect(dead_code, reason = "the executor wires it"))]
mod log;
#[cfg_attr(not(test), expect(dead_code, reason = "the executor wires it"))]
mod report;

fn main() {}
