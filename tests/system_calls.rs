//! What a job asks of the kernel itself, past every program: calls, sockets, foreign instruction
//! sets, links that the runner follows (threat numbers: `docs/attacks.md`).
//!
//! The probes are Perl, which every Debian has, because its `syscall` takes any number.

use std::os::linux::net::SocketAddrExt as _;

use crate::{
    binary::Cofferdam,
    host::{Need, needs, not_run, test},
};

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const EAFNOSUPPORT: i32 = 97;

/// Runs Perl as root of the container and as a user; both must print `expect`.
#[track_caller]
fn check(probe: &str, expect: &str) {
    for user in ["0", "1000"] {
        // With a single id there is no other user.
        if user != "0" && !crate::host::is_root() {
            continue;
        }
        let ended =
            Cofferdam::common().run(["exec", "host", "--user", user, "--", "perl", "-e", probe]);
        assert_eq!(ended.stdout.trim(), expect, "as {user}: {}\n{probe}", ended.text());
    }
}

/// A1.7, A1.11, A1.13, A1.16, A1.17: each call fails for the filter's reason and for no other, which
/// its arguments would give.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_that_are_refused() {
    needs!(Need::Containers, Need::Program("perl"));
    let calls = [
        ("io_uring_setup", 425, EPERM),
        ("io_uring_enter", 426, EPERM),
        ("io_uring_register", 427, EPERM),
        ("bpf", 321, EPERM),
        ("perf_event_open", 298, EPERM),
        ("userfaultfd", 323, EPERM),
        ("add_key", 248, EPERM),
        ("request_key", 249, EPERM),
        ("keyctl", 250, EPERM),
        ("init_module", 175, EPERM),
        ("finit_module", 313, EPERM),
        ("kexec_load", 246, EPERM),
        ("open_by_handle_at", 304, EPERM),
        ("name_to_handle_at", 303, EPERM),
        ("fanotify_init", 300, EPERM),
        ("mount", 165, EPERM),
        ("umount2", 166, EPERM),
        ("fsopen", 430, EPERM),
        ("open_tree", 428, EPERM),
        ("move_mount", 429, EPERM),
        ("mount_setattr", 442, EPERM),
        ("pivot_root", 155, EPERM),
        ("chroot", 161, EPERM),
        ("setns", 308, EPERM),
        ("unshare", 272, EPERM),
        ("reboot", 169, EPERM),
        ("swapon", 167, EPERM),
        ("acct", 163, EPERM),
        ("syslog", 103, EPERM),
        ("quotactl", 179, EPERM),
        ("modify_ldt", 154, EPERM),
        ("process_vm_writev", 311, EPERM),
        ("clone3", 435, ENOSYS),
        ("a call of the future", 1000, ENOSYS),
    ];
    let numbers: Vec<_> = calls.iter().map(|(_, number, _)| number.to_string()).collect();
    let probe = format!(
        "for $n ({}) {{ $! = 0; syscall($n, -1, -1, -1, -1, -1, -1); print $! + 0, \" \" }}",
        numbers.join(",")
    );
    let expect: Vec<_> = calls.iter().map(|(_, _, errno)| errno.to_string()).collect();
    check(&probe, &expect.join(" "));
}

/// A1.16: the init cannot be traced, read, or have its descriptors taken.
#[cfg(target_arch = "x86_64")]
#[test]
fn init_cannot_be_traced() {
    needs!(Need::Containers, Need::Program("perl"));
    // PTRACE_ATTACH, PTRACE_SEIZE; pidfd_getfd of a pidfd of process 1.
    check(
        "for $r (16, 0x4206) { $! = 0; syscall(101, $r, 1, 0, 0); print $! + 0, ' ' } \
         $p = syscall(434, 1, 0); $! = 0; syscall(438, $p, 0, 0); print $! + 0",
        "1 1 1",
    );
}

