//! What the functions do, without their names' status kin, which look at the run.
//!
//! The caller marks the result when any argument was secret.

use super::{
    evaluate::Scope,
    function::Function,
    json,
    value::{Data, Value},
};
use crate::diagnostic::quoted;

/// The largest text that a function may make.
const MAX_TEXT: usize = 1024 * 1024;

/// Applies a function that is not a status function.
pub(super) fn apply(
    function: Function,
    values: &[Value],
    scope: &dyn Scope,
) -> Result<Value, String> {
    let first = values.first().unwrap_or(&Value::NULL);
    let second = values.get(1).unwrap_or(&Value::NULL);
    match function {
        Function::Contains => match &first.data {
            Data::List(items) => Ok(Value::bool(items.iter().any(|item| same(item, second)))),
            _ => Ok(Value::bool(text(first)?.contains(&text(second)?))),
        },
        Function::StartsWith => Ok(Value::bool(text(first)?.starts_with(&text(second)?))),
        Function::EndsWith => Ok(Value::bool(text(first)?.ends_with(&text(second)?))),
        Function::Format => format(&text(first)?, values.get(1..).unwrap_or_default()),
        Function::Join => join(first, values.get(1)),
        Function::Hash => {
            let globs = values.iter().map(text).collect::<Result<Vec<_>, _>>()?;
            Ok(Value::text(scope.hash(&globs)?))
        }
        Function::FromJson => json::read(&text(first)?),
        Function::ToJson => Ok(Value::text(bounded(json::write(first))?)),
        Function::Default => {
            let missing = match &first.data {
                Data::Null => true,
                Data::Text(text) => text.is_empty(),
                _ => false,
            };
            Ok(if missing { second.clone() } else { first.clone() })
        }
        Function::Success | Function::Failure | Function::Always | Function::Cancelled => {
            Err("is a question about the run".to_owned())
        }
    }
}

/// Lists from JSON hold numbers where parameters hold text.
fn same(item: &Value, wanted: &Value) -> bool {
    item.data == wanted.data
        || matches!((item.to_text(), wanted.to_text()), (Some(a), Some(b)) if a == b)
}

fn text(value: &Value) -> Result<String, String> {
    value.to_text().ok_or_else(|| format!("expected text, found {}", value.kind()))
}

fn bounded(text: String) -> Result<String, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("the result is longer than {MAX_TEXT} bytes"));
    }
    Ok(text)
}

fn join(list: &Value, separator: Option<&Value>) -> Result<Value, String> {
    let separator = separator.map_or_else(|| Ok(",".to_owned()), text)?;
    let items = match &list.data {
        Data::List(items) => items.iter().map(text).collect::<Result<Vec<_>, _>>()?,
        _ => vec![text(list)?],
    };
    let length =
        items.iter().map(String::len).sum::<usize>() + separator.len().saturating_mul(items.len());
    if length > MAX_TEXT + separator.len() {
        return Err(format!("the result is longer than {MAX_TEXT} bytes"));
    }
    Ok(Value::text(items.join(&separator)))
}

fn format(pattern: &str, values: &[Value]) -> Result<Value, String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = found.strip_prefix("{{") {
            out.push('{');
            rest = after;
        } else if let Some(after) = found.strip_prefix("}}") {
            out.push('}');
            rest = after;
        } else {
            let (index, after) = found
                .strip_prefix('{')
                .and_then(|inside| inside.split_once('}'))
                .ok_or("a brace stands alone: write `{{` or `}}` for a brace")?;
            let value = index.parse::<usize>().ok().and_then(|index| values.get(index));
            let value = value.ok_or_else(|| {
                format!("there is no value for {}", quoted(&format!("{{{index}}}")))
            })?;
            out = bounded(out + &text(value)?)?;
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(Value::text(bounded(out)?))
}
