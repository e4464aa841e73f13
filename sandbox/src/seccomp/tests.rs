//! Proves every rule of the policy on the compiled programs of all architectures.

use std::collections::BTreeSet;

use super::{
    compile::{Abi, Numbers, Policy, Verdict, rust_source},
    interpreter::{Call, run},
    program::{Arch, ForeignAbi, program},
};

const POLICY: &str = include_str!("policy.txt");
const NUMBERS: &str = include_str!("syscalls.txt");

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const EINVAL: u32 = 0x0005_0016;
const EAFNOSUPPORT: u32 = 0x0005_0061;

/// The programs under test and the ABI whose calls each is asked about.
const PROGRAMS: [(Arch, ForeignAbi, Abi); 4] = [
    (Arch::X86_64, ForeignAbi::Kill, Abi::X86_64),
    (Arch::X86_64, ForeignAbi::AllowI386, Abi::X86_64),
    (Arch::X86_64, ForeignAbi::AllowI386, Abi::I386),
    (Arch::Aarch64, ForeignAbi::Kill, Abi::Aarch64),
];

fn ask(arch: Arch, foreign: ForeignAbi, architecture: u32, number: u32, args: &[u64]) -> u32 {
    let mut arguments = [0; 6];
    arguments[..args.len()].copy_from_slice(args);
    run(program(arch, foreign).instructions(), &Call { number, architecture, arguments }).0
}

/// Each program that has the call answers `expected`.
fn check(name: &str, args: &[u64], expected: u32) {
    let numbers = Numbers::parse(NUMBERS).unwrap();
    let mut asked = 0;
    for (arch, foreign, abi) in PROGRAMS {
        let Some((_, number)) = numbers.of(abi).find(|(known, _)| *known == name) else { continue };
        let answer = ask(arch, foreign, abi.audit(), number, args);
        assert_eq!(answer, expected, "{name}{args:x?} on {abi:?} of {arch:?}/{foreign:?}");
        asked += 1;
    }
    assert!(asked > 0, "no architecture has `{name}`");
}

#[test]
fn every_number_gets_what_the_policy_says() {
    let numbers = Numbers::parse(NUMBERS).unwrap();
    let policy = Policy::parse(POLICY, &numbers).unwrap();
    for (arch, foreign, abi) in PROGRAMS {
        let mut known = BTreeSet::new();
        for (name, number) in numbers.of(abi) {
            known.insert(number);
            let expected = match policy.calls.get(name).map(Vec::as_slice) {
                None => EPERM,
                Some([clause]) => match clause.verdict {
                    Verdict::Allow => ALLOW,
                    Verdict::Errno(errno) => 0x0005_0000 | u32::from(errno),
                },
                Some(_) => continue,
            };
            let answer = ask(arch, foreign, abi.audit(), number, &[]);
            assert_eq!(answer, expected, "{name} on {abi:?} of {arch:?}/{foreign:?}");
        }
        for number in (0..2048).chain([0x3fff_ffff]).filter(|number| !known.contains(number)) {
            let answer = ask(arch, foreign, abi.audit(), number, &[]);
            assert_eq!(answer, ENOSYS, "unknown {number} on {abi:?}");
        }
    }
}

