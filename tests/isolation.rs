//! What a container cannot see or do, tried from inside (threat numbers: `docs/attacks.md`).
//!
//! Every probe prints a line; what it must print is in the table. The probes are shell scripts, so
//! that they say what an attacker would type.

use crate::{
    binary::{Cofferdam, file, program, repository, wait},
    host::{Need, has_ids, needs, not_run, test},
};

/// Runs a probe as root of the container and, where it has one, as a user; both must print `expect`.
#[track_caller]
fn check(probe: &str, expect: &str) {
    check_as("0", probe, expect);
    if has_ids() {
        check_as("1000", probe, expect);
    }
}

#[track_caller]
fn check_as(user: &str, probe: &str, expect: &str) {
    let ended = Cofferdam::common().script(&["--user", user], probe);
    assert_eq!(
        ended.stdout.trim(),
        expect,
        "as {user}, status {}, stderr: {}\nprobe: {probe}",
        ended.status,
        ended.stderr
    );
}

fn status_field(name: &str) -> String {
    format!("sed -n 's/^{name}:[[:space:]]*//p' /proc/self/status")
}

/// Ten capabilities for root of the container, none for anyone else.
#[test]
fn capabilities() {
    needs!(Need::Containers);
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SETFCAP
    let ten = format!("{:016x}", 0x8000_05fb_u64);
    let none = "0".repeat(16);
    for set in ["CapInh", "CapAmb"] {
        check(&status_field(set), &none);
    }
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        check_as("0", &status_field(set), &ten);
        if has_ids() {
            check_as("1000", &status_field(set), &none);
        }
    }
}

/// No privilege can be gained by exec, and the filter is on.
#[test]
fn no_new_privileges_and_seccomp() {
    needs!(Need::Containers);
    check(&status_field("NoNewPrivs"), "1");
    check(&status_field("Seccomp"), "2");
}

/// A setuid program gives nothing.
#[test]
fn setuid_is_dead() {
    needs!(Need::Containers, Need::Ids);
    let ended = Cofferdam::common().script(
        &["--user", "0"],
        "cp /usr/bin/id /tmp/id && chmod 4755 /tmp/id && ls -l /tmp/id | cut -c1-4 \
         && setpriv --reuid 1000 --clear-groups /tmp/id -u",
    );
    assert_eq!(ended.stdout, "-rws\n1000\n", "{}", ended.stderr);
}

/// Each namespace is the container's own.
#[test]
fn namespaces() {
    needs!(Need::Containers);
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        let ended =
            Cofferdam::common().script(&[], &format!("readlink /proc/self/ns/{kind}")).expect(0);
        assert!(ended.stdout.starts_with(kind), "{}", ended.text());
        assert_ne!(ended.stdout.trim(), own.to_string_lossy(), "the host's {kind} namespace");
    }
}

/// A1.11: no namespace can be made inside, so that none of their kernel code can be reached.
#[test]
fn no_nested_namespaces() {
    needs!(Need::Containers, Need::Program("unshare"));
    for flag in ["--user", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"] {
        check(&format!("unshare {flag} true 2>/dev/null || echo refused"), "refused");
    }
}

/// Only the container's own processes are there, and pid 1 is its init.
#[test]
fn processes() {
    needs!(Need::Containers);
    check("for each in /proc/[0-9]*; do echo ${each#/proc/}; done | sort -n | head -n 1", "1");
    let ended = Cofferdam::common().script(&[], "ls -d /proc/[0-9]* | wc -l").expect(0);
    let count: u32 = ended.stdout.trim().parse().expect("a number");
    assert!(count <= 5, "{count} processes are visible");
    check("kill -9 1 2>/dev/null; sleep 0.1; echo alive", "alive");
}

/// A1.26: the init's memory, environment and files say nothing.
#[test]
fn init_is_closed() {
    needs!(Need::Containers);
    check("cat /proc/1/environ 2>/dev/null | tr -d '\\0' | wc -c", "0");
    check("ls /proc/1/fd 2>/dev/null | wc -l", "0");
    check("head -c 1 /proc/1/mem 2>/dev/null | wc -c", "0");
    check("readlink /proc/1/exe 2>/dev/null || echo hidden", "hidden");
    check("ls /proc/1/root/ 2>/dev/null | wc -l", "0");
}

