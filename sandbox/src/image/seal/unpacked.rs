//! An archive that is to be unpacked into an image, as files that can be copied.
//!
//! It goes the way of a layer from a stranger: whatever an archive may try, it is tried on that
//! code. What an archive says with names that begin with `.wh.` has no meaning below an empty root.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::Path,
    sync::atomic::AtomicBool,
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

use super::links;
use crate::{
    Error, Result,
    error::Doing as _,
    image::{
        Image,
        compression::{Compressed, Decompressed},
        digest::{Algorithm, HashingReader},
        import::{Import, Watched},
        limits::{Budget, ImportLimits},
        problem::Problem,
        store::{LayerDir, Scratch, Store},
    },
    sys::beneath::open_beneath,
};

/// Bytes of a header (POSIX.1 pax, "ustar Interchange Format").
const HEADER: usize = 512;

impl Store {
    /// What the archive at `path` of a directory of the host holds: a tar archive, plain or
    /// compressed with gzip or zstd. [`None`] where it is none.
    ///
    /// # Errors
    /// With [`crate::Fault::Pipeline`] where the archive tries what it must not, or is compressed in
    /// another way.
    pub fn unpacked(&self, root: &Path, path: &Path) -> Result<Option<Image>> {
        let doing = || format!("unpack the archive `{}`", path.display());
        let Some(mut file) = regular(root, path).system(doing)? else { return Ok(None) };
        let limits = ImportLimits::default();
        match shape(&mut file, &limits).map_err(|problem| problem.during(doing()))? {
            Shape::File => return Ok(None),
            Shape::Unknown(how) => {
                let why = format!("it is compressed with {how}");
                return Err(Error::pipeline(doing(), why).remedy(
                    "compress it with gzip or zstd, or `COPY` it and unpack it in a `RUN`",
                ));
            }
            Shape::Archive => {}
        }
        file.seek(SeekFrom::Start(0)).system(doing)?;
        let layer = self.take_archive(file, &limits, &doing)?;
        let mut image = self.empty_base().image().with_layers(&[])?;
        image.layers.extend(layer);
        Ok(Some(image))
    }

    fn take_archive(
        &self,
        file: File,
        limits: &ImportLimits,
        doing: &dyn Fn() -> String,
    ) -> Result<Option<LayerDir>> {
        let scratch = Scratch::new(self)?;
        let progress = &|_| std::ops::ControlFlow::Continue(());
        let import = Import::of_layer(self, &scratch, limits, progress);
        let budget = Budget::new(limits);
        let stopped = AtomicBool::new(false);
        let total = file.metadata().system(doing)?.len();
        let stopped = &stopped;
        let source =
            Watched { input: file, progress, layer: 0, total, stopped, write_behind: None };
        let unpacked = import
            .unpack(source, 0, Algorithm::Sha256, None, &budget)
            .map_err(|problem| problem.during(doing()))?;
        let chain = [unpacked.diff_id.clone()];
        let mut layers = import.publish(vec![None], vec![(0, unpacked)], &chain, &budget)?;
        Ok(layers.pop())
    }
}

/// The regular file at `path`.
fn regular(root: &Path, path: &Path) -> io::Result<Option<File>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(root, flags, Mode::empty())?;
    let found = links::in_directory(&root, path.as_os_str().as_bytes());
    let Some(found) = found.map_err(io::Error::other)? else { return Ok(None) };
    if found.is_empty() {
        return Ok(None);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::from(open_beneath(root.as_fd(), OsStr::from_bytes(&found), flags)?);
    Ok(if file.metadata()?.is_file() { Some(file) } else { None })
}

enum Shape {
    Archive,
    File,
    Unknown(&'static str),
}

fn shape(file: &mut File, limits: &ImportLimits) -> Result<Shape, Problem> {
    let mut start = [0; 6];
    let read = file.read(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    match start.get(..read).unwrap_or_default() {
        [b'B', b'Z', b'h', ..] => return Ok(Shape::Unknown("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Ok(Shape::Unknown("xz")),
        _ => {}
    }
    let budget = Budget::new(limits);
    let compressed = Compressed::new(HashingReader::new(&*file, Algorithm::Sha256))?;
    let mut header = Vec::new();
    let decompressed = Decompressed::new(compressed, &budget)?;
    // What cannot be decompressed is a file like any other.
    if decompressed.take(HEADER as u64).read_to_end(&mut header).is_err() {
        return Ok(Shape::File);
    }
    Ok(if is_header(&header) { Shape::Archive } else { Shape::File })
}

/// Whether a block is the header of an entry: its sum is right (POSIX.1 pax, "chksum").
fn is_header(block: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let (Some(field), HEADER) = (block.get(SUM), block.len()) else { return false };
    let digits: String =
        field.iter().map(|byte| char::from(*byte)).filter(char::is_ascii_digit).collect();
    let bytes = block.iter().enumerate();
    let sum: u32 =
        bytes.map(|(at, byte)| u32::from(if SUM.contains(&at) { b' ' } else { *byte })).sum();
    u32::from_str_radix(&digits, 8).is_ok_and(|said| said == sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_header_is_a_header() {
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_cksum();
        assert!(is_header(header.as_bytes()));
        let mut other = *header.as_bytes();
        other[0] = b'b';
        for block in [&other[..], &[0; HEADER], &header.as_bytes()[..511], b""] {
            assert!(!is_header(block));
        }
    }
}