#[test]
fn dangerous_calls_are_denied() {
    for name in [
        "acct",
        "add_key",
        "bpf",
        "cachestat",
        "chroot",
        "clock_settime",
        "clock_settime64",
        "create_module",
        "delete_module",
        "fanotify_init",
        "fanotify_mark",
        "finit_module",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "get_kernel_syms",
        "get_mempolicy",
        "init_module",
        "io_uring_enter",
        "io_uring_register",
        "io_uring_setup",
        "ioperm",
        "iopl",
        "kcmp",
        "kexec_file_load",
        "kexec_load",
        "keyctl",
        "listmount",
        "listns",
        "lookup_dcookie",
        "mbind",
        "memfd_secret",
        "migrate_pages",
        "modify_ldt",
        "mount",
        "mount_setattr",
        "move_mount",
        "move_pages",
        "name_to_handle_at",
        "nfsservctl",
        "open_by_handle_at",
        "open_tree",
        "open_tree_attr",
        "perf_event_open",
        "pidfd_getfd",
        "pivot_root",
        "process_madvise",
        "process_vm_readv",
        "process_vm_writev",
        "query_module",
        "quotactl",
        "quotactl_fd",
        "reboot",
        "request_key",
        "set_mempolicy",
        "set_mempolicy_home_node",
        "setdomainname",
        "sethostname",
        "setns",
        "settimeofday",
        "statmount",
        "stime",
        "swapoff",
        "swapon",
        "sysfs",
        "syslog",
        "umount",
        "umount2",
        "unshare",
        "uprobe",
        "uretprobe",
        "uselib",
        "userfaultfd",
        "ustat",
        "vhangup",
        "vm86",
        "vm86old",
    ] {
        check(name, &[], EPERM);
    }
}

#[test]
fn what_ordinary_work_needs_is_allowed() {
    for name in [
        "read",
        "write",
        "openat",
        "mmap",
        "execve",
        "exit_group",
        "fork",
        "vfork",
        "wait4",
        "ptrace",
        "seccomp",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "memfd_create",
        "setgroups",
        "setresuid",
        "setresgid",
        "statx",
        "getrandom",
        "rseq",
        "futex",
        "epoll_wait",
        "shmget",
        "mq_open",
        "fchmodat2",
        "mseal",
    ] {
        check(name, &[], ALLOW);
    }
}

#[test]
fn calls_that_are_answered_as_missing() {
    for name in ["clone3", "socketcall", "io_setup", "io_submit", "file_setattr"] {
        check(name, &[], ENOSYS);
    }
}

#[test]
fn clone_makes_no_namespace() {
    const SIGCHLD: u64 = 17;
    // What glibc's fork and pthread_create pass.
    for flags in [SIGCHLD, 0x0120_0011, 0x003d_0f00, 0x4111, 0] {
        check("clone", &[flags], ALLOW);
    }
    for bit in [
        0x80,
        0x0002_0000,
        0x0200_0000,
        0x0400_0000,
        0x0800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000,
    ] {
        check("clone", &[bit], EPERM);
        check("clone", &[bit | SIGCHLD], EPERM);
        check("clone", &[bit | 0xffff_ffff_0000_0000], EPERM);
    }
    // CLONE_IO is bit 31 and comes sign-extended.
    check("clone", &[0xffff_ffff_8000_0011], ALLOW);
}

#[test]
fn nodes_are_files_fifos_and_sockets() {
    for (name, before) in [("mknod", &[7][..]), ("mknodat", &[7, 7])] {
        let node = |mode: u64| [before, &[mode]].concat();
        for kind in [0, 0o100_000, 0o010_000, 0o140_000] {
            check(name, &node(kind | 0o644), ALLOW);
            check(name, &node(kind | 0xffff_ffff_0000_0644), ALLOW);
        }
        for kind in [0o020_000, 0o060_000, 0o040_000, 0o120_000, 0o170_000] {
            check(name, &node(kind | 0o666), EPERM);
            check(name, &node(kind | 0x1_0000_0000), EPERM);
        }
    }
}

