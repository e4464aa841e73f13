//! The value of `if`: an expression with or without braces.

use std::fmt;

use super::{
    ast::{Expr, ExprKind, Segment},
    evaluate::{EvaluationError, Scope, evaluate},
    parse::{Origin, parse},
    value::Value,
};
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted, quoted_up_to},
    source::Span,
};

/// The longest text of a condition that is shown, in characters.
const MAX_TEXT: usize = 200;
/// The most values that are shown.
const MAX_VALUES: usize = 6;

/// An expression that decides whether a job or a step runs.
///
/// Without a status function in it, `success()` has to hold as well.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    expr: Expr,
    /// As it is written, without braces.
    text: String,
    asks_status: bool,
}

/// What a condition came to, and the values that decided it: for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether it holds.
    pub holds: bool,
    text: String,
    /// Names and what they stood for; secrets are `***`.
    values: Vec<(String, String)>,
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted_up_to(&self.text, MAX_TEXT))?;
        for (index, (name, value)) in self.values.iter().enumerate() {
            let before = if index == 0 { ", where" } else { "," };
            write!(f, "{before} {name} is {value}")?;
        }
        Ok(())
    }
}

impl Condition {
    /// Reads `text`, which the file writes as `raw` at `span`.
    pub(crate) fn read(text: &str, raw: &str, span: Span, report: &mut Report) -> Option<Self> {
        // Quotes stand before the text in the file.
        let shift = raw.find(text).filter(|_| !text.is_empty());
        let trimmed = text.trim_start();
        let (body, braces) = match trimmed.strip_prefix("${{") {
            Some(body) => (body, true),
            None => (trimmed, false),
        };
        let start = shift.unwrap_or(0) + (text.len() - body.len());
        let origin = match shift {
            Some(_) => Origin { span: span.within(start, raw.len()), exact: true },
            None => Origin { span, exact: false },
        };
        match parse(body, braces, origin) {
            Ok((expr, end)) => {
                let after = body.get(end..).unwrap_or_default();
                if after.trim().is_empty() {
                    let text = body.get(..end).unwrap_or_default().trim_end();
                    let text = text.strip_suffix("}}").filter(|_| braces).unwrap_or(text).trim();
                    return Some(Self::new(expr, text));
                }
                report.push(
                    Diagnostic::error(Code::ExpressionSyntax, "the condition goes on after `}}`")
                        .at(origin.span(&(end..body.len())), "")
                        .help(
                            "put all of the condition within the braces, or leave the braces out",
                        ),
                );
            }
            Err(fault) => report.push(*fault),
        }
        None
    }

    fn new(expr: Expr, text: &str) -> Self {
        let mut asks_status = false;
        expr.walk(&mut |each| {
            if let ExprKind::Call { function, .. } = &each.kind {
                asks_status |= function.is_status();
            }
        });
        Self { expr, text: text.to_owned(), asks_status }
    }

    /// The expression as written.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Whether the outcome of what ran before is part of the question.
    pub fn asks_status(&self) -> bool {
        self.asks_status
    }

    /// Whether the expression as written holds; that `success()` has to hold as well where
    /// [`Condition::asks_status`] is false is for the caller, who can say why it does not.
    ///
    /// # Errors
    /// The expression has no value.
    pub fn judged(&self, scope: &dyn Scope) -> Result<Judged, EvaluationError> {
        let holds = evaluate(&self.expr, scope)?.is_true();
        Ok(Judged { holds, text: self.text.clone(), values: self.values(scope) })
    }

    /// What the names and questions in it stand for, each once, the first ones.
    fn values(&self, scope: &dyn Scope) -> Vec<(String, String)> {
        let mut values: Vec<(String, String)> = Vec::new();
        self.expr.walk(&mut |each| {
            let name = match &each.kind {
                ExprKind::Call { function, .. } if function.is_status() => {
                    format!("{}()", function.as_str())
                }
                ExprKind::Access { .. } => match each.path() {
                    Some((context, segments)) => {
                        let names = segments.iter().map(Segment::name).collect::<Option<Vec<_>>>();
                        let Some(names) = names else { return };
                        format!("{}.{}", context.as_str(), names.join("."))
                    }
                    None => return,
                },
                _ => return,
            };
            let name = quoted(&name);
            if values.len() < MAX_VALUES && !values.iter().any(|(known, _)| *known == name) {
                let value = match evaluate(each, scope) {
                    Ok(value) if value.holds_secret() => "***".to_owned(),
                    Ok(value) if value == Value::NULL => "null".to_owned(),
                    Ok(value) => {
                        value.to_text().map_or_else(|| value.kind().to_owned(), |it| quoted(&it))
                    }
                    Err(_) => return,
                };
                values.push((name, value));
            }
        });
        values
    }
}
