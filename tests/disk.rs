//! Limits of disk and inodes where files are kept on disk: exact, and nothing left of them.

use std::{process::Stdio, time::Duration};

use nix::sys::signal::Signal;

use crate::{
    binary::{Cofferdam, alone, kill},
    host::{Need, needs},
    residue::Snapshot,
};

const MIB: u64 = 1 << 20;

/// What a job could write when it is refused more, a block at a time: the limit, but for the
/// blocks that describe its file and the directories.
#[test]
fn bytes_are_exact() {
    needs!(Need::Containers, Need::Disk);
    for (memory, disk) in [("512MiB", 130 * MIB), ("64MiB", 16 * MIB), ("256MiB", 1024 * MIB)] {
        let ended = Cofferdam::common().script(
            &["--scratch", "disk", "--memory", memory, "--disk", &disk.to_string()],
            "head -c 9999m /dev/zero | dd of=/tmp/big bs=4k 2>/dev/null; stat -c %s /tmp/big",
        );
        let written: u64 = ended.stdout.trim().parse().expect("a size");
        assert!(written <= disk, "{written} of {disk}");
        assert!(written + 256 * 1024 >= disk, "{written} of {disk}");
    }
}

/// Inodes are made in groups, so there may be a few more than asked for, and never fewer.
#[test]
fn inodes_are_exact_to_a_group() {
    needs!(Need::Containers, Need::Disk);
    for (disk, inodes) in [("200MiB", 2000), ("1GiB", 3000)] {
        let ended = Cofferdam::common().script(
            &[
                "--scratch",
                "disk",
                "--memory",
                "256MiB",
                "--disk",
                disk,
                "--inodes",
                &inodes.to_string(),
            ],
            "cd /tmp; i=0; while true > $i; do i=$((i + 1)); done 2>/dev/null; echo $i; exit 1",
        );
        let made: u64 = ended.stdout.trim().parse().expect("a number");
        assert!((inodes - 16..inodes + 256).contains(&made), "{made} of {inodes}");
        ended.expect(1).says(&["quota", &format!("{inodes} files")]);
    }
}

/// The reason names the limit and where most of it went.
#[test]
fn full_disk_is_explained() {
    needs!(Need::Containers, Need::Disk);
    let script = "mkdir -p /workspace/target /tmp/cache
        head -c 100m /dev/zero > /workspace/target/big
        head -c 50m /dev/zero > /tmp/cache/one && head -c 999m /dev/zero > /tmp/cache/two";
    for flags in
        [["--memory", "256MiB", "--disk", "200MiB"], ["--memory", "2GiB", "--disk", "200MiB"]]
    {
        let ended = Cofferdam::common().script(&flags, script);
        assert_ne!(ended.status, 0);
        ended.says(&["disk quota of 200 MiB", "`/workspace/target` with 100 MiB", "`/tmp/cache`"]);
    }
}

/// A job may write much more than its memory: what is written is not its memory.
#[test]
fn more_than_memory_can_be_written() {
    needs!(Need::Containers, Need::Disk);
    Cofferdam::common()
        .script(
            &["--memory", "64MiB", "--disk", "1GiB"],
            "head -c 600m /dev/zero > /tmp/big && stat -c %s /tmp/big",
        )
        .expect(0)
        .says(&["629145600\n"]);
}

/// No memory is needed for the limit itself: where it is far above the file system's size, too.
#[test]
fn many_inodes_on_a_small_disk() {
    needs!(Need::Containers, Need::Disk);
    Cofferdam::common()
        .script(
            &["--memory", "32MiB", "--scratch", "disk", "--disk", "10MiB", "--inodes", "1000000"],
            "df -i / | awk 'NR == 2 { print ($4 >= 999900) }'",
        )
        .expect(0)
        .says(&["1\n"]);
}

