//! What a group has used, from the files of whichever hierarchy counts it.

use std::path::Path;

use super::{
    controller::{Controller, Directories, Home},
    file,
};
use crate::error::Result;

/// What a container or a step has used since its group was made. A value is missing where this
/// kernel does not count it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode, in microseconds.
    pub cpu_user_us: Option<u64>,
    /// Processor time in the kernel, in microseconds.
    pub cpu_system_us: Option<u64>,
    /// How long processes that could have run were held back by the quota, in microseconds, summed
    /// over processors. Known for containers, not for their steps.
    pub throttled_us: Option<u64>,
    /// Bytes of memory now.
    pub memory_current: Option<u64>,
    /// Most bytes of memory at any time.
    pub memory_peak: Option<u64>,
    /// Processes that the kernel killed because memory ran out. On v1 those of steps whose group
    /// was removed already do not count.
    pub oom_kills: u64,
    /// Most processes and threads at any time.
    pub pids_peak: Option<u64>,
    /// How often a process or thread was refused because of the limit.
    pub pids_refused: u64,
    /// Bytes read from block devices.
    pub io_read: Option<u64>,
    /// Bytes written to block devices.
    pub io_written: Option<u64>,
}

/// Reads everything about one group.
pub(super) fn read(directories: &Directories) -> Result<Usage> {
    let mut usage = Usage::default();
    read_cpu(directories, &mut usage)?;
    read_memory(directories, &mut usage)?;
    read_pids(directories, &mut usage)?;
    read_io(directories, &mut usage)?;
    Ok(usage)
}

fn read_cpu(directories: &Directories, usage: &mut Usage) -> Result<()> {
    if let Some(directory) = directories.v1(Controller::CpuAcct) {
        let micros = |file: &str| Ok(number(directory, file)?.map(|nanos| nanos / 1000));
        usage.cpu_user_us = micros("cpuacct.usage_user")?;
        usage.cpu_system_us = micros("cpuacct.usage_sys")?;
    } else if let Some(directory) = directories.v2() {
        let text = file::read_optional(&directory.join("cpu.stat"))?.unwrap_or_default();
        usage.cpu_user_us = value(&text, "user_usec");
        usage.cpu_system_us = value(&text, "system_usec");
    }
    match directories.home(Controller::Cpu) {
        Some(Home::V1(directory)) => {
            let text = file::read_optional(&directory.join("cpu.stat"))?.unwrap_or_default();
            usage.throttled_us = value(&text, "throttled_time").map(|nanos| nanos / 1000);
        }
        Some(Home::V2(directory)) => {
            let text = file::read_optional(&directory.join("cpu.stat"))?.unwrap_or_default();
            usage.throttled_us = value(&text, "throttled_usec");
        }
        None => {}
    }
    Ok(())
}

fn read_memory(directories: &Directories, usage: &mut Usage) -> Result<()> {
    match directories.home(Controller::Memory) {
        Some(Home::V1(directory)) => {
            usage.memory_current = number(directory, "memory.usage_in_bytes")?;
            usage.memory_peak = number(directory, "memory.max_usage_in_bytes")?;
        }
        Some(Home::V2(directory)) => {
            usage.memory_current = number(directory, "memory.current")?;
            usage.memory_peak = number(directory, "memory.peak")?;
        }
        None => {}
    }
    usage.oom_kills = oom_kills(directories)?;
    Ok(())
}

/// How many processes were killed because memory ran out.
pub(super) fn oom_kills(directories: &Directories) -> Result<u64> {
    let kills = |text: &str| value(text, "oom_kill");
    match directories.home(Controller::Memory) {
        // Counted in the group of the process only, not in those above.
        Some(Home::V1(directory)) => sum_below(directory, "memory.oom_control", kills),
        Some(Home::V2(directory)) => {
            let text = file::read_optional(&directory.join("memory.events"))?;
            Ok(text.and_then(|text| kills(&text)).unwrap_or(0))
        }
        None => Ok(0),
    }
}

