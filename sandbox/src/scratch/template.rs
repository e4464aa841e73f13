//! An empty ext4 with given limits, to be written into many files.
//!
//! Of an empty file system only some tens of kilobytes are not zero, so writing those is much
//! faster than making it anew. What it takes to make one (`mke2fs`, the directories, and a look at
//! what is free to reserve what is too much) is done once per pair of limits and state directory.

use std::{
    ffi::CStr,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
    unistd::{Whence, linkat, lseek64},
};
use serde::{Deserialize, Serialize};

use super::{
    choice, disk, geometry,
    geometry::BLOCK,
    room::{Free, make_directories, make_directory},
};
use crate::{
    Limits,
    error::{Doing as _, Error, Result},
    sys::mount::{Tree, open_tree},
};

/// The directory with everything in it. ext4 keeps directories at the top far from each other, and
/// those below one close together, which takes fewer tables.
const TOP: &CStr = c"room";
/// Since then a part of a mount that is attached nowhere can be copied, and so [`TOP`] be shown alone.
const TOP_SINCE: (u32, u32) = (6, 15);
/// Counted up whenever the file system is made in another way.
const VERSION: u32 = 3;
/// Pairs of limits that are kept: one is at most some megabytes, and jobs are mostly alike.
const KEPT: usize = 32;
/// Largest template that is read back, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What is not used: no journal, no checksums, no copies of the superblock.
const FEATURES: &str = "none,64bit,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,\
                        flex_bg,huge_file,large_file,sparse_super2,uninit_bg";
const EXTENDED: &str =
    "lazy_itable_init=1,nodiscard,num_backup_sb=0,packed_meta_blocks=1,root_owner=0:0";

/// An empty file system.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Template {
    /// Bytes in all.
    size: u64,
    /// Whether everything is in [`TOP`].
    has_top: bool,
    /// Where something else than zeros is, and what.
    content: Vec<(u64, Vec<u8>)>,
}

impl Template {
    /// Makes one; needs a loop device for a moment.
    pub(super) fn make(limits: &Limits, directory: &Path) -> Result<Self> {
        let doing = || format!("prepare a scratch file system of {} bytes", limits.disk);
        let size = geometry::whole_blocks(limits).saturating_mul(BLOCK);
        let file = disk::nameless_file(directory)
            .and_then(|file| file.set_len(size).map(|()| file))
            .map_err(|error| {
                Error::system(doing(), error).remedy("ask for less with the limit `disk`")
            })?;
        format(&file, limits)?;
        let has_top = choice::kernel_is_at_least(TOP_SINCE);
        let fill = || {
            let mount = disk::attach(&file)?.mount()?;
            if has_top {
                make_directory(&mount, TOP)?;
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                make_directories(openat(&mount, TOP, flags, Mode::empty())?)?;
            } else {
                make_directories(&mount)?;
            }
            Free::of(&mount)
        };
        // Closing the mount has unmounted it, and all of it is in the file.
        let free = fill().system(doing)?;
        let unneeded = (free.bytes / BLOCK).checked_sub(geometry::usable_blocks(limits));
        let unneeded = unneeded
            .ok_or_else(|| Error::system(doing(), format!("only {} bytes are free", free.bytes)))?;
        let content = content_of(&file, size).system(doing)?;
        let mut template = Self { size, has_top, content };
        template
            .content
            .first_mut()
            .filter(|(offset, _)| *offset == 0)
            .and_then(|(_, start)| geometry::reserve(start, unneeded))
            .ok_or_else(|| Error::system(doing(), "it has no superblock"))?;
        Ok(template)
    }

    /// Reads what is not zero from a device that it was written to, so that the kernel has it at
    /// hand when the file system is mounted and used: each block would be waited for alone.
    pub(super) fn read_ahead(&self, device: &File) -> io::Result<()> {
        self.content.iter().try_for_each(|(offset, bytes)| {
            device.read_exact_at(&mut vec![0; bytes.len()], *offset)
        })
    }

    /// Writes it into an empty file.
    pub(super) fn write_to(&self, file: &File) -> io::Result<()> {
        file.set_len(self.size)?;
        self.content.iter().try_for_each(|(offset, bytes)| file.write_all_at(bytes, *offset))
    }

    /// The mount of a file system that holds this, without what is above the room.
    pub(super) fn room_of(&self, mount: OwnedFd) -> io::Result<OwnedFd> {
        if self.has_top { open_tree(&mount, TOP, Tree::Copy) } else { Ok(mount) }
    }

    /// The one that was stored, unless there is none that can be used.
    pub(super) fn load(directory: &Path, limits: &Limits) -> Option<Self> {
        let mut bytes = Vec::new();
        let file = File::open(path(directory, limits)).ok()?;
        file.take(LARGEST).read_to_end(&mut bytes).ok()?;
        postcard::from_bytes(&bytes).ok()
    }

