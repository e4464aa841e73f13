//! Dockerfiles: text to stages of instructions, or to all faults at once.
//!
//! The language is the one that BuildKit's "Dockerfile reference" describes. What it says and
//! Cofferdam does not do is an error at its place, never left out in silence. Nothing here reads a
//! file or runs anything: [`parse`](parse()) reads, [`Scope`] expands variables, [`select`] finds
//! the stages that a target needs, [`Ignore`] is `.dockerignore`.

mod arguments;
mod bounds;
mod command;
mod copy;
mod directive;
mod expand;
mod file_from;
mod fragment;
mod glob;
mod heredoc;
mod ignore;
mod instruction;
mod json_form;
mod metadata;
mod mode;
mod model;
mod mount;
mod parse;
mod pattern;
mod run;
mod select;
mod text;
mod word;
mod words;

pub use copy::remote;
pub use expand::Scope;
pub use glob::{DoubleStar, Glob};
pub use ignore::{Ignore, Verdict};
pub use mode::ModeChange;
pub use model::{
    Argument, Assignment, Command, Copy, CopyFrom, Dockerfile, Health, HealthCheck, Inline,
    Instruction, Kind, Mount, MountKind, Run, RunNetwork, Sharing, Stage, Trigger,
};
pub use parse::{Read, parse, parse_trigger};
pub use select::{Base, Request, Selected, Selection, is_predefined, select, too_many_variables};
pub use word::Word;
