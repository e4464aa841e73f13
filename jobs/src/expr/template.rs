//! Text with expressions in it.

use super::{
    ast::Expr,
    evaluate::{EvaluationError, Scope, evaluate},
    parse::{Origin, parse},
    value::{Data, Value},
};
use crate::{diagnostic::Report, source::Span};

/// What opens an expression within text.
const OPEN: &str = "${{";

/// Text in which expressions are replaced by their values.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
    /// Where it is written.
    pub span: Span,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text as it stands.
    Text(String),
    /// An expression to be replaced by its value, and how it is written.
    Expr(Expr, Box<str>),
}

impl Template {
    /// Text without expressions.
    pub fn literal(text: impl Into<String>, span: Span) -> Self {
        let text = text.into();
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] };
        Self { parts, span }
    }

    /// Reads the expressions of `text`, which the file writes as `raw` at `span`.
    pub(crate) fn read(text: &str, raw: &str, span: Span, report: &mut Report) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut raw_at = 0;
        while let Some((before, found)) = rest.split_once(OPEN) {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let origin = locate(raw, &mut raw_at, found, span);
            match parse(found, true, origin) {
                Ok((expr, end)) => {
                    let written = found.get(..end).unwrap_or_default();
                    let written = written.trim_end_matches('}').trim();
                    parts.push(Part::Expr(expr, written.into()));
                    rest = found.get(end..).unwrap_or_default();
                }
                Err(fault) => {
                    report.push(*fault);
                    rest = found.split_once("}}").map_or("", |(_, after)| after);
                }
            }
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Self { parts, span }
    }

    /// The pieces in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The expressions in order.
    pub fn expressions(&self) -> impl Iterator<Item = &Expr> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expr(expr, _) => Some(expr),
            Part::Text(_) => None,
        })
    }

    /// The text, where there is no expression in it.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text with the values of its expressions put in.
    ///
    /// # Errors
    /// An expression has no value, or one that is a list or a map.
    pub fn render(&self, scope: &dyn Scope) -> Result<Value, EvaluationError> {
        let mut text = String::new();
        let mut secret = false;
        for part in &self.parts {
            match part {
                Part::Text(piece) => text.push_str(piece),
                Part::Expr(expr, _) => {
                    let value = evaluate(expr, scope)?;
                    secret |= value.holds_secret();
                    text.push_str(&value.to_text().ok_or_else(|| {
                        EvaluationError::new(
                            format!("the value is {}, which has no text", value.kind()),
                            expr.span,
                        )
                        .help("choose one value in it, or use `toJSON(…)` or `join(…)`")
                    })?);
                }
            }
        }
        Ok(Value { data: Data::Text(text), secret })
    }
}

/// Where the expression text `found` is in the file: the next opening in `raw`, if the file spells
/// the expression just as it was read, else all of `span`.
fn locate(raw: &str, raw_at: &mut usize, found: &str, span: Span) -> Origin {
    let inexact = Origin { span, exact: false };
    let Some(open) = raw.get(*raw_at..).and_then(|rest| rest.find(OPEN)) else { return inexact };
    let start = *raw_at + open + OPEN.len();
    *raw_at = start;
    let length =
        found.find("}}").map_or_else(|| found.find('\n').unwrap_or(found.len()), |at| at + 2);
    let spelled = found.get(..length).unwrap_or_default();
    if raw.get(start..).is_some_and(|rest| rest.starts_with(spelled)) {
        Origin { span: span.within(start, start + length), exact: true }
    } else {
        inexact
    }
}