/// What is made ahead of need is of the size that its job asks for, and nobody has used it; what is
/// made in vain, for jobs that are skipped, goes with the run.
#[test]
fn each_job_of_a_run_has_a_disk_of_its_own_size() {
    needs!(Need::Containers, Need::Disk);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    let directory = tempfile::tempdir().expect("a directory");
    let sizes = [(200, 3000), (300, 3000), (200, 9000), (200, 3000), (400, 3000), (200, 3000)];
    let looks = sizes.iter().enumerate().map(|(job, (disk, inodes))| {
        format!(
            "  j{job}:\n    limits: {{ disk: {disk}MiB, inodes: {inodes} }}\n    steps:\n      \
             - run: ls -A /tmp; df -B1 / | awk 'NR == 2 {{ print \"bytes\", $4 }}'; \
             df -i / | awk 'NR == 2 {{ print \"inodes\", $4 }}'; echo {job} > /tmp/mine\n"
        )
    });
    let skipped = (0..4).map(|job| {
        let limits = "limits: { disk: 500MiB, inodes: 3000 }";
        format!("  s{job}: {{ needs: [fails], {limits}, steps: [{{ run: exit }}] }}\n")
    });
    let pipeline: String = ["defaults: { limits: { memory: 64MiB } }\njobs:\n".to_owned()]
        .into_iter()
        .chain(looks)
        .chain(["  fails: { needs: [j0], steps: [{ run: exit 1 }] }\n".to_owned()])
        .chain(skipped)
        .collect();
    let file = crate::binary::file(directory.path(), "sizes.yml", &pipeline).display().to_string();
    let out = directory.path().join("out").display().to_string();
    let command = ["run", &file, "--out", &out, "--max-parallel", "2"];
    cofferdam.script(&["--scratch", "disk"], "true").expect(0);
    let before = Snapshot::take(cofferdam.state());
    let ended = cofferdam.run(command).expect(1);
    for (job, (disk, inodes)) in sizes.into_iter().enumerate() {
        let lines = ended.stdout.lines().filter_map(|line| line.split_once(" | "));
        let own = lines.filter(|(name, _)| name.trim() == format!("j{job}"));
        let words: Vec<&str> = own.flat_map(|(_, text)| text.split_whitespace()).collect();
        let value = |name: &str| -> u64 {
            let place = words.iter().position(|word| *word == name).expect(name);
            words[place + 1].parse().expect("a number")
        };
        assert!(!words.contains(&"mine"), "{words:?}");
        let (bytes, free) = (value("bytes"), value("inodes"));
        assert!((disk * MIB - MIB..=disk * MIB).contains(&bytes), "j{job}: {bytes} bytes");
        assert!((inodes - 16..inodes + 256).contains(&free), "j{job}: {free} inodes");
    }
    assert!(!ended.stderr.contains("in memory instead"), "{}", ended.stderr);
    before.expect_again(cofferdam.state());
}

/// The file system has neither its device nor its place in what the container sees.
#[test]
fn container_does_not_see_the_device() {
    needs!(Need::Containers, Need::Disk);
    let ended =
        Cofferdam::common().script(&["--scratch", "disk"], "cat /proc/self/mountinfo; ls /dev");
    assert!(!ended.text().contains("loop"), "{}", ended.text());
}

#[test]
fn twenty_at_once_leave_nothing() {
    needs!(Need::Containers, Need::Disk);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    let flags = ["exec", "host", "--memory", "64MiB", "--disk", "300MiB", "--", "sh", "-c"];
    let script = "head -c 20m /dev/zero > /tmp/x && df / | awk 'NR == 2 { print $4 > 200000 }'";
    cofferdam.run(flags.iter().chain(&[script])).expect(0);
    let before = Snapshot::take(cofferdam.state());
    let children: Vec<_> = (0..20)
        .map(|_| cofferdam.command(flags.iter().chain(&[script])).spawn().expect("start"))
        .collect();
    for child in children {
        crate::binary::wait(child).expect(0);
    }
    before.expect_again(cofferdam.state());
}

/// SIGKILL at any moment of the making: no device, no file.
#[test]
fn killed_runners_leave_no_device() {
    needs!(Need::Containers, Need::Disk);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    let flags = ["exec", "host", "--memory", "64MiB", "--disk", "300MiB", "--", "sh", "-c"];
    cofferdam.run(flags.iter().chain(&["true"])).expect(0);
    let before = Snapshot::take(cofferdam.state());
    for moment in 0..20 {
        let mut child = cofferdam
            .command(flags.iter().chain(&["head -c 200m /dev/zero > /tmp/x; sleep 1000"]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        std::thread::sleep(Duration::from_millis(moment * 5));
        kill(child.id(), Signal::SIGKILL);
        child.wait().expect("wait");
    }
    before.expect_again(cofferdam.state());
}
