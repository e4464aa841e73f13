//! The process of a group that has most memory, as far as it can be seen from outside.

use std::{fs::File, io::Read as _};

use super::group::Group;

/// Processes that are looked at: more than the default limit, and few enough for a moment.
const LOOKED_AT: usize = 2048;
/// Longer than any `/proc/PID/status` (proc_pid_status(5)) but for its list of groups.
const STATUS_MAX: u64 = 8192;

/// A process and its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// The name of its program, as far as the kernel keeps it; a job chooses it.
    pub name: String,
    /// Its id in the container, where that is known.
    pub pid: Option<i32>,
    /// Its id where this process runs.
    pub outer_pid: i32,
    /// Bytes of memory that are its own or shared with others of the job.
    pub bytes: u64,
}

impl Group {
    /// The process with most memory at this moment; `None` when there is none any more.
    pub fn largest_process(&self) -> Option<Resident> {
        let processes = self.processes().ok()?;
        let looked_at = processes.into_iter().take(LOOKED_AT);
        looked_at.filter_map(resident).max_by_key(|process| process.bytes)
    }
}

impl Resident {
    /// With its id in the container, where the process is still to be seen, if only as a zombie.
    pub(crate) fn located(mut self) -> Self {
        if self.pid.is_none()
            && let Some(status) = status(self.outer_pid)
            && field(&status, "Name").map(printable).as_ref() == Some(&self.name)
        {
            self.pid = inner_pid(&status);
        }
        self
    }
}

/// One that has ended meanwhile is none.
fn resident(pid: i32) -> Option<Resident> {
    parse(pid, &status(pid)?)
}

/// A job chooses the names of its processes, and they come to a terminal.
pub(crate) fn printable(name: &str) -> String {
    name.chars().map(|each| if each.is_control() { '\u{fffd}' } else { each }).collect()
}

fn status(pid: i32) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/status")).ok()?;
    file.take(STATUS_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn field<'text>(status: &'text str, name: &str) -> Option<&'text str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

/// The last of the ids, which go from the outermost namespace to the innermost.
fn inner_pid(status: &str) -> Option<i32> {
    field(status, "NSpid")?.split_whitespace().last()?.parse().ok()
}

fn parse(outer_pid: i32, status: &str) -> Option<Resident> {
    let kib: u64 = field(status, "VmRSS")?.split_whitespace().next()?.parse().ok()?;
    let name = printable(field(status, "Name")?);
    Some(Resident { name, pid: inner_pid(status), outer_pid, bytes: kib * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_as_the_kernel_writes_it() {
        let status = "Name:\ttail\nUmask:\t0022\nState:\tR (running)\nNSpid:\t4122\t7\n\
                      VmRSS:\t   31744 kB\n";
        let expected =
            Resident { name: "tail".to_owned(), pid: Some(7), outer_pid: 4122, bytes: 31 << 20 };
        assert_eq!(parse(4122, status), Some(expected));
        // One that is dead already has no memory.
        assert_eq!(parse(1, "Name:\ttail\nState:\tZ (zombie)\n"), None);
        assert_eq!(parse(1, ""), None);
        assert_eq!(printable("a\u{1b}[2J"), "a\u{fffd}[2J");
    }
}
