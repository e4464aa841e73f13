//! What a wrong command line is told beside what is wrong with it.

use clap::{
    Error,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// With a tip for those who write the command of `exec` where other tools have it: behind the image.
pub(crate) fn with_tip(mut error: Error) -> Error {
    let of_exec = error
        .get(ContextKind::Usage)
        .is_some_and(|usage| usage.to_string().contains("cofferdam exec "));
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return error };
    if error.kind() == ErrorKind::UnknownArgument && of_exec && !word.starts_with('-') {
        let tip = format!("the command goes behind `--`: `cofferdam exec IMAGE -- {word}`");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    }
    error
}
