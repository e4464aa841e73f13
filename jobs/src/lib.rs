//! The pipeline language and the life of a run: text in, diagnostics, plans and actions out.
//!
//! Nothing here reads a file, a clock or the network, so everything here is tested with tables.
#![forbid(unsafe_code)]