/// No process of the job can change the resource limits of the init, and so end its container as if
/// the host had done it: not as root, and not as the id that the init has beside root's.
#[test]
fn limits_of_the_init_are_out_of_reach() {
    needs!(Need::Containers, Need::Program("prlimit"));
    let last_id = "$(awk '{ last = $1 + $3 - 1 } END { print last }' /proc/self/uid_map)";
    let change = "prlimit --pid 1 --cpu=1:1 2>/dev/null && echo changed";
    let ended = Cofferdam::common().script(
        &[],
        &format!(
            "{change}; setpriv --reuid {last_id} {change}; prlimit --pid $$ --cpu=9:9 && echo own"
        ),
    );
    if Need::Ids.is_met() {
        assert_eq!(ended.stdout, "own\n", "{}", ended.stderr);
    } else {
        not_run(test!(), "with a single id, the init has no id of its own");
    }
}

/// A1.17: a lock on a file of the host image is the container's own, and no channel to the host.
#[test]
fn locks_on_host_files_are_not_shared() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::new();
    let hold = "flock -x /usr/bin/env sh -c 'echo held; read end'";
    let mut command = cofferdam.command(["exec", "host", "-i", "--", "sh", "-c", hold]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut holder = command.spawn().expect("start cofferdam");
    let mut said = [0; 5];
    let output = holder.stdout.as_mut().expect("its output");
    std::io::Read::read_exact(output, &mut said).expect("the lock is held");
    assert_eq!(&said, b"held\n");
    let status = program("flock").args(["-n", "/usr/bin/env", "true"]).status().expect("flock");
    drop(holder.stdin.take());
    wait(holder);
    assert!(status.success(), "the container's lock is the host's");
}

/// A1.27: no path of the host shows in what is mounted, and nothing is shared with it.
#[test]
fn mountinfo_names_no_host_path() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::new();
    let ended = cofferdam.script(&["--workspace", "."], "cat /proc/self/mountinfo").expect(0);
    let repository = repository().canonicalize().expect("the repository");
    for unwanted in [
        cofferdam.state().to_str().expect("a path"),
        repository.to_str().expect("a path"),
        "lowerdir=/",
        "upperdir=/",
        " shared:",
        " master:",
        "cofferdam-test",
    ] {
        assert!(!ended.stdout.contains(unwanted), "`{unwanted}` is in\n{}", ended.stdout);
    }
}

/// Every mount that can be written refuses setuid programs and devices.
#[test]
fn mounts_are_nosuid_and_nodev() {
    needs!(Need::Containers);
    let ended = Cofferdam::common().script(&[], "cat /proc/self/mountinfo").expect(0);
    for line in ended.stdout.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(target), Some(options)) = (fields.next(), fields.next()) else {
            panic!("no mount: {line}");
        };
        let has = |option: &str| options.split(',').any(|word| word == option);
        // The five device nodes are bind mounts on hosts where they cannot be made.
        let device = target.starts_with("/dev/");
        assert!(has("nosuid"), "`{target}` lacks nosuid: {line}");
        assert!(has("nodev") || device || target == "/dev", "`{target}` lacks nodev: {line}");
    }
}

/// The host's own directories are not there.
#[test]
fn host_directories_are_hidden() {
    needs!(Need::Containers);
    check(
        "find /home /root /var /run /boot /mnt /media /srv /opt -type f 2>/dev/null | wc -l",
        "0",
    );
    let canary = tempfile::NamedTempFile::new().expect("a file in /tmp");
    check(&format!("test ! -e {} && echo hidden", canary.path().display()), "hidden");
    check("cat /etc/shadow 2>/dev/null | wc -c", "0");
    check("ls /etc/ssh /etc/ssl/private 2>/dev/null | grep -c key", "0");
}