/// A1.12, A1.17: of the kernel's socket families only the ordinary ones.
#[test]
fn socket_families() {
    needs!(Need::Containers, Need::Program("perl"));
    // AX25, IPX, KEY, PACKET, BLUETOOTH, RXRPC, CAN, TIPC, ALG, NFC, VSOCK, KCM, XDP; netlink for XFRM,
    // netfilter and audit; raw sockets; SCTP.
    let sockets = [
        "3,2,0", "4,2,0", "15,3,2", "17,3,0", "31,3,1", "33,2,2", "29,3,1", "30,1,0", "38,5,0",
        "39,3,1", "40,1,0", "41,2,0", "44,3,0", "16,3,6", "16,3,12", "16,3,9", "2,3,1", "2,1,132",
    ];
    let refused = vec![EAFNOSUPPORT.to_string(); sockets.len()].join(" ");
    let try_each = |sockets: &[&str]| {
        let each: Vec<_> = sockets.iter().map(|socket| format!("[{socket}]")).collect();
        let each = each.join(",");
        format!("for $s ({each}) {{ print socket($x, @$s[0], @$s[1], @$s[2]) ? 0 : $! + 0, ' ' }}")
    };
    check(&try_each(&sockets), &refused);
    // UNIX, INET, INET6 and netlink for routes.
    check(&try_each(&["1,1,0", "2,1,0", "2,2,17", "10,1,0", "16,3,0"]), "0 0 0 0 0");
}

/// A1.15: nothing can be typed into a terminal, or taken from the console.
#[test]
fn terminal_requests() {
    needs!(Need::Containers, Need::Program("perl"));
    // TIOCSTI, TIOCLINUX, TIOCSETD, TIOCCONS; then the first with other upper bits.
    check(
        "for $r (0x5412, 0x541C, 0x5423, 0x541D, 0x100005412) \
         { $! = 0; $x = 'x' x 64; syscall(16, 0, $r, $x); print $! + 0, ' ' }",
        "1 1 1 1 1",
    );
}

/// A1.14: programs for other instruction sets, which the filter does not know, are killed.
#[cfg(target_arch = "x86_64")]
#[test]
fn foreign_calls_are_fatal() {
    needs!(Need::Containers, Need::Program("perl"));
    // getpid of x32; a child makes the call, and its parent prints the signal that ends it (SIGSYS).
    check("unless (fork) { syscall(0x40000000 + 39); exit } wait; print $? & 127", "31");
    // getpid by the 32-bit gate: a program of 64 bits that is one segment of these instructions.
    // mov eax, 20; int 0x80; mov edi, 0; mov eax, 60; syscall
    let program = "7f454c46020101000000000000000000 02003e00010000007800400000000000 \
                   40000000000000000000000000000000 00000000400038000100000000000000 \
                   01000000050000000000000000000000 00004000000000000000400000000000 \
                   8d000000000000008d00000000000000 0010000000000000 \
                   b814000000cd80bf00000000b83c0000000f05";
    let program: String = program.split_whitespace().collect();
    check(
        &format!(
            "open F, '>', '/tmp/gate'; print F pack('H*', '{program}'); close F; \
             chmod 0755, '/tmp/gate'; unless (fork) {{ exec '/tmp/gate' }} wait; print $? & 127"
        ),
        "31",
    );
}

/// A1.12, A1.14: where the operator lets 32-bit programs in, they are under the same policy, and
/// `socketcall`, which hides what it does, is not there. Those for x32 are killed all the same.
#[cfg(target_arch = "x86_64")]
#[test]
fn foreign_calls_that_the_operator_allows() {
    const SCHED_YIELD: u8 = 158;
    const SOCKETCALL: u8 = 102;
    const MOUNT: u8 = 21;
    needs!(Need::Containers, Need::Program("perl"));
    let directory = tempfile::tempdir().expect("a directory");
    // A 32-bit program of one segment, which makes a call and ends with its errno.
    // mov eax, CALL; mov ebx, 1; xor ecx, ecx; int 0x80; neg eax; mov ebx, eax; mov eax, 1; int 0x80
    let program = |call: u8| {
        format!(
            "7f454c46010101000000000000000000 02000300010000005480040834000000 \
             00000000000000003400200001000000 00000000 \
             01000000000000000080040800800408 6d0000006d0000000500000000100000 \
             b8{call:02x}000000bb0100000031c9cd80f7d889c3b801000000cd80"
        )
        .split_whitespace()
        .collect::<String>()
    };
    let probe = |call: u8| {
        format!(
            "open F, '>', '/tmp/old'; print F pack('H*', '{}'); close F; chmod 0755, '/tmp/old'; \
             unless (fork) {{ exec '/tmp/old' }} wait; print $? & 127, ' ', $? >> 8",
            program(call)
        )
    };
    let x32 = "unless (fork) { syscall(0x40000000 + 39); exit } wait; print $? & 127, ' ', $? >> 8";
    let here = directory.path().join("old");
    let bytes = program(SCHED_YIELD);
    let script = format!(
        "open F, '>', $ARGV[0]; print F pack('H*', '{bytes}'); close F; chmod 0755, @ARGV; \
                          exec @ARGV; exit 99"
    );
    let tried = crate::binary::program("perl").args(["-e", &script]).arg(here).status();
    if tried.expect("perl").code() != Some(0) {
        not_run(test!(), "32-bit programs cannot be run here");
        return;
    }
    let host = std::fs::read_to_string(crate::binary::configuration()).expect("a configuration");
    for (configuration, probe, expect) in [
        ("", probe(SCHED_YIELD), "31 0".to_owned()),
        ("i386: true", probe(SCHED_YIELD), "0 0".to_owned()),
        ("i386: true", probe(SOCKETCALL), format!("0 {ENOSYS}")),
        ("i386: true", probe(MOUNT), format!("0 {EPERM}")),
        ("i386: true", x32.to_owned(), "31 0".to_owned()),
    ] {
        let configuration = format!("{host}{configuration}\n");
        let cofferdam = crate::configuration::configured(directory.path(), &configuration);
        let ended = cofferdam.run(["exec", "host", "--", "perl", "-e", &probe]);
        assert_eq!(ended.stdout, expect, "{configuration}: {}\n{probe}", ended.text());
    }
}

