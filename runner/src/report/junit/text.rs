//! The one door through which text goes into the XML that we write.
//!
//! `junit-report` escapes the five characters that markup needs in attributes and writes element
//! text as CDATA as it is. So a control character makes the file unreadable, and `]]>` ends the
//! CDATA and lets a test's output write elements of its own. Everything passes [`attribute`] or
//! [`content`] first.

use crate::log::terminal::Sanitizer;

/// The longest attribute; names beyond this serve nobody.
const ATTRIBUTE_MAX: usize = 2048;

/// Text for an attribute: one line, of characters that XML 1.0 allows (production 2).
pub(super) fn attribute(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(ATTRIBUTE_MAX));
    sanitize(text, |line| {
        if !clean.is_empty() && !line.is_empty() {
            clean.push(' ');
        }
        let line = line.chars().filter(|character| is_allowed(*character));
        // Readers turn a tab in an attribute into a space (XML 1.0, 3.3.3).
        clean.extend(line.map(|character| if character == '\t' { ' ' } else { character }));
    });
    shorten(&mut clean, ATTRIBUTE_MAX);
    clean
}

/// Text for the content of an element that is written as CDATA. A `]]>` in it is taken apart into
/// two CDATA sections, so that a parser gives back the very text.
pub(super) fn content(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    sanitize(text, |line| {
        clean.extend(line.chars().filter(|character| is_allowed(*character)));
        clean.push('\n');
    });
    if !text.ends_with('\n') {
        clean.pop();
    }
    clean.replace("]]>", "]]]]><![CDATA[>")
}

/// Cuts `text` to at most `limit` bytes, with an ellipsis where something is missing.
pub(super) fn shorten(text: &mut String, limit: usize) {
    const ELLIPSIS: char = '…';
    if text.len() <= limit {
        return;
    }
    let room = limit.saturating_sub(ELLIPSIS.len_utf8());
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text.truncate(end);
    text.push(ELLIPSIS);
}

fn sanitize(text: &str, mut line: impl FnMut(&str)) {
    let mut sanitizer = Sanitizer::new(false);
    sanitizer.push(text.as_bytes(), &mut line);
    sanitizer.flush(&mut line);
}

fn is_allowed(character: char) -> bool {
    matches!(character,
        '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_one_clean_line() {
        let check = |text: &str, expected: &str| assert_eq!(attribute(text), expected);
        check("a <b> & \"c\"", "a <b> & \"c\"");
        check("a\n\n\tb\x1b[31mc\0\u{fffe}", "a  bc");
        let long = attribute(&"ü".repeat(2000));
        assert!(long.len() <= ATTRIBUTE_MAX && long.ends_with("ü…"));
    }

    #[test]
    fn content_cannot_end_its_section() {
        let check = |text: &str, expected: &str| assert_eq!(content(text), expected);
        check("a\nb", "a\nb");
        check("a\nb\n", "a\nb\n");
        check("x ]]> y", "x ]]]]><![CDATA[> y");
        // Dropping the character between must not make one either.
        check("]]\x01>", "]]]]><![CDATA[>");
        check("\x1b]0;t\x07a\u{ffff}", "a");
    }
}
