//! Reading the small files in which the kernel tells about processes and groups.
//!
//! They have no length to go by, and making their text is what costs time, so it is asked for in
//! one piece.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// The longest is a list of processes or mounts, and no host has so many.
const LONGEST: u64 = 64 * 1024 * 1024;
/// Most files are shorter, and come with one call.
const USUAL: usize = 4096;

/// The whole text of a file.
pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let no_text = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    String::from_utf8(read_bytes(path)?).map_err(no_text)
}

/// The whole of a file that may have names in it that are no text.
pub(crate) fn read_bytes(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL);
    File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
