//! Loop devices (`loop(4)`), and the end of a file system on one.
//!
//! A device is configured in one call with autoclear set, so it detaches itself when the last
//! user closes it: no process has to be alive for that.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _},
};

use super::check;

/// The kernel's `struct loop_info64` (`linux/loop.h`).
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// The kernel's `struct loop_config` (`linux/loop.h`, since Linux 5.8).
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// The number of a device that is free at this moment; `control` is `/dev/loop-control`.
pub(crate) fn free_number(control: &File) -> io::Result<u32> {
    const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
    // SAFETY: LOOP_CTL_GET_FREE takes no argument.
    let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }.into())?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Binds `file` to `device` with blocks of `block_size` bytes, until its last user closes it; past
/// the page cache of the file, where its file system can. Fails with `EBUSY` where somebody else
/// was faster.
pub(crate) fn configure(device: &File, file: &File, block_size: u32) -> io::Result<()> {
    const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
    const AUTOCLEAR: u32 = 4;
    const DIRECT_IO: u32 = 16;
    let config = LoopConfig {
        file: file.as_raw_fd().cast_unsigned(),
        block_size,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: AUTOCLEAR | DIRECT_IO,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads a `loop_config` through the pointer, which outlives the call
    // and has the kernel's layout.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    check(result.into()).map(drop)
}

/// Takes the file off `device`, when its last user closes it.
pub(crate) fn detach(device: &File) -> io::Result<()> {
    const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
    // SAFETY: LOOP_CLR_FD takes no argument.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD) }.into()).map(drop)
}

/// Ends all writing to the ext4 file system that the open directory `directory` is on; what has
/// not been written yet never is (`EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`).
pub(crate) fn shut_down_ext4(directory: impl AsFd) -> io::Result<()> {
    const EXT4_IOC_SHUTDOWN: libc::Ioctl = libc::_IOR::<u32>(0x58, 125);
    let without_flush: u32 = 2;
    let raw = directory.as_fd().as_raw_fd();
    // SAFETY: EXT4_IOC_SHUTDOWN reads a 32-bit number through the pointer, which outlives the
    // call.
    check(unsafe { libc::ioctl(raw, EXT4_IOC_SHUTDOWN, &raw const without_flush) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernels() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
