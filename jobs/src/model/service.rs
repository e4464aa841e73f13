//! Containers beside a job.

use std::time::Duration;

use super::{Command, Env, Limits};
use crate::{
    expr::Template,
    source::{Span, Spanned},
};

/// A container in the job's network, reachable by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its key, and its host name.
    pub name: Spanned<String>,
    /// What it starts from.
    pub image: Template,
    /// What it runs; the image's own command if not said.
    pub command: Option<Command>,
    /// Its environment.
    pub env: Env,
    /// What it may use.
    pub limits: Limits,
    /// Who its processes are.
    pub user: Option<Template>,
    /// When it is up.
    pub ready: Option<Ready>,
    /// Where it is written.
    pub span: Span,
}

/// A command that is run inside until it passes.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// What is run.
    pub command: Command,
    /// How long it may take until it passes.
    pub timeout: Option<Spanned<Duration>>,
    /// How long to wait between two tries.
    pub interval: Option<Spanned<Duration>>,
    /// Where it is written.
    pub span: Span,
}
