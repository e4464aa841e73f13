//! seccomp(2).

use std::io;

use libc::{
    SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_TSYNC_ESRCH, SECCOMP_SET_MODE_FILTER,
    SYS_seccomp, c_ulong, sock_filter, sock_fprog, syscall,
};

/// Installs a filter on every thread of the process; `no_new_privs` must be set before.
pub(crate) fn install(instructions: &[sock_filter]) -> io::Result<()> {
    let len = u16::try_from(instructions.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = sock_fprog { len, filter: instructions.as_ptr().cast_mut() };
    let flags: c_ulong = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    // SAFETY: `program` and the instructions it points to are alive for the whole call, `len` is
    // their number, and the kernel copies them without writing to them.
    let result =
        unsafe { syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, pipe};
    use std::os::fd::AsRawFd as _;

    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;
    use crate::seccomp::{Program, filter};

    /// The errno of a call, 0 when it succeeds.
    fn errno_of(number: i64, arguments: [i64; 4]) -> i32 {
        let [first, second, third, fourth] = arguments;
        // SAFETY: every call of this test takes numbers, or null where a pointer belongs.
        let result = unsafe { syscall(number, first, second, third, fourth) };
        if result >= 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
    }

    /// Runs `calls` in a child under `program`; its errnos, and how it ended.
    fn under(program: Program, calls: &dyn Fn() -> [i32; 16]) -> (Vec<i32>, WaitStatus) {
        let (mut reader, writer) = pipe().unwrap();
        // SAFETY: the child makes system calls only, allocates nothing, and ends in `_exit`.
        let child = unsafe { nix::unistd::fork() }.unwrap();
        let nix::unistd::ForkResult::Parent { child } = child else {
            let mut failed = nix::sys::prctl::set_no_new_privs().is_err();
            failed |= program.install().is_err();
            let errnos = calls();
            let size = size_of_val(&errnos);
            // SAFETY: the buffer is alive and `size` bytes long.
            let written = unsafe { libc::write(writer.as_raw_fd(), errnos.as_ptr().cast(), size) };
            failed |= usize::try_from(written) != Ok(size);
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(i32::from(failed)) }
        };
        drop(writer);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        let errnos = bytes.chunks_exact(4).map(|word| i32::from_ne_bytes(word.try_into().unwrap()));
        (errnos.collect(), waitpid(child, None).unwrap())
    }

    #[test]
    fn the_kernel_agrees_with_the_interpreter() {
        let (errnos, status) = under(filter(), &|| {
            [
                errno_of(libc::SYS_getppid, [0; 4]),
                errno_of(libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0, 0]),
                errno_of(libc::SYS_clone3, [0; 4]),
                errno_of(1000, [0; 4]),
                errno_of(libc::SYS_bpf, [0; 4]),
                errno_of(libc::SYS_socket, [i64::from(libc::AF_VSOCK), 1, 0, 0]),
                errno_of(libc::SYS_socket, [i64::from(libc::AF_ALG), 5, 0, 0]),
                errno_of(libc::SYS_socket, [i64::from(libc::AF_UNIX), 1, 0, 0]),
                errno_of(libc::SYS_socket, [i64::from(libc::AF_NETLINK), 3, 0, 0]),
                errno_of(libc::SYS_socket, [i64::from(libc::AF_NETLINK), 3, 12, 0]),
                errno_of(libc::SYS_ioctl, [-1, 0x1_0000_5412, 0, 0]),
                errno_of(libc::SYS_ioctl, [-1, 0x5401, 0, 0]),
                errno_of(libc::SYS_prctl, [62, 0, 0, 0]),
                errno_of(libc::SYS_mknodat, [-1, 0, 0o020_600, 0x0103]),
                errno_of(libc::SYS_keyctl, [0; 4]),
                errno_of(libc::SYS_personality, [0x0040_0000, 0, 0, 0]),
            ]
        });
        let expected = [
            0,
            libc::EPERM,
            libc::ENOSYS,
            libc::ENOSYS,
            libc::EPERM,
            libc::EAFNOSUPPORT,
            libc::EAFNOSUPPORT,
            0,
            0,
            libc::EAFNOSUPPORT,
            libc::EPERM,
            libc::EBADF,
            libc::EPERM,
            libc::EPERM,
            libc::EPERM,
            libc::EPERM,
        ];
        assert_eq!(errnos, expected);
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    }

    #[test]
    fn a_filter_that_allows_what_it_should_not_is_noticed() {
        static ALLOW_ALL: [sock_filter; 1] =
            [sock_filter { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 }];
        let (_, status) = under(Program::of(&ALLOW_ALL), &|| [0; 16]);
        assert!(matches!(status, WaitStatus::Exited(_, 1)), "{status:?}");
    }

    #[test]
    fn refuses_a_program_of_impossible_length() {
        let too_long = vec![sock_filter { code: 6, jt: 0, jf: 0, k: 0 }; 65536];
        assert_eq!(install(&too_long).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(install(&[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    /// The other ways into an x86 kernel.
    #[cfg(target_arch = "x86_64")]
    mod foreign {
        use nix::sys::signal::Signal;

        use super::*;
        use crate::seccomp::{Arch, ForeignAbi, program};

        #[test]
        fn x32_kills() {
            let (_, status) =
                under(filter(), &|| [errno_of(0x4000_0000 | libc::SYS_getppid, [0; 4]); 16]);
            assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGSYS, _)), "{status:?}");
        }

        /// A system call by the 32-bit gate, as a 32-bit program makes it.
        fn i386(number: u32) -> i32 {
            let result: i32;
            // SAFETY: the calls of this test take no argument, or null pointers; the gate clobbers
            // r8 to r11 and keeps everything else.
            unsafe {
                std::arch::asm!(
                    "xchg {saved:r}, rbx", "int 0x80", "xchg {saved:r}, rbx",
                    saved = inout(reg) 0_u64 => _,
                    inout("eax") number => result,
                    in("ecx") 0, in("edx") 0, in("esi") 0, in("edi") 0,
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                );
            }
            result
        }

        /// Getpid is 20 there, socketcall 102, mount 21.
        #[test]
        fn i386_kills_unless_the_policy_allows_it() {
            let (_, status) = under(filter(), &|| [i386(20); 16]);
            if matches!(status, WaitStatus::Signaled(_, Signal::SIGSEGV, _)) {
                let test = "i386_kills_unless_the_policy_allows_it";
                return crate::tests::not_run(test, "the kernel serves no i386 calls");
            }
            assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGSYS, _)), "{status:?}");

            let allowed = program(Arch::X86_64, ForeignAbi::AllowI386);
            let (results, status) = under(allowed, &|| {
                let mut results = [0; 16];
                results[0] = i32::from(i386(20) > 0);
                results[1] = i386(102);
                results[2] = i386(21);
                results
            });
            assert_eq!(results.get(..3), Some(&[1, -libc::ENOSYS, -libc::EPERM][..]));
            assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        }
    }
}
