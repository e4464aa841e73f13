//! `ARG`, `ENV` and `LABEL`: names and values.

use super::{
    fragment::Fragment,
    instruction::{Reading, usage},
    model::{Argument, Assignment},
    words,
};
use crate::{diagnostic::quoted, source::Spanned};

/// `ARG NAME[=DEFAULT]…`
pub(super) fn arguments(rest: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Vec<Argument>> {
    let words = words::by_quotes(rest, reading.escape, reading.report);
    let arguments: Vec<_> = words.into_iter().map(|word| argument(word, reading)).collect();
    arguments.into_iter().collect()
}

fn argument(word: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Argument> {
    let (name, default) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let default = match default {
        Some(value) => Some(reading.word(value)?),
        None => None,
    };
    if !is_name(name.text()) {
        let message = format!("{} cannot be the name of an `ARG`", quoted(name.text()));
        let help = "names have letters, digits and underscores, and no digit at the beginning";
        reading.wrong(word.span(), message, help);
        return None;
    }
    Some(Argument { name: Spanned::new(name.text().to_owned(), name.span()), default })
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `NAME=VALUE…`, or in the old way `NAME VALUE`, where the value is the rest of the line.
pub(super) fn assignments(
    instruction: &'static str,
    rest: Fragment<'_>,
    reading: &mut Reading<'_>,
) -> Option<Vec<Assignment>> {
    let words = words::by_quotes(rest, reading.escape, reading.report);
    if !words.first()?.text().contains('=') {
        let (name, value) = rest.split_word();
        if value.is_empty() {
            let message = format!("{} has no value", quoted(name.text()));
            reading.wrong(name.span(), message, usage(instruction));
            return None;
        }
        return Some(vec![assignment(name, value, reading)?]);
    }
    let mut assignments = Vec::new();
    let mut whole = true;
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            let message = format!("{} has no `=`", quoted(word.text()));
            let help = "a value with spaces needs quotes: NAME=\"some words\"";
            reading.wrong(word.span(), message, help);
            whole = false;
            continue;
        };
        match assignment(name, value, reading) {
            Some(assignment) => assignments.push(assignment),
            None => whole = false,
        }
    }
    whole.then_some(assignments)
}

fn assignment(
    name: Fragment<'_>,
    value: Fragment<'_>,
    reading: &mut Reading<'_>,
) -> Option<Assignment> {
    if name.is_empty() {
        reading.wrong(value.span(), "a value has no name", "write the name before the `=`");
        return None;
    }
    let (key, value) = (reading.word(name), reading.word(value));
    Some(Assignment { key: key?, value: value? })
}
