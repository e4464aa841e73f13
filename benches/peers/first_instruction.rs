//! A program whose first instructions read the clock: when a container really runs something.
//!
//! Nothing that a compiler makes starts so soon, so it is written down here: it calls
//! `clock_gettime(CLOCK_MONOTONIC)`, writes the 16 bytes to its output, and exits.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// What the program writes.
pub(crate) const LENGTH: usize = 16;

/// Where the code is loaded: the headers before it are 120 bytes.
const ADDRESS: u64 = 0x40_0000;
const HEADERS: u64 = 120;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[
    0x48, 0x83, 0xec, 0x10, // sub rsp, 16
    0xb8, 228, 0, 0, 0, // mov eax, clock_gettime
    0xbf, 1, 0, 0, 0, // mov edi, CLOCK_MONOTONIC
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0x0f, 0x05, // syscall
    0xb8, 1, 0, 0, 0, // mov eax, write
    0xbf, 1, 0, 0, 0, // mov edi, 1
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0xba, 16, 0, 0, 0, // mov edx, 16
    0x0f, 0x05, // syscall
    0xb8, 60, 0, 0, 0, // mov eax, exit
    0x31, 0xff, // xor edi, edi
    0x0f, 0x05, // syscall
];

#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0xff, 0x43, 0x00, 0xd1, // sub sp, sp, #16
    0x28, 0x0e, 0x80, 0xd2, // mov x8, clock_gettime
    0x20, 0x00, 0x80, 0xd2, // mov x0, CLOCK_MONOTONIC
    0xe1, 0x03, 0x00, 0x91, // mov x1, sp
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0x08, 0x08, 0x80, 0xd2, // mov x8, write
    0x20, 0x00, 0x80, 0xd2, // mov x0, #1
    0xe1, 0x03, 0x00, 0x91, // mov x1, sp
    0x02, 0x02, 0x80, 0xd2, // mov x2, #16
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0xa8, 0x0b, 0x80, 0xd2, // mov x8, exit
    0x00, 0x00, 0x80, 0xd2, // mov x0, #0
    0x01, 0x00, 0x00, 0xd4, // svc 0
];

/// Writes the program to `path`.
pub(crate) fn write_program(path: &Path) -> io::Result<()> {
    let length = HEADERS + u64::try_from(CODE.len()).map_err(io::Error::other)?;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // A program for this machine, version 1, one program header behind this one (elf(5)).
    file.extend([2_u16, MACHINE].iter().flat_map(|it| it.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    file.extend([ADDRESS + HEADERS, 64, 0].iter().flat_map(|it| it.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 0, 0, 0].iter().flat_map(|it| it.to_le_bytes()));
    // To be loaded as a whole, readable and executable.
    file.extend([1_u32, 5].iter().flat_map(|it| it.to_le_bytes()));
    file.extend([0, ADDRESS, ADDRESS, length, length, 4096].iter().flat_map(|it| it.to_le_bytes()));
    file.extend(CODE);
    fs::write(path, file)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// The clock that the program reads.
pub(crate) fn now() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

/// What the program has written.
pub(crate) fn parse(output: [u8; LENGTH]) -> Duration {
    let (seconds, nanoseconds) = output.split_at(8);
    let number = |bytes: &[u8]| {
        bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    Duration::from_secs(number(seconds)) + Duration::from_nanos(number(nanoseconds))
}
