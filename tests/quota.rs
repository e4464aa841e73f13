//! Limits of disk and inodes by project quotas, on a file system of the test's own that has them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::Signal,
};

use crate::{
    binary::{Cofferdam, GRACE, alone, kill, program},
    host::{Need, needs},
    residue::Snapshot,
};

const MIB: u64 = 1 << 20;

/// A file system in a file, mounted as long as this lives.
pub(crate) struct Disk {
    directory: tempfile::TempDir,
}

impl Disk {
    /// One with project quotas in force, where this kernel has them.
    pub(crate) fn with_quotas() -> Option<Self> {
        Self::new(&["-O", "quota,project", "-E", "quotatype=prjquota"], "loop,prjquota")
    }

    /// One without.
    fn without_quotas() -> Self {
        Self::new(&[], "loop").expect("a file system on a loop device")
    }

    fn new(features: &[&str], options: &str) -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("cofferdam-disk-").tempdir().expect("disk");
        let (file, point) = (directory.path().join("file"), directory.path().join("mount"));
        std::fs::File::create(&file).and_then(|file| file.set_len(1024 * MIB)).expect("a file");
        std::fs::create_dir(&point).expect("a mount point");
        let made = program("mke2fs")
            .args(["-q", "-F", "-t", "ext4"])
            .args(features)
            .arg(&file)
            .output()
            .expect("run mke2fs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mount = program("mount").args(["-o", options]).args([&file, &point]).output();
        // Dropping it unmounts.
        mount.expect("run mount").status.success().then(|| Self { directory })
    }

    fn mount(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    fn cofferdam(&self) -> Cofferdam {
        Cofferdam::unshared().with_state(&self.mount().join("state"))
    }

    /// Bytes and inodes in use on all of it, once the kernel has freed what it frees later.
    fn used(&self) -> (u64, u64) {
        let found = nix::sys::statvfs::statvfs(&self.mount()).expect("statvfs");
        let blocks = found.blocks() - found.blocks_free();
        (blocks * found.fragment_size(), found.files() - found.files_free())
    }

    /// Files that the last process of a container had open are freed a little after its end.
    #[track_caller]
    fn expect_used(&self, expected: (u64, u64)) {
        let deadline = std::time::Instant::now() + GRACE;
        while self.used() != expected {
            let used = self.used();
            assert!(std::time::Instant::now() < deadline, "{used:?} is not {expected:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount2(&self.mount(), MntFlags::MNT_DETACH).expect("unmount");
    }
}

/// Tries to take files and directories out of their project (`FS_IOC_FSSETXATTR`), and directories
/// out of handing it on.
const PROBE: &str = "
for file in / /workspace /tmp /tmp/file; do
    chattr -p 0 $file && echo ESCAPED $file
    chattr -p 77 $file && echo ESCAPED $file
    ! test -d $file || ! chattr -P $file || echo ESCAPED $file
done
lsattr -pd /tmp/file";

#[test]
fn bytes_and_inodes_are_exact_and_none_is_left() {
    needs!(Need::Containers, Need::ProjectQuotas);
    let _quiet = alone();
    let disk = Disk::with_quotas().expect("a file system with quotas");
    let cofferdam = disk.cofferdam();
    let flags = ["--scratch", "disk", "--disk", "16MiB", "--inodes", "500"];
    cofferdam.script(&flags, "true").expect(0);
    let before = (Snapshot::take(cofferdam.state()), disk.used());

    let bytes = "head -c 999m /dev/zero | dd of=/tmp/big bs=4k 2>&1 | tail -n 1; stat -c %s /tmp/big; exit 1";
    let ended = cofferdam.script(&flags, bytes);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let written: u64 = lines.last().and_then(|line| line.parse().ok()).expect("a size");
    assert!(written <= 16 * MIB && written + 256 * 1024 >= 16 * MIB, "{written}");
    ended.expect(1).says(&["disk quota of 16 MiB", "`/tmp`"]);

    let inodes =
        "cd /tmp; i=0; while true > $i; do i=$((i + 1)); done 2>/dev/null; echo $i; exit 1";
    let ended = cofferdam.script(&flags, inodes);
    let made: u64 = ended.stdout.trim().parse().expect("a number");
    assert!((500 - 16..500 + 16).contains(&made), "{made}");
    ended.expect(1).says(&["quota", "500 files"]);

    before.0.expect_again(cofferdam.state());
    disk.expect_used(before.1);
    // What it has freed can be had again, and a job that keeps within its limits hears of none.
    let ended =
        cofferdam.script(&flags, "head -c 12m /dev/zero > /tmp/x; echo written >&2; rm /tmp/x");
    assert!(!ended.expect(0).stderr.contains("quota"));
}

/// Whatever a job's root tries, its files stay in its project, and it writes no more than it may.
#[test]
fn no_file_leaves_its_project() {
    needs!(Need::Containers, Need::ProjectQuotas, Need::ProgramInside("chattr".to_owned()));
    let _quiet = alone();
    let disk = Disk::with_quotas().expect("a file system with quotas");
    let script = format!(
        "head -c 4k /dev/zero > /tmp/file; {PROBE}
        head -c 999m /dev/zero | dd of=/tmp/big bs=4k 2>/dev/null; stat -c 'size %s' /tmp/big"
    );
    let flags = ["--scratch", "disk", "--disk", "16MiB"];
    let ended = disk.cofferdam().script(&flags, &script);
    assert!(!ended.text().contains("ESCAPED"), "{}", ended.text());
    let size = ended.stdout.lines().find_map(|line| line.strip_prefix("size "));
    let size: u64 = size.and_then(|size| size.parse().ok()).expect("a size");
    assert!(size <= 16 * MIB, "{size}");
    // So that what was refused was there to be refused: the file has a project, and it is no small one.
    let project = ended.stdout.lines().find(|line| line.ends_with("/tmp/file")).expect("lsattr");
    let project: u32 =
        project.split_whitespace().next().and_then(|it| it.parse().ok()).expect("a number");
    assert!(project >= 0x7000_0000, "{project}");
}

/// SIGKILL of the runner at any moment: no file, no use that is counted, no limit.
#[test]
fn killed_runners_leave_no_file() {
    needs!(Need::Containers, Need::ProjectQuotas);
    let _quiet = alone();
    let disk = Disk::with_quotas().expect("a file system with quotas");
    let cofferdam = disk.cofferdam();
    let flags = ["exec", "host", "--scratch", "disk", "--disk", "100MiB", "--", "sh", "-c"];
    cofferdam.run(flags.iter().chain(&["true"])).expect(0);
    let before = (Snapshot::take(cofferdam.state()), disk.used());
    for moment in 0..6 {
        let mut child = cofferdam
            .command(
                flags
                    .iter()
                    .chain(&["mkdir -p /tmp/a/b; head -c 20m /dev/zero > /tmp/a/b/x; sleep 1000"]),
            )
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        std::thread::sleep(Duration::from_millis(moment * 300));
        kill(child.id(), Signal::SIGKILL);
        child.wait().expect("wait");
    }
    before.0.expect_again(cofferdam.state());
    disk.expect_used(before.1);
}

/// Runner and spawner killed together, as by the kernel: the next start removes what is there.
#[test]
fn next_start_removes_what_both_have_left() {
    needs!(Need::Containers, Need::ProjectQuotas);
    let _quiet = alone();
    let disk = Disk::with_quotas().expect("a file system with quotas");
    let cofferdam = disk.cofferdam();
    let flags = ["exec", "host", "--scratch", "disk", "--disk", "100MiB", "--", "sh", "-c"];
    cofferdam.run(flags.iter().chain(&["true"])).expect(0);
    let before = (Snapshot::take(cofferdam.state()), disk.used());
    let mut child = cofferdam
        .command(flags.iter().chain(&["head -c 20m /dev/zero > /tmp/x; echo written; sleep 1000"]))
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let mut line = [0; 8];
    let stdout = child.stdout.as_mut().expect("a pipe");
    std::io::Read::read_exact(stdout, &mut line).expect("a line");
    let rooms = || rooms_in(cofferdam.state());
    assert_eq!(rooms(), 1, "the job's files are where they are expected");
    let spawner = crate::residue::children(child.id());
    for process in spawner.iter().chain([&child.id()]) {
        kill(*process, Signal::SIGSTOP);
    }
    for process in spawner.iter().chain([&child.id()]) {
        kill(*process, Signal::SIGKILL);
    }
    child.wait().expect("wait");
    crate::residue::await_end(&spawner);
    assert_eq!(rooms(), 1, "nobody was there to remove it");
    cofferdam.run(["gc"]).expect(0);
    assert_eq!(rooms(), 0);
    before.0.expect_again(cofferdam.state());
    disk.expect_used(before.1);
}

fn rooms_in(state: &Path) -> usize {
    let below = |path: &Path| -> Vec<PathBuf> {
        let list = std::fs::read_dir(path).into_iter().flatten();
        list.filter_map(Result::ok).map(|entry| entry.path()).collect()
    };
    let journals = below(&state.join("instances"));
    let all = journals.iter().flat_map(|journal| below(journal));
    all.filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("room-"))
    })
    .count()
}