/// The host image's programs cannot be changed.
#[test]
fn host_programs_cannot_be_changed() {
    needs!(Need::Containers);
    let before = std::fs::metadata("/usr/bin/env").expect("/usr/bin/env").modified().expect("time");
    Cofferdam::common().script(
        &[],
        "echo changed > /usr/bin/env; rm -f /usr/bin/env; touch /usr/bin/cofferdam-was-here",
    );
    let after = std::fs::metadata("/usr/bin/env").expect("/usr/bin/env").modified().expect("time");
    assert_eq!(before, after);
    assert!(!std::path::Path::new("/usr/bin/cofferdam-was-here").exists());
}

/// What tells about the host reads as empty or not at all.
#[test]
fn masked_files() {
    needs!(Need::Containers);
    for path in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/kmsg",
        "/proc/timer_list",
        "/proc/slabinfo",
        "/proc/kallsyms",
        "/proc/vmallocinfo",
        "/proc/interrupts",
        "/proc/sched_debug",
        "/proc/pagetypeinfo",
        "/proc/kpagecount",
    ] {
        check(&format!("head -c 1 {path} 2>/dev/null | wc -c"), "0");
    }
    for path in [
        "/proc/acpi",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/kernel/debug",
        "/sys/kernel/tracing",
        "/sys/kernel/security",
        "/sys/fs/bpf",
    ] {
        check(&format!("ls -A {path} 2>/dev/null | wc -l"), "0");
    }
}

/// A1.8: the kernel's switches are read-only.
#[test]
fn kernel_switches_are_read_only() {
    needs!(Need::Containers);
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
    ] {
        check(&format!("{{ echo 1 > {path}; }} 2>/dev/null || echo refused"), "refused");
    }
    check("touch /sys/x /proc/sys/x 2>/dev/null || echo refused", "refused");
}

/// A1.9: the usual devices and no others, and none can be made.
#[test]
fn devices() {
    needs!(Need::Containers);
    check(
        "cd /dev && for each in null zero full random urandom tty; do test -c $each || echo no $each; done",
        "",
    );
    check("find /dev -type b | wc -l", "0");
    check("head -c 4 /dev/zero | od -An -tx1 | tr -d ' '", "00000000");
    check("{ echo x > /dev/full; } 2>/dev/null || echo full", "full");
    check("mknod /tmp/disk b 8 0 2>/dev/null || echo refused", "refused");
    check("mknod /tmp/memory c 1 1 2>/dev/null || echo refused", "refused");
    check("mkfifo /tmp/pipe && echo made", "made");
    check(
        "ls /dev/kmsg /dev/mem /dev/fuse /dev/net/tun /dev/loop0 /dev/vda 2>/dev/null | wc -l",
        "0",
    );
    check("readlink /dev/fd", "/proc/self/fd");
}

/// A1.2: no descriptor of the runner is inherited.
#[test]
fn descriptors() {
    needs!(Need::Containers);
    check("ls /proc/self/fd | grep -v -x -e 0 -e 1 -e 2 -e 3 | wc -l", "0");
    check("readlink /proc/self/fd/0", "/dev/null");
}

/// A1.18: only a loopback, which is up, and no way out.
#[test]
fn network() {
    needs!(Need::Containers);
    check("sed -n 's/:.*//p' /proc/net/dev | tr -d ' '", "lo");
    check("cat /sys/class/net/lo/flags 2>/dev/null || echo 0x9", "0x9");
    check("tail -n +2 /proc/net/route | wc -l", "0");
    check("grep -c . /proc/net/unix", "1");
}

/// Mounting, changing the root and the like are refused.
#[test]
fn mounting_is_refused() {
    needs!(Need::Containers);
    check("mount -t tmpfs none /mnt 2>/dev/null || echo refused", "refused");
    check("mount --bind /usr /mnt 2>/dev/null || echo refused", "refused");
    check("mount -o remount,rw /proc/sys 2>/dev/null || echo refused", "refused");
    check("umount /proc/sys 2>/dev/null || umount /dev 2>/dev/null || echo refused", "refused");
    check("chroot / true 2>/dev/null || echo refused", "refused");
    check("pivot_root . . 2>/dev/null || echo refused", "refused");
    check("hostname changed 2>/dev/null || echo refused", "refused");
    check("dmesg 2>/dev/null | grep -c .", "0");
}