fn read_pids(directories: &Directories, usage: &mut Usage) -> Result<()> {
    if let Some(Home::V1(directory) | Home::V2(directory)) = directories.home(Controller::Pids) {
        usage.pids_peak = number(directory, "pids.peak")?;
        let refused = |text: &str| value(text, "max");
        let text = file::read_optional(&directory.join("pids.events"))?.unwrap_or_default();
        // Counted in the group of the process on v1 and before Linux 6.11, later in the group
        // whose limit it was: the greater of the two says it in both cases.
        let below = sum_below(directory, "pids.events", refused)?;
        usage.pids_refused = refused(&text).unwrap_or(0).max(below);
    }
    Ok(())
}

fn read_io(directories: &Directories, usage: &mut Usage) -> Result<()> {
    let (read, written) = match directories.home(Controller::Io) {
        Some(Home::V1(directory)) => {
            let path = directory.join("blkio.throttle.io_service_bytes_recursive");
            let Some(text) = file::read_optional(&path)? else { return Ok(()) };
            (sum_column(&text, "Read"), sum_column(&text, "Write"))
        }
        Some(Home::V2(directory)) => {
            let Some(text) = file::read_optional(&directory.join("io.stat"))? else {
                return Ok(());
            };
            (sum_keys(&text, "rbytes="), sum_keys(&text, "wbytes="))
        }
        None => return Ok(()),
    };
    usage.io_read = Some(read);
    usage.io_written = Some(written);
    Ok(())
}

fn number(directory: &Path, name: &str) -> Result<Option<u64>> {
    let text = file::read_optional(&directory.join(name))?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

/// Sums a number over a group and the groups below it, down to the steps.
fn sum_below(
    directory: &Path,
    name: &str,
    find: impl Fn(&str) -> Option<u64> + Copy,
) -> Result<u64> {
    let text = file::read_optional(&directory.join(name))?.unwrap_or_default();
    let mut sum = find(&text).unwrap_or(0);
    for child in file::children(directory).unwrap_or_default() {
        let text = file::read_optional(&child.join(name))?.unwrap_or_default();
        sum += find(&text).unwrap_or(0);
    }
    Ok(sum)
}

/// The number after `key` in lines of the form `key number`.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, number) = line.split_once(' ')?;
        (name == key).then(|| number.trim().parse().ok())?
    })
}

/// Sums lines of the form `major:minor kind number`.
fn sum_column(text: &str, kind: &str) -> u64 {
    let line = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == kind).then(|| words.next()?.parse::<u64>().ok())?
    };
    text.lines().filter_map(line).sum()
}

/// Sums what follows `key` in lines of the form `major:minor key=number key=number`.
fn sum_keys(text: &str, key: &str) -> u64 {
    let words = text.split_whitespace();
    words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_key() {
        let text = "usage_usec 42\nuser_usec 30\nsystem_usec 12\nnr_throttled 0\nodd\nbad x\n";
        let check = |key, expected| assert_eq!(value(text, key), expected, "{key}");
        check("user_usec", Some(30));
        check("system_usec", Some(12));
        check("user", None);
        check("odd", None);
        check("bad", None);
        check("", None);
    }

    #[test]
    fn block_devices_are_summed() {
        let v1 = "8:0 Read 4096\n8:0 Write 10\n8:0 Total 4106\n8:16 Read 1\nTotal 4107\n";
        assert_eq!((sum_column(v1, "Read"), sum_column(v1, "Write")), (4097, 10));
        assert_eq!(sum_column("Total 0\n", "Read"), 0);
        let v2 =
            "8:0 rbytes=5 wbytes=6 rios=1 wios=1 dbytes=0 dios=0\n259:0 rbytes=7 wbytes=x\n8:1\n";
        assert_eq!((sum_keys(v2, "rbytes="), sum_keys(v2, "wbytes=")), (12, 6));
    }
}
