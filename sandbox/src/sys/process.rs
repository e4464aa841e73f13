//! Processes: `clone3(2)`, `wait4(2)`, pidfds, `execve(2)`, capabilities and `prctl(2)`.

use std::{
    ffi::{CStr, CString, c_char},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::{fs::MetadataExt as _, process::CommandExt as _},
    },
    process::Command,
    ptr,
    sync::OnceLock,
};

use nix::{
    fcntl::{OFlag, open},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigHandler, Signal},
        stat::Mode,
    },
    unistd::{Pid, write},
};

use super::check;

/// What [`clone`] returned, in each of the two processes.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// In the caller: the child and a descriptor that refers to it.
    Parent {
        /// The child's id in the caller's namespace.
        pid: Pid,
        /// Becomes readable when the child has ended.
        pidfd: OwnedFd,
    },
    /// In the new process.
    Child,
}

/// Copies the calling process, like `fork(2)`, into the new namespaces of `namespaces`
/// (`CLONE_NEW*` flags) and, where given, straight into the v2 control group `cgroup`. With
/// `CLONE_PARENT` among the flags, the copy is a sibling and not a child.
///
/// The caller must have one thread only, so that the copy may go on running ordinary code; this
/// is checked, and more threads are an error (`EBUSY`).
pub(crate) fn clone(namespaces: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    // A directory has two links and one for each directory in it (proc_pid_task(5)).
    if std::fs::metadata("/proc/self/task")?.nlink() != 3 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: libc::c_int = -1;
    // SAFETY: `clone_args` is a plain C structure for which all zeroes is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned());
    // Exposed, because the kernel writes through the number.
    arguments.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    // A sibling's end is told as the caller's own is.
    if namespaces & libc::CLONE_PARENT == 0 {
        arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    }
    if let Some(cgroup) = cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child gets a copy of this memory, and with one thread (checked
    // above) no lock is held in it by anyone else; `pidfd` outlives the call.
    let result = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>())
    })?;
    if result == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel has just stored this descriptor for us, and nobody else holds it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(i32::try_from(result).unwrap_or(i32::MAX));
    Ok(Cloned::Parent { pid, pidfd })
}

/// Copies the calling process, like `fork(2)`, without a pidfd and without `clone3(2)`: this is
/// what a filtered init can still do.
///
/// The same rule as for [`clone`] holds; the callers are processes that never start a thread.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the callers (spawner and init) never start a thread, so the child may run any code.
    let result = unsafe { libc::fork() };
    match check(result.into())? {
        0 => Ok(None),
        _ => Ok(Some(Pid::from_raw(result))),
    }
}

/// A descriptor that means this process for as long as it is open, even when the number is reused.
pub(crate) fn pidfd_open(process: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers.
    let result = check(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    let raw = libc::c_int::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor, close-on-exec, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sends `signal` to the process that `pidfd` refers to.
pub(crate) fn pidfd_send_signal(pidfd: impl AsFd, signal: libc::c_int) -> io::Result<()> {
    let raw = pidfd.as_fd().as_raw_fd();
    // SAFETY: a null `siginfo_t` pointer is allowed, and means the same as for `kill(2)`.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, raw, signal, ptr::null::<libc::siginfo_t>(), 0)
    })
    .map(drop)
}

/// A child that has ended, and what it used (`wait4(2)`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reaped {
    /// Which child.
    pub(crate) pid: Pid,
    /// The wait status, to be read with `WIFEXITED` and the like.
    pub(crate) status: i32,
    /// User time in microseconds, of the child and the descendants it has waited for.
    pub(crate) user_us: u64,
    /// System time in microseconds.
    pub(crate) system_us: u64,
    /// Largest resident set in bytes of any one process of them.
    pub(crate) max_rss: u64,
}

