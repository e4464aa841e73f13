//! Arguments as a JSON list of strings, the "exec form".

use super::fragment::{Fragment, Line};
use crate::diagnostic::{Code, Diagnostic, Report};

/// One string of the list, as text that knows its place.
#[derive(Debug)]
pub(super) struct Element {
    line: Line,
}

impl Element {
    pub(super) fn fragment(&self) -> Fragment<'_> {
        self.line.whole()
    }

    pub(super) fn text(&self) -> &str {
        self.line.text()
    }
}

/// The strings of a list; [`None`] where the arguments are not exactly one list of strings: then
/// they are words. Something that was probably meant to be a list is warned about.
pub(super) fn read(arguments: Fragment<'_>, report: &mut Report) -> Option<Vec<Element>> {
    let text = arguments.trim();
    if !text.text().starts_with('[') {
        return None;
    }
    let list = elements(text);
    let inside = text.text().trim_start_matches('[').trim_start();
    if list.is_none() && text.text().ends_with(']') && inside.starts_with(['"', '\'']) {
        report.push(
            Diagnostic::warning(
                Code::DockerfileNotJson,
                "this looks like a list, but it is not JSON, and is taken as plain words",
            )
            .at(text.span(), "")
            .help("a list has double quotes and commas: [\"program\", \"argument\"]"),
        );
    }
    list
}

fn elements(list: Fragment<'_>) -> Option<Vec<Element>> {
    let mut rest = list.after(1).trim_start();
    let mut elements = Vec::new();
    if rest.text() == "]" {
        return Some(elements);
    }
    loop {
        let length = string_length(rest.text())?;
        let string: String = serde_json::from_str(rest.text().get(..length)?).ok()?;
        let inside = rest.part(1..length - 1);
        let mut line = Line::new(inside.span().file);
        line.push(&string, inside.span().start as usize);
        elements.push(Element { line });
        rest = rest.after(length).trim_start();
        match rest.text().chars().next()? {
            ',' => rest = rest.after(1).trim_start(),
            ']' if rest.text() == "]" => return Some(elements),
            _ => return None,
        }
    }
}

/// Bytes of the string that the text begins with, quotes included.
fn string_length(text: &str) -> Option<usize> {
    let mut characters = text.char_indices();
    if characters.next()?.1 != '"' {
        return None;
    }
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next()?;
            }
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileId;

    #[test]
    fn only_lists_of_strings_are_lists() {
        for (text, expect) in [
            ("[]", Some(&[][..])),
            (r#"["a", "b c"]"#, Some(&["a", "b c"])),
            (r#" [ "a" , "\"\u00e4\\" ] "#, Some(&["a", "\"ä\\"])),
            (r#"["a",]"#, None),
            (r#"["a"] b"#, None),
            (r#"["a" "b"]"#, None),
            (r#"['a']"#, None),
            (r"[1]", None),
            (r#"["a"#, None),
            (r"[ -f x ] && y", None),
            (r#""a""#, None),
        ] {
            let mut line = Line::new(FileId::default());
            line.push(text, 0);
            let list = read(line.whole(), &mut Report::new());
            let list = list.map(|list| {
                list.iter().map(|element| element.text().to_owned()).collect::<Vec<_>>()
            });
            let expect = expect.map(|all| all.iter().map(|&text| text.to_owned()).collect());
            assert_eq!(list, expect, "{text}");
        }
    }
}