/// A1.10: capabilities in a file's attributes are not there, or give nothing.
#[test]
fn file_capabilities_give_nothing() {
    needs!(Need::Containers, Need::Root, Need::Program("perl"), Need::Program("setpriv"));
    // cap_net_raw, cap_sys_admin: permitted and effective, version 2.
    let probe = "system 'cp /bin/cat /tmp/cat'; $p = '/tmp/cat'; $n = 'security.capability'; \
                 $v = pack('V5', 0x02000001, 0x202000, 0, 0, 0); \
                 syscall(188, $p, $n, $v, 20, 0); $| = 1; \
                 open F, '-|', 'setpriv --reuid 1000 --clear-groups /tmp/cat /proc/self/status'; \
                 while (<F>) { print $1 if /^CapEff:\\s+0*(\\S)/ }";
    let ended = Cofferdam::common().run(["exec", "host", "--", "perl", "-e", probe]).expect(0);
    assert_eq!(ended.stdout, "0", "{}", ended.text());
}

/// A1.2: a working directory is one of the container's, whatever descriptor it is named by.
#[test]
fn working_directories_by_descriptor() {
    needs!(Need::Containers);
    for number in 3..12 {
        for process in ["self", "1"] {
            let workdir = format!("/proc/{process}/fd/{number}");
            let flags = ["--workdir", &workdir];
            let ended = Cofferdam::common().script(&flags, "pwd -P; ls -d ../../../../etc/shadow");
            let inside = ended.stdout.lines().next().unwrap_or("/");
            assert!(ended.status != 0, "`{workdir}` was entered: {}", ended.text());
            assert!(!inside.contains("unreachable"), "`{workdir}`: {}", ended.text());
        }
    }
}

/// A1.18: a socket of the host without a place in the file system is in another namespace.
#[test]
fn abstract_sockets_of_the_host() {
    needs!(Need::Containers, Need::Program("perl"));
    let name = format!("cofferdam-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("an address");
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).expect("listen");
    let connect = format!(
        "socket($s, 1, 1, 0); $! = 0; connect($s, pack('S', 1) . \"\\0{name}\"); print $! + 0"
    );
    let status = crate::binary::program("perl").args(["-e", &connect]).output().expect("run perl");
    assert_eq!(String::from_utf8_lossy(&status.stdout), "0", "it can be reached from the host");
    check(&connect, "111");
}

/// A1.21: what names this host is in a file system of its own, which holds no byte of the job's.
#[test]
fn files_that_name_the_host_are_read_only() {
    needs!(Need::Containers, Need::Program("perl"));
    // EROFS for root; a user has no right to write either.
    let probe = "for (qw(hosts hostname resolv.conf)) { $! = 0; open F, '>>', \"/etc/$_\"; \
                 print $! == 30 || $! == 13 ? 'refused ' : 'written ' }";
    check(probe, "refused refused refused");
}
