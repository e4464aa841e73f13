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
    let mut text = String::with_capacity(USUAL);
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}