/// Twenty at once share no project, and what others start from keeps its own.
#[test]
fn many_at_once_are_told_apart() {
    needs!(Need::Containers, Need::ProjectQuotas);
    let _quiet = alone();
    let disk = Disk::with_quotas().expect("a file system with quotas");
    let cofferdam = disk.cofferdam();
    let flags = ["exec", "host", "--scratch", "disk", "--disk", "24MiB", "--", "sh", "-c"];
    let script = "head -c 20m /dev/zero > /tmp/x && df / | awk 'NR == 2 { print $2 }'";
    cofferdam.run(flags.iter().chain(&[script])).expect(0);
    let before = (Snapshot::take(cofferdam.state()), disk.used());
    let children: Vec<_> = (0..6)
        .map(|_| cofferdam.command(flags.iter().chain(&[script])).spawn().expect("start"))
        .collect();
    for child in children {
        crate::binary::wait(child).expect(0);
    }
    before.0.expect_again(cofferdam.state());
    disk.expect_used(before.1);
}

/// The choice, as the operator is told: quotas where they are in force, otherwise a loop device.
/// Either way the limit is exact.
#[test]
fn doctor_names_what_is_used() {
    needs!(Need::Containers, Need::ProjectQuotas);
    let _quiet = alone();
    for (disk, expected) in [
        (Disk::with_quotas().expect("a file system with quotas"), "a project quota"),
        (Disk::without_quotas(), "a loop device"),
    ] {
        let cofferdam = disk.cofferdam();
        let ended = cofferdam.run(["doctor"]);
        assert!(ended.text().contains(expected), "{}", ended.text());
        let script =
            "head -c 99m /dev/zero | dd of=/tmp/big bs=4k 2>/dev/null; stat -c %s /tmp/big";
        let ended = cofferdam.script(&["--scratch", "disk", "--disk", "16MiB"], script);
        let written: u64 = ended.stdout.trim().parse().expect("a size");
        assert!(written <= 16 * MIB && written + 256 * 1024 >= 16 * MIB, "{expected}: {written}");
    }
}
