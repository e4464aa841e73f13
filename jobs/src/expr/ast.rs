//! The tree of an expression.

use super::{Context, Function, Value};
use crate::source::Span;

/// An expression and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it is written: exact within one line, else the value that holds it.
    pub span: Span,
}

/// The forms of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `null`, `true`, `12`, `'text'`.
    Literal(Value),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `env`, `matrix`, …
    Context(Context),
    /// `base.name['index']`: all steps of a chain in one list.
    Access {
        /// What is looked into.
        base: Box<Expr>,
        /// The names and indexes, from the left.
        segments: Vec<Segment>,
    },
    /// `name(…)`.
    Call {
        /// Which function.
        function: Function,
        /// As many as the function takes.
        arguments: Vec<Expr>,
    },
    /// `!value`.
    Not(Box<Expr>),
    /// `a == b` and the like.
    Compare(Comparison, Box<(Expr, Expr)>),
    /// `a && b && …`: the first that is not true, else the last.
    All(Vec<Expr>),
    /// `a || b || …`: the first that is true, else the last.
    Any(Vec<Expr>),
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Segment {
    /// `.name`
    Name(String, Span),
    /// `[expression]`
    Index(Expr),
}

impl Segment {
    /// The name, where the text alone says it: `.name` and `['name']`.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name, _) => Some(name),
            Self::Index(Expr { kind: ExprKind::Literal(value), .. }) => value.as_text(),
            Self::Index(_) => None,
        }
    }

    /// Where it is written.
    pub fn span(&self) -> Span {
        match self {
            Self::Name(_, span) => *span,
            Self::Index(expr) => expr.span,
        }
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Expr {
    /// Calls `visit` with this expression and everything within it, outermost first.
    pub fn walk(&self, visit: &mut dyn FnMut(&Self)) {
        visit(self);
        match &self.kind {
            ExprKind::Literal(_) | ExprKind::Context(_) => {}
            ExprKind::Access { base, segments } => {
                base.walk(visit);
                for segment in segments {
                    if let Segment::Index(index) = segment {
                        index.walk(visit);
                    }
                }
            }
            ExprKind::Call { arguments, .. } => arguments.iter().for_each(|each| each.walk(visit)),
            ExprKind::Not(inner) => inner.walk(visit),
            ExprKind::Compare(_, sides) => {
                sides.0.walk(visit);
                sides.1.walk(visit);
            }
            ExprKind::All(all) | ExprKind::Any(all) | ExprKind::List(all) => {
                all.iter().for_each(|each| each.walk(visit));
            }
        }
    }

    /// The context and the names that this looks up, where the text alone says them.
    pub fn path(&self) -> Option<(Context, &[Segment])> {
        match &self.kind {
            ExprKind::Context(context) => Some((*context, &[])),
            ExprKind::Access { base, segments } => match base.kind {
                ExprKind::Context(context) => Some((context, segments)),
                _ => None,
            },
            _ => None,
        }
    }
}
