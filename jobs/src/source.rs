//! The text of pipeline files and places within it.
//!
//! A [`Span`] is a range of bytes in one file of a [`Sources`], so that a fault can be shown where
//! it is, also when several files were merged by `include`. Bytes that are not UTF-8, or too many
//! of them, are still taken in (bounded) so that the refusal itself has a place to point to.

use std::fmt;

/// The longest pipeline file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// One file of a [`Sources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u32);

/// A range of bytes in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Which file.
    pub file: FileId,
    /// The first byte.
    pub start: u32,
    /// One past the last byte; equal to `start` for a place between two characters.
    pub end: u32,
}

impl Span {
    /// The part of this span from `start` to `end`, both counted from where this span begins.
    #[must_use]
    pub fn within(self, start: usize, end: usize) -> Self {
        let offset =
            |bytes: usize| self.start.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        Self { file: self.file, start: offset(start).min(self.end), end: offset(end).min(self.end) }
    }
}

/// A value and the place in the file that says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Pairs `value` with its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// The same place with another value.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: convert(self.value), span: self.span }
    }
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Why the bytes of a file are not text that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// More than [`MAX_FILE_BYTES`]; the number is how many there were.
    TooLong(usize),
    /// Not UTF-8 from this byte of the text on.
    NotUtf8(usize),
}

/// One file: its name for messages, its text, and where its lines begin.
#[derive(Clone, Debug)]
pub struct SourceFile {
    name: String,
    text: String,
    line_starts: Vec<u32>,
    unreadable: Option<Unreadable>,
}

impl SourceFile {
    fn new(name: String, bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let kept = bytes.get(..MAX_FILE_BYTES).unwrap_or(bytes);
        let (text, not_utf8) = match str::from_utf8(kept) {
            Ok(text) => (text.to_owned(), None),
            Err(error) => (String::from_utf8_lossy(kept).into_owned(), Some(error.valid_up_to())),
        };
        let unreadable = if bytes.len() > MAX_FILE_BYTES {
            Some(Unreadable::TooLong(bytes.len()))
        } else {
            not_utf8.map(Unreadable::NotUtf8)
        };
        let line_starts = std::iter::once(0)
            .chain(text.bytes().zip(1_u32..).filter(|(byte, _)| *byte == b'\n').map(|(_, at)| at))
            .collect();
        Self { name, text, line_starts, unreadable }
    }

    /// The name for messages, as the caller gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, at most [`MAX_FILE_BYTES`] of it, without a byte order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line and the column of a byte, both from 1; the column counts characters.
    pub fn position(&self, offset: u32) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_start(line);
        let column = self.slice(start, offset as usize).chars().count() + 1;
        Position { line, column }
    }

    /// The byte at which a line (from 1) begins; the end of the text for lines that do not exist.
    pub(crate) fn line_start(&self, line: usize) -> usize {
        self.line_starts.get(line.saturating_sub(1)).map_or(self.text.len(), |at| *at as usize)
    }

    /// The text between two bytes; empty when these do not bound whole characters.
    pub(crate) fn slice(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end.min(self.text.len())).unwrap_or_default()
    }

    pub(crate) fn unreadable(&self) -> Option<Unreadable> {
        self.unreadable
    }
}

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// All files that a pipeline was read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
}

impl Sources {
    /// No files yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the bytes of a file; `name` is what messages call it.
    ///
    /// Nothing is refused here: what is too long or not UTF-8 is reported by [`crate::parse`],
    /// with its place.
    pub fn add(&mut self, name: impl Into<String>, bytes: &[u8]) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(SourceFile::new(name.into(), bytes));
        id
    }

    /// The file of an id that [`Sources::add`] of this same value returned.
    pub fn file(&self, id: FileId) -> Option<&SourceFile> {
        self.files.get(id.0 as usize)
    }

    /// The names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(SourceFile::name)
    }

    /// The text of a place.
    pub fn text(&self, span: Span) -> &str {
        self.file(span.file)
            .map(|file| file.slice(span.start as usize, span.end as usize))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let mut sources = Sources::new();
        let id = sources.add("a.yml", "\u{feff}ä: ö\r\nb: c\n".as_bytes());
        let file = sources.file(id).unwrap();
        for (offset, line, column) in
            [(0, 1, 1), (2, 1, 2), (4, 1, 4), (6, 1, 5), (8, 2, 1), (11, 2, 4), (13, 3, 1)]
        {
            assert_eq!(file.position(offset), Position { line, column }, "byte {offset}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_keep_their_place() {
        let mut sources = Sources::new();
        let id = sources.add("a.yml", b"ok: \xff\n");
        assert_eq!(sources.file(id).unwrap().unreadable(), Some(Unreadable::NotUtf8(4)));
        let id = sources.add("b.yml", &vec![b'a'; MAX_FILE_BYTES + 7]);
        let file = sources.file(id).unwrap();
        assert_eq!(file.unreadable(), Some(Unreadable::TooLong(MAX_FILE_BYTES + 7)));
        assert_eq!(file.text().len(), MAX_FILE_BYTES);
    }
}
