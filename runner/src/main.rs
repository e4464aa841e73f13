//! The `cofferdam` binary: command line in, pipeline runs in throwaway containers, results out.

mod log;
mod report;

fn main() {}