    /// Stores it for the next time. It can be made again, so it is no failure when that fails.
    pub(super) fn store(&self, directory: &Path, limits: &Limits) {
        let store = || -> io::Result<()> {
            if fs::read_dir(directory)?.count() >= KEPT {
                return Ok(());
            }
            let mut file = disk::nameless_file(directory)?;
            file.write_all(&postcard::to_allocvec(self).map_err(io::Error::other)?)?;
            file.sync_all()?;
            // It gets its name when it is whole.
            let magic = format!("/proc/self/fd/{}", file.as_raw_fd());
            let follow = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
            let here = nix::fcntl::AT_FDCWD;
            match linkat(here, magic.as_str(), here, &path(directory, limits), follow) {
                Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        if let Err(error) = store() {
            tracing::debug!(%error, "a prepared scratch file system is not kept");
        }
    }

    /// Removes the stored one.
    pub(super) fn forget(directory: &Path, limits: &Limits) {
        if let Err(error) = fs::remove_file(path(directory, limits)) {
            tracing::debug!(%error, "a prepared scratch file system cannot be removed");
        }
    }
}

fn path(directory: &Path, limits: &Limits) -> PathBuf {
    let form = if choice::kernel_is_at_least(TOP_SINCE) { "" } else { "-flat" };
    directory.join(format!("{VERSION}-{}-{}{form}", limits.disk, limits.inodes))
}

/// Makes an ext4 in `file`.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that makes an ext4: no maintained library does, and the host's own \
              mke2fs writes what the host's own kernel reads"
)]
fn format(file: &File, limits: &Limits) -> Result<()> {
    let doing = || "make an ext4 with `mke2fs`";
    let program = choice::mke2fs().ok_or_else(|| {
        Error::system(doing(), "it is not installed").remedy("install the package e2fsprogs")
    })?;
    let output = Command::new(program)
        .env_clear()
        // What this machine's operator prefers for other file systems is not for this one.
        .env("MKE2FS_CONFIG", "/dev/null")
        .args(["-q", "-F", "-m", "0", "-O", FEATURES, "-E", EXTENDED])
        .args(["-b", &BLOCK.to_string(), "-I", &geometry::INODE.to_string()])
        .args(["-N", &geometry::whole_inodes(limits).to_string()])
        .arg(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
        .arg(geometry::whole_blocks(limits).to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .system(doing)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::system(doing(), format!("{}: {said}", output.status)))
}

/// The blocks of the first `size` bytes that are not zero.
fn content_of(file: &File, size: u64) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let mut content: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut block = vec![0_u8; usize::try_from(BLOCK).map_err(io::Error::other)?];
    let mut offset = 0;
    while let Some(start) = seek(file, offset, Whence::SeekData)? {
        let end = seek(file, start, Whence::SeekHole)?.unwrap_or(size).min(size);
        offset = start / BLOCK * BLOCK;
        while offset < end {
            file.read_exact_at(&mut block, offset)?;
            if block.iter().any(|byte| *byte != 0) {
                match content.last_mut() {
                    Some((first, bytes)) if *first + bytes.len() as u64 == offset => {
                        bytes.extend_from_slice(&block);
                    }
                    _ => content.push((offset, block.clone())),
                }
            }
            offset += BLOCK;
        }
    }
    Ok(content)
}

/// `None` where no more data follows.
fn seek(file: &File, from: u64, whence: Whence) -> io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(io::Error::other)?;
    match lseek64(file, from, whence) {
        Ok(found) => u64::try_from(found).map(Some).map_err(io::Error::other),
        Err(nix::errno::Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_zero_is_kept_and_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = disk::nameless_file(directory.path()).unwrap();
        let size = 64 * BLOCK;
        file.set_len(size).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(&[0; 4096], 3 * BLOCK).unwrap();
        file.write_all_at(b"x", 9 * BLOCK - 1).unwrap();
        file.write_all_at(b"y", 9 * BLOCK).unwrap();
        let template = Template { size, has_top: true, content: content_of(&file, size).unwrap() };
        let shape: Vec<_> = template.content.iter().map(|(at, it)| (*at, it.len())).collect();
        assert_eq!(shape, [(0, 4096), (8 * BLOCK, 8192)]);
        let copy = disk::nameless_file(directory.path()).unwrap();
        template.write_to(&copy).unwrap();
        assert_eq!(copy.metadata().unwrap().len(), size);
        assert_eq!(content_of(&copy, size).unwrap(), template.content);
    }

    #[test]
    fn stored_ones_are_read_back_and_bounded_in_number() {
        let directory = tempfile::tempdir().unwrap();
        let limits = |disk| Limits { disk, ..Limits::default() };
        let template = Template { size: BLOCK, has_top: false, content: vec![(0, vec![1; 4096])] };
        for disk in 0..40 {
            template.store(directory.path(), &limits(disk));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), KEPT);
        assert_eq!(Template::load(directory.path(), &limits(0)), Some(template));
        assert_eq!(Template::load(directory.path(), &limits(39)), None);
        Template::forget(directory.path(), &limits(0));
        assert_eq!(Template::load(directory.path(), &limits(0)), None);
        fs::write(path(directory.path(), &limits(1)), b"torn").unwrap();
        assert_eq!(Template::load(directory.path(), &limits(1)), None);
    }
}
