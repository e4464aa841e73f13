//! An instruction's arguments, split into words.

use super::{bounds, fragment::Fragment};
use crate::diagnostic::{Code, Diagnostic, Report};

/// Words between spaces, whatever quotes are in them.
pub(super) fn by_space<'l>(arguments: Fragment<'l>, report: &mut Report) -> Vec<Fragment<'l>> {
    let mut words = Vec::new();
    let mut rest = arguments.trim();
    while !rest.is_empty() {
        if is_full(&words, arguments, report) {
            break;
        }
        let (word, after) = rest.split_word();
        words.push(word);
        rest = after;
    }
    words
}

/// Words between spaces that are not in quotes and not escaped; quotes stay.
pub(super) fn by_quotes<'l>(
    arguments: Fragment<'l>,
    escape: char,
    report: &mut Report,
) -> Vec<Fragment<'l>> {
    let mut words = Vec::new();
    let mut rest = arguments.trim();
    while !rest.is_empty() {
        if is_full(&words, arguments, report) {
            break;
        }
        let end = word_end(rest.text(), escape);
        words.push(rest.part(0..end));
        rest = rest.after(end).trim_start();
    }
    words
}

/// Where the first word ends: at a space outside of quotes.
pub(super) fn word_end(text: &str, escape: char) -> usize {
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => return at,
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if open == character => quote = None,
            // Single quotes know no escapes.
            None | Some('"') if character == escape => {
                characters.next();
            }
            _ => {}
        }
    }
    text.len()
}

fn is_full(words: &[Fragment<'_>], arguments: Fragment<'_>, report: &mut Report) -> bool {
    if words.len() < bounds::WORDS {
        return false;
    }
    report.push(
        Diagnostic::error(
            Code::DockerfileTooLarge,
            format!("an instruction has more than {} words", bounds::WORDS),
        )
        .at(arguments.span(), "")
        .help("split it into several instructions"),
    );
    true
}
