//! Whom the kernel killed when a container's memory ran out, by the kernel's own account.
//!
//! The kernel takes the process with most memory and says so in its log, with the control group
//! whose limit it was. Nobody who looks from outside can be sure to be as fast. As a rule only root
//! may read the log, and the kernel leaves accounts out when there are many: one that is not there
//! is no error.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::cgroup::{Group, Resident, printable};

/// No record is longer (`PRINTKRB_RECORD_MAX` of the kernel is less).
const RECORD_MAX: usize = 16 * 1024;
/// Records that are read for one death: more than the kernel keeps by default.
const RECORDS_MAX: usize = 50_000;

/// The process that was killed last because the memory of `group` ran out.
pub(crate) fn victim(group: &Group) -> Option<Resident> {
    let directory = group.memory_directory()?;
    let text = oom_records().ok()?;
    parse(&text, directory)
}

/// The records that belong to deaths for memory, one per line. Each read gives one record.
fn oom_records() -> io::Result<String> {
    let mut log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
    let mut text = String::new();
    let mut record = vec![0; RECORD_MAX];
    for _ in 0..RECORDS_MAX {
        let length = match log.read(&mut record) {
            Ok(length) => length,
            // Overwritten before it was read: the next read goes on with the oldest there is.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        let record = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
        // What follows the first line are properties of the record.
        let line = record.lines().next().unwrap_or_default();
        if line.contains(CHOSEN) || line.contains(KILLED) {
            text.extend([line, "\n"]);
        }
    }
    Ok(text)
}

const CHOSEN: &str = "oom-kill:constraint=CONSTRAINT_MEMCG";
const KILLED: &str = "Memory cgroup out of memory: Killed process ";

/// The last account of a process that was chosen for the sake of `group`.
fn parse(text: &str, group: &Path) -> Option<Resident> {
    let mut chosen = None;
    let mut victim = None;
    for line in text.lines() {
        if line.contains(CHOSEN) {
            chosen = chosen_for(line, group);
        } else if let (Some(pid), Some((_, rest))) = (chosen, line.split_once(KILLED))
            && let Some(killed) = killed(rest).filter(|killed| killed.outer_pid == pid)
        {
            victim = Some(killed);
            chosen = None;
        }
    }
    victim
}

/// The process that was chosen, if the limit was that of `group`. The kernel's path begins at the
/// root of the hierarchy, `group` where that is mounted; no two groups end alike.
fn chosen_for(line: &str, group: &Path) -> Option<i32> {
    let (_, rest) = line.split_once(",oom_memcg=/")?;
    let (limited, rest) = rest.split_once(",task_memcg=")?;
    let pid = rest.rsplit_once(",pid=")?.1.split(',').next()?;
    if !limited.is_empty() && group.ends_with(limited) { pid.parse().ok() } else { None }
}

/// `4122 (tail) total-vm:24388kB, anon-rss:1032kB, file-rss:5680kB, shmem-rss:0kB, …`; the name is
/// the job's choice, and may hold a parenthesis.
fn killed(text: &str) -> Option<Resident> {
    let (pid, rest) = text.split_once(" (")?;
    let (name, numbers) = rest.rsplit_once(") total-vm:")?;
    let kib = |key: &str| {
        let (_, number) = numbers.split_once(key)?;
        number.split_once("kB")?.0.parse::<u64>().ok()
    };
    let kib = kib("anon-rss:")? + kib("file-rss:")? + kib("shmem-rss:")?;
    let (pid, name) = (pid.parse().ok()?, printable(name));
    Some(Resident { name, pid: None, outer_pid: pid, bytes: kib * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
4,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/b/cofferdam-1f/0,task_memcg=/b/cofferdam-1f/0/step-1,task=tail,pid=4122,uid=7
3,2,3,-;Memory cgroup out of memory: Killed process 4122 (tail) total-vm:24388kB, anon-rss:1024kB, file-rss:512kB, shmem-rss:0kB, UID:7 pgtables:76kB oom_score_adj:500
4,3,4,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/b/cofferdam-1f/1,task_memcg=/b/cofferdam-1f/1,task=a) (b,pid=4200,uid=7
3,4,5,-;Memory cgroup out of memory: Killed process 4199 (other) total-vm:1kB, anon-rss:9999kB, file-rss:0kB, shmem-rss:0kB, UID:7
3,5,6,-;Memory cgroup out of memory: Killed process 4200 (a) (b) total-vm:1kB, anon-rss:8kB, file-rss:0kB, shmem-rss:4kB, UID:7
";

    #[test]
    fn the_kernels_account_is_read() {
        let check = |group: &str, expected: Option<(&str, i32, u64)>| {
            let found = parse(LOG, Path::new(group));
            let expected = expected.map(|(name, outer_pid, bytes)| Resident {
                name: name.to_owned(),
                pid: None,
                outer_pid,
                bytes,
            });
            assert_eq!(found, expected, "{group}");
        };
        check("/sys/fs/cgroup/memory/b/cofferdam-1f/0", Some(("tail", 4122, 1536 << 10)));
        check("/sys/fs/cgroup/b/cofferdam-1f/1", Some(("a) (b", 4200, 12 << 10)));
        check("/sys/fs/cgroup/b/cofferdam-1f/2", None);
        check("/sys/fs/cgroup/b/cofferdam-1f", None);
        assert_eq!(parse("oom-kill:constraint=CONSTRAINT_MEMCG,pid=1\n", Path::new("/a")), None);
    }
}
