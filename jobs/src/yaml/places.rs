//! The parser's places, counted in characters, as ranges of bytes.

use saphyr_parser::{Marker, Span as Range};

use crate::source::{FileId, SourceFile, Span};

/// Turns the parser's places, counted in characters, into ranges of bytes.
pub(super) struct Places<'a> {
    file: &'a SourceFile,
    id: FileId,
    /// The byte of each character, where these differ.
    offsets: Option<Vec<u32>>,
}

impl<'a> Places<'a> {
    pub(super) fn new(file: &'a SourceFile, id: FileId) -> Self {
        let text = file.text();
        let offsets = (!text.is_ascii()).then(|| {
            text.char_indices().map(|(at, _)| u32::try_from(at).unwrap_or(u32::MAX)).collect()
        });
        Self { file, id, offsets }
    }

    /// The text that the places are in.
    pub(super) fn text(&self) -> &'a str {
        self.file.text()
    }

    /// The byte of a place.
    pub(super) fn byte(&self, marker: &Marker) -> usize {
        let length = self.file.text().len();
        match &self.offsets {
            None => marker.index().min(length),
            Some(offsets) => offsets.get(marker.index()).map_or(length, |at| *at as usize),
        }
    }

    /// From one byte to another.
    pub(super) fn bytes(&self, start: usize, end: usize) -> Span {
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { file: self.id, start: narrow(start), end: narrow(end.max(start)) }
    }

    /// The range without the blanks that the parser counts in at its end.
    pub(super) fn span(&self, range: Range) -> Span {
        let (start, end) = (self.byte(&range.start), self.byte(&range.end));
        let text = self.file.slice(start, end).trim_end();
        self.bytes(start, start + text.len())
    }

    /// From `start` to `end`, cut at the end of the first line.
    pub(super) fn head(&self, start: Span, end: Span) -> Span {
        let text = self.file.slice(start.start as usize, end.end as usize);
        let line = text.split(['\n', '\r']).next().unwrap_or_default().trim_end();
        self.bytes(start.start as usize, start.start as usize + line.len())
    }
}
