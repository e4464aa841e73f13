//! Project quotas: `quotactl_fd(2)`, and the project of a directory (`FS_IOC_FSSETXATTR`, as in
//! `ioctl_xfs_fsgetxattr(2)`).

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

use super::check;

/// The kind of quota that counts a project (`PRJQUOTA`).
const PROJECT: libc::c_int = 2;
/// Bytes of the blocks in which limits are given (`QIF_DQBLKSIZE`).
const LIMIT_BLOCK: u64 = 1024;

/// The kernel's `struct fsxattr` (`linux/fs.h`).
#[derive(Default)]
#[repr(C)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    reserved: [u8; 8],
}

/// The kernel's `struct fs_quota_statv` (`linux/dqblk_xfs.h`), of which the flags are read.
#[derive(Default)]
#[repr(C)]
struct State {
    version: i8,
    reserved_1: u8,
    flags: u16,
    in_core: u32,
    rest: [u64; 19],
}

/// What a project uses, and what it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Bytes that it uses.
    pub(crate) bytes: u64,
    /// Inodes that it uses.
    pub(crate) inodes: u64,
    /// Bytes that it may use at most; 0 is no limit.
    pub(crate) most_bytes: u64,
    /// Inodes that it may use at most; 0 is no limit.
    pub(crate) most_inodes: u64,
}

/// Whether the file system that `directory` is on refuses what goes beyond a project's limits, and
/// does not merely count.
pub(crate) fn is_enforced(directory: impl AsFd) -> io::Result<bool> {
    const Q_XGETQSTATV: libc::c_int = 0x5808;
    const PROJECTS_ENFORCED: u16 = 1 << 5;
    let mut state = State { version: 1, ..State::default() };
    // SAFETY: Q_XGETQSTATV writes a `fs_quota_statv` of version 1 through the pointer, which
    // outlives the call and has the kernel's layout.
    check(unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            directory.as_fd().as_raw_fd(),
            libc::QCMD(Q_XGETQSTATV, PROJECT),
            0,
            &raw mut state,
        )
    })?;
    Ok(state.flags & PROJECTS_ENFORCED != 0)
}

/// Use and limits of `project` on the file system that `directory` is on; needs `CAP_SYS_ADMIN`.
pub(crate) fn of_project(directory: impl AsFd, project: u32) -> io::Result<Quota> {
    // SAFETY: all of its fields are numbers, for which zero is a value.
    let mut found: libc::dqblk = unsafe { std::mem::zeroed() };
    // SAFETY: Q_GETQUOTA writes an `if_dqblk` through the pointer, which outlives the call.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            directory.as_fd().as_raw_fd(),
            libc::QCMD(libc::Q_GETQUOTA, PROJECT),
            project,
            &raw mut found,
        )
    });
    match result {
        // XFS has no record of a project that was never used.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Quota::default()),
        other => other?,
    };
    Ok(Quota {
        bytes: found.dqb_curspace,
        inodes: found.dqb_curinodes,
        most_bytes: found.dqb_bhardlimit.saturating_mul(LIMIT_BLOCK),
        most_inodes: found.dqb_ihardlimit,
    })
}

/// Bounds `project` on the file system that `directory` is on by so many bytes, rounded down to
/// 1024, and inodes; 0 is no limit. Needs `CAP_SYS_ADMIN`.
pub(crate) fn limit(directory: impl AsFd, project: u32, bytes: u64, inodes: u64) -> io::Result<()> {
    // SAFETY: all of its fields are numbers, for which zero is a value.
    let mut wanted: libc::dqblk = unsafe { std::mem::zeroed() };
    wanted.dqb_bhardlimit = bytes / LIMIT_BLOCK;
    wanted.dqb_ihardlimit = inodes;
    wanted.dqb_valid = libc::QIF_LIMITS;
    // SAFETY: Q_SETQUOTA reads an `if_dqblk` through the pointer, which outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            directory.as_fd().as_raw_fd(),
            libc::QCMD(libc::Q_SETQUOTA, PROJECT),
            project,
            &raw const wanted,
        )
    })
    .map(drop)
}

/// The project of an open directory; 0 is none.
pub(crate) fn project_of(directory: impl AsFd) -> io::Result<u32> {
    Ok(attributes(&directory)?.project)
}

/// Makes an open directory one of `project`, and all that will be made in it.
pub(crate) fn set_project(directory: impl AsFd, project: u32) -> io::Result<()> {
    const FS_IOC_FSSETXATTR: libc::Ioctl = libc::_IOW::<Attributes>(0x58, 32);
    const INHERITED: u32 = 0x200;
    let mut wanted = attributes(&directory)?;
    wanted.project = project;
    wanted.flags |= INHERITED;
    let raw = directory.as_fd().as_raw_fd();
    // SAFETY: FS_IOC_FSSETXATTR reads an `fsxattr` through the pointer, which outlives the call and
    // has the kernel's layout.
    check(unsafe { libc::ioctl(raw, FS_IOC_FSSETXATTR, &raw const wanted) }.into()).map(drop)
}

fn attributes(directory: impl AsFd) -> io::Result<Attributes> {
    const FS_IOC_FSGETXATTR: libc::Ioctl = libc::_IOR::<Attributes>(0x58, 31);
    let mut found = Attributes::default();
    let raw = directory.as_fd().as_raw_fd();
    // SAFETY: FS_IOC_FSGETXATTR writes an `fsxattr` through the pointer, which outlives the call and
    // has the kernel's layout.
    check(unsafe { libc::ioctl(raw, FS_IOC_FSGETXATTR, &raw mut found) }.into())?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernels() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<State>(), 160);
        assert_eq!(size_of::<libc::dqblk>(), 72);
    }
}