#[test]
fn socket_families_types_and_protocols() {
    const HIGH: u64 = 0x1_0000_0000;
    const CLOEXEC_NONBLOCK: u64 = 0o2_004_000;
    for family in [1, 2, 10] {
        for kind in [1, 2] {
            check("socket", &[family, kind, 0], ALLOW);
            check("socket", &[family, kind | CLOEXEC_NONBLOCK, 6], ALLOW);
            for protocol in [132, 262, 132 | HIGH, 262 | HIGH] {
                check("socket", &[family, kind, protocol], EAFNOSUPPORT);
            }
        }
        for kind in [0, 3, 4, 5, 6, 10, 3 | CLOEXEC_NONBLOCK, 3 | HIGH] {
            check("socket", &[family, kind, 0], EAFNOSUPPORT);
        }
    }
    check("socket", &[16, 3, 0], ALLOW);
    check("socket", &[16, 3 | CLOEXEC_NONBLOCK, 0], ALLOW);
    for protocol in [4, 6, 9, 10, 12, 15, 16, 6 | HIGH] {
        check("socket", &[16, 3, protocol], EAFNOSUPPORT);
    }
    for family in (0..64).chain([0xffff_ffff]).filter(|family| ![1, 2, 10, 16].contains(family)) {
        check("socket", &[family, 1, 0], EAFNOSUPPORT);
        check("socket", &[family | HIGH, 1, 0], EAFNOSUPPORT);
    }
    check("socketpair", &[1, 5, 0], ALLOW);
    for family in [0, 2, 10, 16, 30, 38, 40 | HIGH] {
        check("socketpair", &[family, 1, 0], EAFNOSUPPORT);
    }
}

#[test]
fn terminal_injection_is_denied_whatever_the_upper_half() {
    for command in [0x5412, 0x541c, 0x541d, 0x5423] {
        for high in [0, 1 << 32, 0xffff_ffff << 32] {
            check("ioctl", &[0, command | high], EPERM);
        }
    }
    for command in [0, 0x5401, 0x5411, 0x5413, 0x541b, 0x541e, 0x5424, 0x5412_0000] {
        check("ioctl", &[0, command], ALLOW);
    }
}

#[test]
fn leases_and_notifications_on_shared_files_are_denied() {
    for call in ["fcntl", "fcntl64"] {
        for command in [0x400, 0x402, 0x410, 0x400 | 1 << 32] {
            check(call, &[0, command, 1], EINVAL);
        }
        // F_DUPFD, F_SETFL, F_SETLK, F_GETLEASE, F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_ADD_SEALS.
        for command in [0, 4, 6, 0x401, 0x406, 0x407, 0x409] {
            check(call, &[0, command, 1], ALLOW);
        }
    }
}

#[test]
fn personalities() {
    for persona in
        [0, 8, 0x20000, 0x20008, 0x40000, 0x1_0004_0000, 0xffff_ffff, 0xffff_ffff_ffff_ffff]
    {
        check("personality", &[persona], ALLOW);
    }
    for persona in [1, 0x40_0000, 0x0010_0000, 0x44_0000, 0x1_0040_0000] {
        check("personality", &[persona], EPERM);
    }
}

#[test]
fn prctl_options() {
    for option in [35, 62, 35 | 1 << 32, 62 | 1 << 40] {
        check("prctl", &[option], EPERM);
    }
    for option in [1, 4, 15, 22, 24, 34, 36, 38, 61, 63] {
        check("prctl", &[option], ALLOW);
    }
}

#[test]
fn foreign_abis_are_killed() {
    const ARM: u32 = 0x4000_0028;
    const BIG_ENDIAN_PPC: u32 = 0x8000_0015;
    let (x86_64, aarch64, i386) = (Abi::X86_64.audit(), Abi::Aarch64.audit(), Abi::I386.audit());
    for (arch, foreign, architecture, number, expected) in [
        (Arch::X86_64, ForeignAbi::Kill, i386, 4, KILL),
        (Arch::X86_64, ForeignAbi::Kill, i386, 102, KILL),
        (Arch::X86_64, ForeignAbi::AllowI386, i386, 4, ALLOW),
        (Arch::X86_64, ForeignAbi::AllowI386, i386, 102, ENOSYS),
        (Arch::X86_64, ForeignAbi::AllowI386, ARM, 4, KILL),
        (Arch::X86_64, ForeignAbi::Kill, aarch64, 63, KILL),
        (Arch::Aarch64, ForeignAbi::Kill, ARM, 3, KILL),
        (Arch::Aarch64, ForeignAbi::AllowI386, i386, 4, KILL),
        (Arch::Aarch64, ForeignAbi::Kill, x86_64, 0, KILL),
        (Arch::Aarch64, ForeignAbi::Kill, BIG_ENDIAN_PPC, 0, KILL),
        // x32 shares its architecture value with 64-bit x86.
        (Arch::X86_64, ForeignAbi::Kill, x86_64, 0x4000_0000, KILL),
        (Arch::X86_64, ForeignAbi::AllowI386, x86_64, 0x4000_0027, KILL),
        (Arch::X86_64, ForeignAbi::Kill, x86_64, 0xffff_fffe, KILL),
        // A tracer's way to skip a call.
        (Arch::X86_64, ForeignAbi::Kill, x86_64, 0xffff_ffff, ENOSYS),
        (Arch::Aarch64, ForeignAbi::Kill, aarch64, 0xffff_ffff, ENOSYS),
    ] {
        let answer = ask(arch, foreign, architecture, number, &[]);
        assert_eq!(answer, expected, "{number:#x} of {architecture:#x} on {arch:?}/{foreign:?}");
    }
}

