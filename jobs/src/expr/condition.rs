//! The value of `if`: an expression with or without braces.

use super::{
    ast::{Expr, ExprKind},
    evaluate::{EvaluationError, Scope, evaluate},
    parse::{Origin, parse},
};
use crate::{
    diagnostic::{Code, Diagnostic, Report},
    source::Span,
};

/// An expression that decides whether a job or a step runs.
///
/// Without a status function in it, `success()` has to hold as well.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    expr: Expr,
    asks_status: bool,
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
                    return Some(Self::new(expr));
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

    pub(crate) fn new(expr: Expr) -> Self {
        let mut asks_status = false;
        expr.walk(&mut |each| {
            if let ExprKind::Call { function, .. } = &each.kind {
                asks_status |= function.is_status();
            }
        });
        Self { expr, asks_status }
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
    pub fn holds(&self, scope: &dyn Scope) -> Result<bool, EvaluationError> {
        Ok(evaluate(&self.expr, scope)?.is_true())
    }
}
