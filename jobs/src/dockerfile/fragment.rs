//! Text that was put together from lines of a file, and parts of it that know their place there.
//!
//! Continuation lines make one instruction of several lines, so a place in the instruction is not
//! simply an offset in the file.

use std::ops::Range;

use crate::source::{FileId, Span};

/// Text with the places in the file that it came from.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    text: String,
    file: FileId,
    /// Where a run of bytes begins: in `text`, and in the file.
    runs: Vec<(usize, usize)>,
}

impl Line {
    pub(super) fn new(file: FileId) -> Self {
        Self { text: String::new(), file, runs: Vec::new() }
    }

    /// Adds text that begins at byte `at` of the file.
    pub(super) fn push(&mut self, text: &str, at: usize) {
        self.runs.push((self.text.len(), at));
        self.text.push_str(text);
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn whole(&self) -> Fragment<'_> {
        Fragment { line: self, start: 0, end: self.text.len() }
    }

    fn at(&self, offset: usize) -> usize {
        let run = self.runs.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        self.runs.get(run).map_or(0, |(start, at)| at + (offset - start))
    }

    fn span(&self, range: Range<usize>) -> Span {
        let start = self.at(range.start);
        // The end is where the last byte is: the next one may come from another line.
        let end = if range.is_empty() { start } else { self.at(range.end - 1) + 1 };
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { file: self.file, start: number(start), end: number(end.max(start)) }
    }
}

/// A part of a [`Line`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'l> {
    line: &'l Line,
    start: usize,
    end: usize,
}

impl<'l> Fragment<'l> {
    pub(super) fn text(self) -> &'l str {
        self.line.text.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn span(self) -> Span {
        self.line.span(self.start..self.end)
    }

    pub(super) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// A part, by bytes of this one.
    pub(super) fn part(self, range: Range<usize>) -> Self {
        let end = (self.start + range.end).min(self.end);
        Self { line: self.line, start: (self.start + range.start).min(end), end }
    }

    /// What follows the first `bytes`.
    pub(super) fn after(self, bytes: usize) -> Self {
        self.part(bytes..self.end - self.start)
    }

    pub(super) fn trim(self) -> Self {
        self.trim_start().trim_end()
    }

    pub(super) fn trim_start(self) -> Self {
        self.after(self.text().len() - self.text().trim_start().len())
    }

    pub(super) fn trim_end(self) -> Self {
        self.part(0..self.text().trim_end().len())
    }

    /// The first word and what comes after it, without the space between them.
    pub(super) fn split_word(self) -> (Self, Self) {
        let text = self.text();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        (self.part(0..end), self.after(end).trim_start())
    }

    /// What is before and after the first `separator`.
    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let at = self.text().find(separator)?;
        Some((self.part(0..at), self.after(at + separator.len_utf8())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_know_their_place_across_lines() {
        let mut line = Line::new(FileId::default());
        line.push("RUN a ", 10);
        line.push("  b c", 20);
        let (word, rest) = line.whole().split_word();
        assert_eq!((word.text(), rest.text()), ("RUN", "a   b c"));
        let span = |fragment: Fragment<'_>| (fragment.span().start, fragment.span().end);
        assert_eq!(span(word), (10, 13));
        assert_eq!(span(rest), (14, 25));
        assert_eq!(span(rest.part(0..1)), (14, 15));
        let (_, b) = rest.split_word();
        assert_eq!((b.text(), span(b)), ("b c", (22, 25)));
        assert_eq!(span(b.after(3)), (25, 25));
        assert_eq!(b.part(2..9).text(), "c");
    }
}