/// A linear list would take some 350 instructions for most calls.
#[test]
fn any_call_is_decided_by_a_short_path() {
    let numbers = Numbers::parse(NUMBERS).unwrap();
    for (arch, foreign, abi) in PROGRAMS {
        let instructions = program(arch, foreign).instructions();
        let steps = |number| {
            let architecture = abi.audit();
            let arguments = [u64::MAX; 6];
            run(instructions, &Call { number, architecture, arguments }).1
        };
        let all: Vec<usize> = numbers.of(abi).map(|(_, number)| steps(number)).collect();
        let (longest, total) = (all.iter().max().unwrap(), all.iter().sum::<usize>());
        println!(
            "{abi:?} of {arch:?}/{foreign:?}: {} instructions, mean {}, longest {longest}",
            instructions.len(),
            total / all.len(),
        );
        assert!(*longest <= 32, "{longest} steps on {abi:?} of {arch:?}/{foreign:?}");
    }
}

#[test]
fn mistakes_in_the_policy_are_named() {
    let check = |policy: &str, expected: &str| {
        let mistake = rust_source(policy, "read 0 63 3\nclone 56 220 120").unwrap_err();
        assert_eq!(mistake.to_string(), expected, "{policy}");
    };
    check("permit read", "line 1: `permit` is none of allow, deny, rule");
    check("\nallow raed", "line 2: `raed` is not in the table of numbers");
    check("allow read\nallow read", "line 2: `read` is named twice");
    check("deny EPERM read", "line 1: a reason must follow, after ` -- `");
    check("deny EWHAT read -- why", "line 1: no known errno here");
    check("rule clone -- why", "line 1: exactly the last clause has no condition");
    check(
        "rule clone -- why\n    allow\n    EPERM",
        "line 1: exactly the last clause has no condition",
    );
    check(
        "rule clone -- why\n    allow if arg0 in 1",
        "line 1: exactly the last clause has no condition",
    );
    check(
        "rule clone -- why\n    allow if arg6 in 1\n    EPERM",
        "line 2: `arg6` is none of arg0 to arg5",
    );
    check("rule clone -- why\n    allow if arg0 in\n    EPERM", "line 2: `arg0 in` has no ` in `");
    check(
        "rule clone -- why\n    allow if arg0 in x\n    EPERM",
        "line 2: `x` is not a number of 32 bits",
    );
    check("rule clone -- why\n    maybe\n", "line 2: `maybe` is no known verdict");
    check(
        "rule clone -- why\n    allow if arg0 & 1 in 2\n    EPERM",
        "line 2: 0x2 has bits outside the mask and can never match",
    );
}

#[test]
fn mistakes_in_the_numbers_are_named() {
    let check = |numbers: &str, expected: &str| {
        assert_eq!(rust_source("", numbers).unwrap_err().to_string(), expected, "{numbers}");
    };
    check("read 0 63", "line 1: numbers: `read` needs three numbers or dashes");
    check("read 0 63 x", "line 1: numbers: `x` is neither a number nor `-`");
    check("read 0 1 2\nread 0 1 2", "line 2: numbers: `read` is in the table twice");
}
