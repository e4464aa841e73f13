//! Reading tar archives that may be hostile, and writing those of layers made here.
//!
//! Read are old, ustar, PAX and GNU formats and sparse files. Two parsers that read one archive differently are a weapon (CVE-2025-62518), so whatever is
//! ambiguous is refused and not guessed. Only the header layout comes from the `tar` crate; its
//! iterator takes no bound for extended headers and its raw mode does not know PAX sizes.

mod entry;
mod number;
mod path;
mod pax;
mod reader;
mod sparse;
mod writer;

pub(crate) use entry::{Entry, Kind};
pub(crate) use path::EntryPath;
pub(crate) use reader::{Archive, Skip};
pub(crate) use sparse::SparseMap;
pub(crate) use writer::{Described, ExtendedAttribute, WHITEOUT, Writer, join};
