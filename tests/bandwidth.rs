//! The bandwidth of disks: a job that asks for a limit has it, or is refused before it starts.
//!
//! A transfer that takes at least as long as the limit says proves it on any host; how long it
//! takes without the limit proves nothing, so nothing is compared with that.

use std::{path::Path, time::Duration};

use crate::{
    binary::{Cofferdam, Ended, file, program, scratch},
    host::{Need, needs},
    images::busybox,
};

const MIB: usize = 1 << 20;

/// What the host cannot enforce is refused, with the reason, and otherwise took its time.
#[track_caller]
fn limited_or_refused(ended: Ended, status: i32, limit: &str, least: Duration) {
    if ended.text().contains("failed to enforce the limit") {
        let named = format!("the limit `{limit}`");
        ended.expect(status).says(&[&named, "help: "]);
    } else {
        let ended = ended.expect(0);
        assert!(ended.took >= least, "took {:?}", ended.took);
    }
}

/// A file of 12 MiB in `directory` that is on the disk and not in memory.
fn cold_file(directory: &Path) {
    let path = file(directory, "big", vec![7; 12 * MIB]);
    let dropped = program("dd")
        .arg(format!("of={}", path.display()))
        .args(["oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"])
        .status();
    assert!(dropped.expect("run dd").success());
}

#[test]
fn reading() {
    needs!(Need::Containers, Need::DiskBehind);
    let project = tempfile::tempdir_in(scratch()).expect("a directory");
    cold_file(project.path());
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let flags = ["--workspace", ".", "--io-read", "4MiB/s"];
    let ended = cofferdam.script(&flags, "cat big | wc -c");
    limited_or_refused(ended, 125, "io.read", Duration::from_secs(2));
    // The same through a pipeline.
    cold_file(project.path());
    let pipeline =
        "jobs: { a: { limits: { io: { read: 4MiB/s } }, steps: [{ run: cat big | wc -c }] } }";
    file(project.path(), "cofferdam.yml", pipeline);
    limited_or_refused(cofferdam.run(["run"]), 70, "io.read", Duration::from_secs(2));
}

/// A step with an image of its own reads the project in the container of the job: that disk counts for
/// it, too. What else it has is in memory, so that no other disk is the reason.
#[test]
fn reading_the_jobs_workspace_in_a_step_with_an_image() {
    needs!(Need::Containers, Need::DiskBehind, Need::Busybox, Need::Program("tar"));
    let state = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let project = tempfile::tempdir_in(scratch()).expect("a directory");
    cold_file(project.path());
    let cofferdam = Cofferdam::new().with_state(state.path()).in_directory(project.path());
    let layout = busybox().expect("a busybox image").layout.as_os_str();
    cofferdam.run(["image".as_ref(), "import".as_ref(), layout, "busybox".as_ref()]).expect(0);
    let pipeline = "jobs: { a: { limits: { io: { read: 4MiB/s } }, \
                    steps: [{ image: busybox, run: cat big | wc -c }] } }";
    file(project.path(), "cofferdam.yml", pipeline);
    let ended = cofferdam.run(["run"]);
    assert!(ended.status == 70 || ended.text().contains("12582912"), "{}", ended.text());
    limited_or_refused(ended, 70, "io.read", Duration::from_secs(2));
}

#[test]
fn writing() {
    needs!(Need::Containers, Need::Disk, Need::DiskBehind);
    let cofferdam = Cofferdam::new().in_directory(&scratch());
    let flags = ["--scratch", "disk", "--io-write", "4MiB/s"];
    // Past the page cache: what a job throws away before it was written back never meets a disk.
    let script = "dd if=/dev/zero of=/tmp/big bs=1M count=12 oflag=direct 2>/dev/null";
    let ended = cofferdam.script(&flags, script);
    limited_or_refused(ended, 125, "io.write", Duration::from_secs(2));
    let directory = tempfile::tempdir().expect("a directory");
    let text = "downgrades: [io]\n";
    let configuration = file(directory.path(), "config.yml", text).display().to_string();
    // Where it cannot be enforced, an operator who can do without says so.
    Cofferdam::new().variable("COFFERDAM_CONFIG", &configuration).script(&flags, "true").expect(0);
}
