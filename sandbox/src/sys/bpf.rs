//! bpf(2): loading a device program and attaching it to a control group.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use libc::{SYS_bpf, c_int, c_long, syscall};

const PROG_LOAD: c_int = 5;
const PROG_ATTACH: c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of groups above, such as systemd's, stay in force beside this one.
const ALLOW_MULTI: u32 = 2;

/// The members of `union bpf_attr` that `BPF_PROG_LOAD` reads first; the kernel takes the rest as 0.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    program_flags: u32,
}

/// The members that `BPF_PROG_ATTACH` reads.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Loads a program that is asked about each use of a device node.
pub(crate) fn load_device_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let attributes = LoadAttributes {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(invalid)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        program_flags: 0,
    };
    let descriptor = bpf(PROG_LOAD, &attributes)?;
    let descriptor = c_int::try_from(descriptor).map_err(invalid)?;
    // SAFETY: the kernel just made this descriptor, close-on-exec, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Puts a loaded program in force for all processes in a group of the unified hierarchy.
pub(crate) fn attach_device_program(group: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let number = |descriptor: c_int| {
        u32::try_from(descriptor).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))
    };
    let attributes = AttachAttributes {
        target: number(group.as_fd().as_raw_fd())?,
        program: number(program.as_fd().as_raw_fd())?,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &attributes).map(|_| ())
}

fn bpf<Attributes>(command: c_int, attributes: &Attributes) -> io::Result<c_long> {
    let pointer: *const Attributes = attributes;
    // SAFETY: the attributes and what they point to are alive for the whole call, their size is
    // passed along, and neither command writes to them.
    let result = unsafe { syscall(SYS_bpf, command, pointer, size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
