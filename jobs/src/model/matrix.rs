//! The combinations that a job runs for.

use crate::{
    expr::Value,
    source::{Span, Spanned},
};

/// Axes, and combinations added and taken away.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Names and values; the combinations are their product, the last axis fastest.
    pub axes: Vec<(Spanned<String>, Vec<Spanned<Value>>)>,
    /// Values added to the combinations they agree with, or combinations of their own.
    pub include: Vec<Spanned<Value>>,
    /// Combinations that have all of these values are taken away.
    pub exclude: Vec<Spanned<Value>>,
    /// Where it is written.
    pub span: Span,
}
