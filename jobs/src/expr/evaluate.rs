//! The value of an expression in a scope.

use std::{borrow::Cow, cmp::Ordering, error::Error as StdError, fmt};

use super::{
    ast::{Comparison, Expr, ExprKind, Segment},
    context::Context,
    function::Function,
    functions,
    value::{Data, Value},
};
use crate::{
    diagnostic::{Code, Diagnostic, quoted},
    source::Span,
};

/// What an expression can ask for while it is evaluated.
pub trait Scope {
    /// All of a context; null where there is none in this place.
    fn context(&self, context: Context) -> Cow<'_, Value>;

    /// What ran before.
    fn status(&self) -> Status;

    /// The digest of the files that match these globs, or why there is none.
    ///
    /// # Errors
    /// A sentence for the user.
    fn hash(&self, globs: &[String]) -> Result<String, String>;
}

/// What status functions look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Something before failed and was not allowed to.
    pub failed: bool,
    /// Something before was skipped or stopped, so that it is not known whether it would pass.
    pub incomplete: bool,
    /// The run is being cancelled.
    pub cancelled: bool,
}

impl Status {
    /// Whether all went well so far.
    pub fn success(self) -> bool {
        !self.failed && !self.incomplete && !self.cancelled
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationError {
    message: String,
    help: Option<String>,
    span: Span,
}

impl EvaluationError {
    pub(crate) fn new(message: impl Into<String>, span: Span) -> Self {
        Self { message: message.into(), help: None, span }
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Where the part without a value is written.
    pub fn span(&self) -> Span {
        self.span
    }

    /// As a diagnostic.
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic::error(Code::EvaluationFailed, self.message.clone())
            .at(self.span, "")
            .maybe_help(self.help.clone())
    }
}

impl fmt::Display for EvaluationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl StdError for EvaluationError {}

/// The value of `expr`. Names that a value does not have are null.
///
/// # Errors
/// A function cannot work with its arguments, or a value grows too large.
pub fn evaluate(expr: &Expr, scope: &dyn Scope) -> Result<Value, EvaluationError> {
    match &expr.kind {
        ExprKind::Literal(value) => Ok(value.clone()),
        ExprKind::List(items) => {
            let items = items.iter().map(|item| evaluate(item, scope)).collect::<Result<_, _>>()?;
            Ok(Value::plain(Data::List(items)))
        }
        ExprKind::Context(context) => Ok(scope.context(*context).into_owned()),
        ExprKind::Access { base, segments } => {
            let base = match base.kind {
                ExprKind::Context(context) => scope.context(context),
                _ => Cow::Owned(evaluate(base, scope)?),
            };
            access(&base, segments, scope)
        }
        ExprKind::Call { function, arguments } => call(*function, arguments, expr.span, scope),
        ExprKind::Not(inner) => {
            let value = evaluate(inner, scope)?;
            Ok(Value::bool(!value.is_true()).tainted(value.holds_secret()))
        }
        ExprKind::Compare(comparison, sides) => {
            let (left, right) = (evaluate(&sides.0, scope)?, evaluate(&sides.1, scope)?);
            let secret = left.holds_secret() || right.holds_secret();
            let holds = compare(*comparison, &left, &right)
                .map_err(|message| EvaluationError::new(message, expr.span))?;
            Ok(Value::bool(holds).tainted(secret))
        }
        ExprKind::All(all) => chain(all, scope, |value| !value.is_true()),
        ExprKind::Any(any) => chain(any, scope, Value::is_true),
    }
}

/// The first value that `ends` the chain, else the last; marked when any value before was.
fn chain(
    all: &[Expr],
    scope: &dyn Scope,
    ends: impl Fn(&Value) -> bool,
) -> Result<Value, EvaluationError> {
    let mut secret = false;
    let mut last = Value::NULL;
    for expr in all {
        last = evaluate(expr, scope)?;
        secret |= last.holds_secret();
        if ends(&last) {
            break;
        }
    }
    Ok(last.tainted(secret))
}

fn access(base: &Value, segments: &[Segment], scope: &dyn Scope) -> Result<Value, EvaluationError> {
    let mut value = base;
    let mut secret = value.secret;
    for segment in segments {
        let index = match segment {
            Segment::Name(name, _) => Value::text(name.as_str()),
            Segment::Index(index) => evaluate(index, scope)?,
        };
        secret |= index.holds_secret();
        let found = match (&value.data, &index.data) {
            (Data::Map(_), _) => index.to_text().and_then(|name| value.get(&name)),
            (Data::List(items), Data::Number(number)) => items
                .iter()
                .zip(0_u32..)
                .find(|(_, at)| f64::from(*at) == number.get())
                .map(|(item, _)| item),
            (Data::Null, _) => None,
            _ => {
                return Err(EvaluationError::new(
                    format!("{} has no value {}", value.kind(), quoted(&index.to_string())),
                    segment.span(),
                ));
            }
        };
        match found {
            Some(found) => value = found,
            None => return Ok(Value::NULL.tainted(secret)),
        }
        secret |= value.secret;
    }
    Ok(value.clone().tainted(secret))
}

/// Numbers compare as numbers, also with text that reads as one, because parameters and outputs
/// are text; otherwise values of different kinds are not equal and have no order.
fn compare(comparison: Comparison, left: &Value, right: &Value) -> Result<bool, String> {
    let order = match (&left.data, &right.data) {
        (Data::Text(a), Data::Text(b)) => Some(a.cmp(b)),
        _ => match (number(left), number(right)) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => None,
        },
    };
    let equal = match order {
        Some(order) => order == Ordering::Equal,
        None => left.data == right.data,
    };
    let order = match comparison {
        Comparison::Equal => return Ok(equal),
        Comparison::NotEqual => return Ok(!equal),
        _ => order.ok_or_else(|| format!("{} and {} have no order", left.kind(), right.kind()))?,
    };
    Ok(match comparison {
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

fn number(value: &Value) -> Option<f64> {
    match &value.data {
        Data::Number(number) => Some(number.get()),
        Data::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

fn call(
    function: Function,
    arguments: &[Expr],
    span: Span,
    scope: &dyn Scope,
) -> Result<Value, EvaluationError> {
    let status = scope.status();
    match function {
        Function::Success => return Ok(Value::bool(status.success())),
        Function::Failure => return Ok(Value::bool(status.failed && !status.cancelled)),
        Function::Always => return Ok(Value::bool(true)),
        Function::Cancelled => return Ok(Value::bool(status.cancelled)),
        _ => {}
    }
    let values: Vec<Value> =
        arguments.iter().map(|argument| evaluate(argument, scope)).collect::<Result<_, _>>()?;
    let secret = values.iter().any(Value::holds_secret);
    functions::apply(function, &values, scope).map(|value| value.tainted(secret)).map_err(
        |message| EvaluationError::new(format!("`{}`: {message}", function.as_str()), span),
    )
}
