//! What is wrong with a pipeline, where, and what to write instead.
//!
//! A [`Diagnostic`] is plain data: [`render`](render::render) draws it for a terminal, and machine
//! formats take its parts. Every kind of fault has a stable [`Code`].

mod code;
pub mod render;
mod report;
mod types;

pub use code::Code;
pub use report::Report;
pub(crate) use types::quoted_up_to;
pub use types::{Diagnostic, Label, Severity, quoted};