/// Reaps one child that has already ended; `None` when there is no such child.
pub(crate) fn reap() -> io::Result<Option<Reaped>> {
    let mut status: libc::c_int = 0;
    // SAFETY: `rusage` is a plain C structure for which all zeroes is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers refer to live variables of the right type.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    match check(pid.into()) {
        Ok(0) => Ok(None),
        Ok(_) => {
            let microseconds = |time: libc::timeval| {
                u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000)
                    + u64::try_from(time.tv_usec).unwrap_or(0)
            };
            Ok(Some(Reaped {
                pid: Pid::from_raw(pid),
                status,
                user_us: microseconds(usage.ru_utime),
                system_us: microseconds(usage.ru_stime),
                max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
            }))
        }
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Closes every descriptor from `first` on (`close_range(2)`).
///
/// For a process that has just been cloned: whatever its copy of the parent's descriptors were,
/// they must not reach anything hostile. The caller must not use them afterwards.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: only numbers are passed; the callers own no descriptor object above `first`.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Marks every descriptor from `first` on to be closed by `execve(2)`.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: only numbers are passed, and no descriptor is closed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Takes ownership of a descriptor that came as a number: received with `SCM_RIGHTS`, or placed
/// with [`duplicate_to`]. Nobody else may own it.
pub(crate) fn take_descriptor(number: i32) -> OwnedFd {
    // SAFETY: as said above, the callers have just received or placed it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Makes `number` refer to what `descriptor` refers to (`dup2(2)`); it stays open over exec.
pub(crate) fn duplicate_to(descriptor: impl AsFd, number: i32) -> io::Result<()> {
    // SAFETY: only numbers are passed; the callers own no object with this number.
    check(unsafe { libc::dup2(descriptor.as_fd().as_raw_fd(), number) }.into()).map(drop)
}

/// Has `command` run in a user namespace of its own with these maps of one id each, which an
/// unprivileged process may write for itself (`user_namespaces(7)`).
pub(crate) fn in_user_namespace(command: &mut Command, users: Vec<u8>, groups: Vec<u8>) {
    let enter = move || -> io::Result<()> {
        let open = |path: &CStr| open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
        unshare(CloneFlags::CLONE_NEWUSER)?;
        // A process that cannot be dumped may not open these files of its own either.
        set_dumpable()?;
        let opened =
            [c"/proc/self/setgroups", c"/proc/self/uid_map", c"/proc/self/gid_map"].map(open);
        set_not_dumpable()?;
        for (file, text) in opened.into_iter().zip([b"deny".as_slice(), &users, &groups]) {
            write(&file?, text)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec, `enter` only makes system calls: it allocates nothing, takes no
    // lock, and its errors are the kernel's numbers.
    unsafe { command.pre_exec(enter) };
}

/// Ends this process at once, running nothing of the memory it shares with its parent by copy.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` is always allowed.
    unsafe { libc::_exit(status) }
}

/// Sets what `signal` does.
pub(crate) fn set_handler(signal: Signal, handler: SigHandler) -> io::Result<()> {
    // SAFETY: only the default and ignoring dispositions are used, which run no code of ours.
    unsafe { nix::sys::signal::signal(signal, handler) }?;
    Ok(())
}

/// Replaces the program of this process; returns only on failure.
pub(crate) fn execve(program: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in a null pointer, and they and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<libc::c_long> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options used in this file take numbers only.
    check(unsafe { libc::prctl(option, argument, zero, zero, zero) }.into())
}

/// Lets processes with the same ids trace this one, and gives it its own files below `/proc`, which a
/// change of ids took away.
pub(crate) fn set_dumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 1).map(drop)
}

/// Makes this process neither traceable nor readable through `/proc` by what it contains.
pub(crate) fn set_not_dumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0).map(drop)
}

/// Lets this process keep its permitted capabilities when it stops being root, until it executes a
/// program (`PR_SET_KEEPCAPS`, capabilities(7)).
pub(crate) fn keep_capabilities() -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, 1).map(drop)
}

/// Has the kernel kill this process when its parent ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.cast_unsigned().into()).map(drop)
}

/// Gives up, for good, what set-user-id programs and file capabilities would add.
pub(crate) fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map(drop)
}

/// Sets the name that `ps` shows for this process; at most 15 bytes count.
pub(crate) fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }.into()).map(drop)
}

