//! Programs: as a list ("exec form") or as text for the shell ("shell form").

use super::{
    fragment::Fragment,
    instruction::{Reading, usage},
    json_form,
    model::Command,
};

/// Reads either form; variables are left to the shell.
pub(super) fn read(rest: Fragment<'_>, reading: &mut Reading<'_>) -> Command {
    match json_form::read(rest, reading.report) {
        Some(list) => Command::Exec(list.iter().map(|element| element.text().to_owned()).collect()),
        None => Command::Shell(rest.trim().text().to_owned()),
    }
}

/// `SHELL`, which only has the form of a list.
pub(super) fn shell(rest: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Vec<String>> {
    match json_form::read(rest, reading.report) {
        Some(list) if !list.is_empty() => {
            Some(list.iter().map(|element| element.text().to_owned()).collect())
        }
        _ => {
            reading.wrong(rest.span(), "`SHELL` takes a list of words", usage("SHELL"));
            None
        }
    }
}
