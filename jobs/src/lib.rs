//! The pipeline language and the life of a run: text in, diagnostics, plans and actions out.
//!
//! Nothing here reads a file, a clock or the network, so everything here is tested with tables.
//!
//! ```
//! let mut sources = cofferdam_jobs::Sources::new();
//! let file = sources.add("cofferdam.yml", b"jobs: { build: { step: [{ run: make }] } }");
//! let parsed = cofferdam_jobs::parse(&sources, file);
//! let shown = cofferdam_jobs::diagnostic::render::render_all(&parsed.diagnostics, &sources, false);
//! assert!(shown.contains("did you mean `steps`?"));
//! ```
#![forbid(unsafe_code)]

mod check;
pub mod configuration;
mod decode;
pub mod diagnostic;
pub mod dockerfile;
pub mod expr;
mod graph;
mod include;
pub mod model;
mod parse;
pub mod plan;
mod schema;
pub mod source;
pub mod state;
mod suggest;
mod yaml;

pub use configuration::Configuration;
pub use diagnostic::{Code, Diagnostic, Severity};
pub use include::{Find, Included, NotIncluded};
pub use model::Pipeline;
pub use parse::{Parsed, parse, parse_with};
pub use plan::{Inputs, Plan, plan};
pub use schema::schema;
pub use source::{FileId, Sources, Span, Spanned};