/// Drops every capability outside `keep` (a bit per capability number) from the bounding set.
pub(crate) fn limit_capabilities(keep: u64) -> io::Result<()> {
    for capability in (0..64u32).filter(|capability| keep & (1 << capability) == 0) {
        match prctl(libc::PR_CAPBSET_DROP, capability.into()) {
            Ok(_) => {}
            // The first number that the kernel does not know ends the list.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes `keep` the permitted and effective capabilities, and clears the inheritable and ambient
/// sets (`capabilities(7)`).
pub(crate) fn set_capabilities(keep: u64) -> io::Result<()> {
    const PR_CAP_AMBIENT_CLEAR_ALL: libc::c_ulong = 4;
    prctl(libc::PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL).map(drop)?;
    let half = |shift: u32| {
        let bits = u32::try_from((keep >> shift) & u64::from(u32::MAX)).unwrap_or(0);
        CapabilitySets { effective: bits, permitted: bits, inheritable: 0 }
    };
    capset([half(0), half(32)])
}

/// Makes all permitted capabilities effective, which a change of the effective user id from root's to
/// another has cleared (`capabilities(7)`).
pub(crate) fn raise_capabilities() -> io::Result<()> {
    let mut sets = [CapabilitySets::default(); 2];
    // SAFETY: header and data have the layout of version 3 of `capget(2)` and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const OWN, sets.as_mut_ptr()) })?;
    capset(sets.map(|half| CapabilitySets { effective: half.permitted, ..half }))
}

/// Whose capabilities, and in which layout: `cap_user_header_t` of `capset(2)`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// The calling process, in version 3.
static OWN: CapabilityHeader = CapabilityHeader { version: 0x2008_0522, pid: 0 };

/// Half of each set: `cap_user_data_t`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn capset(sets: [CapabilitySets; 2]) -> io::Result<()> {
    // SAFETY: header and data have the layout of version 3 of `capset(2)` and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const OWN, sets.as_ptr()) }).map(drop)
}

/// Overwrites the command line and the environment that this process was started with, and shows
/// `title` in place of the command line.
///
/// For the spawner: both are the runner's, they may hold secrets, all containers' inits are copies
/// of the spawner, and every process of a container can read `/proc/1/cmdline`.
pub(crate) fn erase_start_strings(title: &[u8]) -> io::Result<()> {
    let [arguments, arguments_end, environment, environment_end] = start_strings()?;
    for (start, end) in [(arguments, arguments_end), (environment, environment_end)] {
        if start == 0 || end <= start {
            continue;
        }
        // SAFETY: the kernel says that these bytes of this process's stack hold the strings it was
        // started with; they stay mapped and writable, and the only thread is this one.
        unsafe { ptr::write_bytes(ptr::with_exposed_provenance_mut::<u8>(start), 0, end - start) };
    }
    let length = title.len().min(arguments_end.saturating_sub(arguments + 1));
    // SAFETY: as above, and `length` is less than the size of the area, so a NUL byte remains.
    unsafe {
        ptr::copy_nonoverlapping(
            title.as_ptr(),
            ptr::with_exposed_provenance_mut::<u8>(arguments),
            length,
        );
    }
    Ok(())
}

/// Where the strings that this process was started with begin and end: arguments, and environment.
/// Copies of it have theirs at the same places, and need not ask the kernel again.
fn start_strings() -> io::Result<[usize; 4]> {
    static PLACES: OnceLock<[usize; 4]> = OnceLock::new();
    if let Some(places) = PLACES.get() {
        return Ok(*places);
    }
    let stat = crate::kernel_file::read("/proc/self/stat")?;
    // The name in parentheses may hold anything, so count fields from behind it (proc_pid_stat(5)):
    // the state is field 3, and arg_start, arg_end, env_start and env_end are fields 48 to 51.
    let fields: Vec<usize> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().skip(45).take(4).flat_map(str::parse).collect())
        .unwrap_or_default();
    let places = <[usize; 4]>::try_from(fields).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, "/proc/self/stat has no addresses")
    })?;
    Ok(*PLACES.get_or_init(|| places))
}
