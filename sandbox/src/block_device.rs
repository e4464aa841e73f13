//! The block devices that files are on, by which their bandwidth is limited.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::sys::{
    stat::{dev_t, major, minor},
    statfs::{TMPFS_MAGIC, statfs},
};

use crate::{
    error::{Doing as _, Error, Result},
    kernel_file, mount_table,
};

/// A whole device by its numbers; a partition has no bandwidth of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockDevice {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// The device that the files below `path` are on; `None` where they are in memory.
pub(crate) fn of_files(path: &Path) -> Result<Option<BlockDevice>> {
    let doing = || format!("find the disk that `{}` is on", path.display());
    if statfs(path).map_err(io::Error::from).system(doing)?.filesystem_type() == TMPFS_MAGIC {
        return Ok(None);
    }
    let number = fs::metadata(path).system(doing)?.dev();
    // A file system that is on no device of its own, or on several, has a number of the kernel's.
    let number = if major(number) != 0 {
        Some(number)
    } else {
        let mounts = kernel_file::read("/proc/self/mountinfo").system(doing)?;
        let mount = mount_table::holding(&mounts, &fs::canonicalize(path).system(doing)?);
        // Such as the first device of a btrfs.
        let device = mount.and_then(|mount| fs::metadata(mount.source).ok());
        device.filter(|it| it.file_type().is_block_device()).map(|it| it.rdev())
    };
    let number = number.ok_or_else(|| {
        Error::system(doing(), "its file system is on no disk that the kernel could slow down")
            .remedy("leave out the limit `io`, or keep it on a file system of a local disk")
    })?;
    whole(number).system(doing).map(Some)
}

/// The disk of a partition; any other device as it is.
fn whole(number: dev_t) -> io::Result<BlockDevice> {
    let (major, minor) = (major(number), minor(number));
    let directory = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let numbers = if directory.join("partition").exists() {
        fs::read_to_string(directory.join("../dev"))?
    } else {
        format!("{major}:{minor}")
    };
    let parse = |text: &str| text.trim().parse::<u32>().map_err(io::Error::other);
    let (major, minor) = numbers.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
    Ok(BlockDevice { major: parse(major)?, minor: parse(minor)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_memory_are_on_no_disk() {
        assert_eq!(of_files(Path::new("/dev/shm")).unwrap(), None);
    }

    #[test]
    fn files_of_the_kernel_are_on_nothing_that_could_be_slowed_down() {
        let error = of_files(Path::new("/proc")).unwrap_err();
        assert!(error.remedy_text().is_some(), "{error}");
    }

    /// Whatever this host keeps its programs on, the answer is a device that it has, or a refusal.
    #[test]
    fn devices_are_whole_ones() {
        match of_files(Path::new("/usr")) {
            Ok(Some(BlockDevice { major, minor })) => {
                let directory = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
                assert!(directory.exists() && !directory.join("partition").exists());
            }
            Ok(None) => {}
            Err(error) => assert!(error.remedy_text().is_some(), "{error}"),
        }
    }
}
