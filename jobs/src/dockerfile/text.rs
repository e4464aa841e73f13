//! A file to its instructions as lines: comments dropped, continuation lines joined.

use super::{directive::Directives, fragment::Line};
use crate::{
    diagnostic::{Code, Diagnostic, Report},
    source::{FileId, MAX_FILE_BYTES, SourceFile, Span, Unreadable},
};

/// Walks through the lines of a file.
#[derive(Clone, Debug)]
pub(super) struct Lines<'f> {
    file: &'f SourceFile,
    id: FileId,
    position: usize,
    /// The character that continues a line.
    pub(super) escape: char,
}

/// One line as it stands in the file, without what ends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Physical<'f> {
    pub(super) text: &'f str,
    /// Where it begins.
    pub(super) start: usize,
    /// Where the next one begins.
    pub(super) next: usize,
}

impl<'f> Lines<'f> {
    /// Begins with the directives; [`None`] when the file cannot be read as text.
    pub(super) fn new(file: &'f SourceFile, id: FileId, report: &mut Report) -> Option<Self> {
        if let Some(refusal) = refusal(file, id) {
            report.push(refusal);
            return None;
        }
        let mut lines = Self { file, id, position: 0, escape: '\\' };
        let mut directives = Directives::default();
        loop {
            let before = lines.position;
            let Some(physical) = lines.physical() else { break };
            let line = lines.line(physical.text, physical.start);
            if !directives.read(line.whole().trim(), report) {
                lines.position = before;
                break;
            }
        }
        lines.escape = directives.escape;
        Some(lines)
    }

    /// Text of this file that begins at a byte.
    pub(super) fn line(&self, text: &str, start: usize) -> Line {
        let mut line = Line::new(self.id);
        line.push(text, start);
        line
    }

    /// An empty text of this file.
    pub(super) fn empty(&self) -> Line {
        Line::new(self.id)
    }

    /// The place after everything.
    pub(super) fn end(&self) -> Span {
        place(self.id, self.file.text().len(), self.file.text().len())
    }

    /// The file's text.
    pub(super) fn text(&self, start: usize, end: usize) -> &'f str {
        self.file.text().get(start..end).unwrap_or_default()
    }

    /// The next line as it stands.
    pub(super) fn physical(&mut self) -> Option<Physical<'f>> {
        let rest = self.file.text().get(self.position..).filter(|rest| !rest.is_empty())?;
        let start = self.position;
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        self.position = start + length;
        let text = rest.get(..length).unwrap_or_default();
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        Some(Physical { text, start, next: self.position })
    }

    /// The next instruction, with all lines that continue it.
    pub(super) fn instruction(&mut self) -> Option<Line> {
        let mut line = self.empty();
        loop {
            let physical = self.physical()?;
            let text = physical.text.trim_start();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let start = physical.start + (physical.text.len() - text.len());
            let (text, mut more) = continued(text, self.escape);
            line.push(text, start);
            while more {
                let Some(physical) = self.physical() else { break };
                let text = physical.text;
                // Both are allowed within an instruction, and count for nothing.
                if text.trim_start().is_empty() || text.trim_start().starts_with('#') {
                    continue;
                }
                let (text, again) = continued(text, self.escape);
                line.push(text, physical.start);
                more = again;
            }
            if !line.text().trim().is_empty() {
                return Some(line);
            }
            line = self.empty();
        }
    }
}

/// The part of a line that counts, and whether the next one belongs to it. An escape character
/// that is itself escaped continues nothing.
fn continued(text: &str, escape: char) -> (&str, bool) {
    let trimmed = text.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(body) if !body.ends_with(escape) => (body, true),
        _ => (text, false),
    }
}

fn place(file: FileId, start: usize, end: usize) -> Span {
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { file, start: number(start), end: number(end) }
}

fn refusal(file: &SourceFile, id: FileId) -> Option<Diagnostic> {
    match file.unreadable() {
        Some(Unreadable::TooLong(length)) => {
            let end = file.text().len();
            return Some(
                Diagnostic::error(
                    Code::FileTooLong,
                    format!("the file has {length} bytes, at most {MAX_FILE_BYTES} are read"),
                )
                .at(place(id, end, end), "the limit is here")
                .help("put long scripts into files of the context and `COPY` them"),
            );
        }
        Some(Unreadable::NotUtf8(offset)) => {
            return Some(
                Diagnostic::error(Code::NotText, "the file is not UTF-8 text")
                    .at(place(id, offset, offset), "the first byte that is not UTF-8")
                    .help("save the file as UTF-8; is this a Dockerfile?"),
            );
        }
        None => {}
    }
    let control = |character: &(usize, char)| {
        character.1.is_control() && !matches!(character.1, '\t' | '\n' | '\r')
    };
    let (offset, character) = file.text().char_indices().find(control)?;
    let message = format!("the file holds the control character U+{:04X}", u32::from(character));
    Some(
        Diagnostic::error(Code::NotText, message)
            .at(place(id, offset, offset + character.len_utf8()), "")
            .help("remove it, or have a program write it, such as `printf '\\033'`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    fn instructions(text: &str) -> Vec<String> {
        let mut sources = Sources::new();
        let id = sources.add("Dockerfile", text.as_bytes());
        let mut report = Report::new();
        let mut lines = Lines::new(sources.file(id).unwrap(), id, &mut report).unwrap();
        assert_eq!(report.finish(), []);
        std::iter::from_fn(|| lines.instruction()).map(|line| line.text().to_owned()).collect()
    }

    #[test]
    fn lines_are_joined_and_comments_dropped() {
        for (text, expect) in [
            ("", &[][..]),
            ("# a\n\n  # b\n", &[]),
            ("FROM a\nRUN b", &["FROM a", "RUN b"]),
            ("  RUN a", &["RUN a"]),
            ("RUN a \\\n  b", &["RUN a   b"]),
            ("RUN a \\  \t\n  b", &["RUN a   b"]),
            ("RUN a\\\nb", &["RUN ab"]),
            ("RUN a \\\r\n b\r\n", &["RUN a  b"]),
            ("RUN a \\\n# no\n  # no\n\n b", &["RUN a  b"]),
            ("RUN a \\", &["RUN a "]),
            ("RUN a \\\\\nRUN b", &["RUN a \\\\", "RUN b"]),
            (
                "RUN echo '# not a comment' # this is text",
                &["RUN echo '# not a comment' # this is text"],
            ),
            ("\\\nRUN a", &["RUN a"]),
            ("# escape=`\nRUN a `\nb \\\nRUN c", &["RUN a b \\", "RUN c"]),
            ("# a comment\n# escape=`\nRUN a \\\nb", &["RUN a b"]),
            ("#syntax=docker/dockerfile:1\n#escape = `\nRUN a `\nb", &["RUN a b"]),
            ("\u{feff}FROM a", &["FROM a"]),
        ] {
            assert_eq!(instructions(text), expect, "{text:?}");
        }
    }
}
