//! The faults found so far, bounded and without repeats.
//!
//! A hostile file can hold hundreds of thousands of faults, and a value that is reached through
//! many aliases would report its fault once for each: both end here.

use std::collections::HashSet;

use super::{Code, Diagnostic, Severity};
use crate::source::Span;

/// How many faults are kept.
const MAX_DIAGNOSTICS: usize = 100;

/// Collects diagnostics.
#[derive(Debug, Default)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    seen: HashSet<(Code, Option<Span>)>,
    errors: usize,
}

impl Report {
    /// Nothing found yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault, unless this kind was already reported at this very place.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let span = diagnostic.span();
        if span.is_some() && !self.seen.insert((diagnostic.code, span)) {
            return;
        }
        if diagnostic.severity == Severity::Error {
            self.errors += 1;
        }
        if !self.is_full() {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Whether no further fault would be kept: time to stop looking for more.
    pub fn is_full(&self) -> bool {
        self.diagnostics.len() >= MAX_DIAGNOSTICS
    }

    /// How many errors there were so far, kept or not.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// All faults in the order of the file, and a last one that says so where there may be more.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics
            .sort_by_key(|diagnostic| diagnostic.span().map(|span| (span.file, span.start)));
        if self.is_full() {
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            let mut last = Diagnostic::error(
                Code::TooManyFaults,
                format!("only the first {MAX_DIAGNOSTICS} faults are shown"),
            )
            .help("fix the ones above first");
            last.severity = severity;
            self.diagnostics.push(last);
        }
        self.diagnostics
    }
}