/// A1.7: the control groups show nothing and cannot be written.
#[test]
fn control_groups() {
    needs!(Need::Containers);
    check("cut -d: -f3 /proc/self/cgroup | grep -v '^/' | wc -l", "0");
    let ended = Cofferdam::common().script(&[], "cat /proc/self/cgroup").expect(0);
    assert!(!ended.stdout.contains("cofferdam"), "{}", ended.stdout);
    check(
        "mkdir $(find /sys/fs/cgroup -type d | head -n 1)/x 2>/dev/null || echo refused",
        "refused",
    );
    check(
        "find /sys/fs/cgroup -type f -writable 2>/dev/null | while read -r f; do { echo 0 > $f; } 2>/dev/null && echo $f; done | wc -l",
        "0",
    );
}

/// The limits of processes.
#[test]
fn process_limits() {
    needs!(Need::Containers);
    check("ulimit -c", "0");
    check("ulimit -Hc", "0");
    check("ulimit -n", "4096");
    check("umask", "0022");
    check("sed -n 's/^Max realtime priority *\\([0-9]*\\) .*/\\1/p' /proc/self/limits", "0");
}

/// Whoever starts it may keep their own files to themselves: that is nothing to a container.
#[test]
fn umask_of_the_caller() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::new();
    let script = "umask; ls / /workspace /sys/fs/cgroup > /dev/null && : > /tmp/file && stat -c %a /tmp/file";
    let command = ["exec", "host", "--", "sh", "-c", script];
    let strict = ["-c", "umask 077; exec \"$@\"", "sh"];
    let ended = wait(cofferdam.command_by("sh", &strict, &command).spawn().expect("start"));
    assert_eq!(ended.expect(0).stdout, "0022\n644\n");
}

/// Ids inside are the usual ones, and on the host they are nobody else's.
#[test]
fn ids_belong_to_nobody_else() {
    needs!(Need::Root);
    let cofferdam = Cofferdam::common();
    let first = cofferdam.script(&[], "cat /proc/self/uid_map").expect(0).stdout;
    let fields: Vec<u64> =
        first.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    assert_eq!(fields[0], 0, "{first}");
    assert!(fields[1] >= 65_536, "the host's own ids are used: {first}");
    // The first stays until its input ends.
    let script = "cat /proc/self/uid_map; read end; exit 7";
    let mut command = cofferdam.command(["exec", "host", "-i", "--", "sh", "-c", script]);
    let mut stays = command.stdin(std::process::Stdio::piped()).spawn().expect("start");
    let mut ids = String::new();
    let stdout = stays.stdout.as_mut().expect("its output");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut ids).expect("a line");
    let beside = cofferdam.script(&[], "cat /proc/self/uid_map").expect(0).stdout;
    assert_ne!(ids, beside, "two containers at the same time share their ids");
    drop(stays.stdin.take());
    wait(stays).expect(7);
}

/// An archive of the caller's environment is not taken in, whatever it holds.
#[test]
fn callers_environment() {
    needs!(Need::Containers);
    let ended = Cofferdam::common()
        .variable("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
        .variable("LD_PRELOAD", "")
        .script(&[], "tr '\\0' '\\n' < /proc/self/environ; cat /proc/1/environ 2>/dev/null; true")
        .expect(0);
    assert!(!ended.text().contains("hunter2"), "{}", ended.text());
}

/// A link in the project cannot lead out of the container.
#[test]
fn links_stay_inside() {
    needs!(Need::Containers);
    let (project, outside) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
    let target = file(outside.path(), "target", "of the host");
    std::os::unix::fs::symlink(&target, project.path().join("link")).expect("a link");
    let ended = Cofferdam::common()
        .in_directory(project.path())
        .script(&["--workspace", "."], "cat link 2>/dev/null; cat ../../../..$(readlink link) 2>/dev/null; mkdir -p $(dirname $(readlink link)) && echo x > link && cat link");
    assert_eq!(ended.stdout, "x\n");
    assert_eq!(std::fs::read_to_string(target).expect("read"), "of the host");
}
