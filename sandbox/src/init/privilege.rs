//! Gives up what a container may not keep: resource limits, capabilities, new privileges, calls.
//!
//! The order is fixed: resource limits and capabilities need privileges that go away, the filter
//! comes last because it also forbids some of what comes before it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::message::Setup;
use crate::{
    error::{Doing as _, Error, Result},
    seccomp::{self, Arch},
    sys,
};

/// Capabilities that a root job keeps in its own user namespace (numbers of `capabilities(7)`).
///
/// Measured to be what apt, npm, cargo, pip and ordinary installers need: setting owners and
/// groups, changing ids, signalling, low ports, file capabilities.
const KEPT: [(&str, u32); 10] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_SETFCAP", 31),
];

/// [`KEPT`] as a bit mask, as `/proc/self/status` shows it.
pub(super) const KEPT_MASK: u64 = {
    let mut mask = 0;
    let mut index = 0;
    while index < KEPT.len() {
        mask |= 1 << KEPT[index].1;
        index += 1;
    }
    mask
};

/// Soft and hard limits that hold for every process of every container.
const RESOURCE_LIMITS: [(Resource, u64); 5] = [
    (Resource::RLIMIT_CORE, 0),
    (Resource::RLIMIT_RTPRIO, 0),
    (Resource::RLIMIT_NICE, 0),
    // Without root counted for one user for all containers, too (`spawner::owner`), who has 819 200: a
    // container that took all of it would take it from the others and from the host.
    (Resource::RLIMIT_MSGQUEUE, 204_800),
    (Resource::RLIMIT_SIGPENDING, 4096),
];

/// Does all of the above.
pub(super) fn drop_all(setup: &Setup) -> Result<()> {
    for (resource, limit) in RESOURCE_LIMITS {
        limit_to(resource, limit)?;
    }
    limit_to(Resource::RLIMIT_MEMLOCK, 8 * 1024 * 1024)?;
    exact_open_files(setup.nofile)?;
    sys::process::limit_capabilities(KEPT_MASK)
        .and_then(|()| sys::process::set_capabilities(KEPT_MASK))
        .system(|| "drop capabilities")?;
    sys::process::set_no_new_privileges().system(|| "give up new privileges")?;
    seccomp::program(Arch::HOST, setup.foreign_abi)
        .install()
        .system(|| "install the system call filter")
}

/// Lowers a limit; one that is lower already stays.
fn limit_to(resource: Resource, limit: u64) -> Result<()> {
    let (_, hard) =
        getrlimit(resource).system(|| format!("read the resource limit {resource:?}"))?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit).system(|| format!("set the resource limit {resource:?}"))
}

/// Sets the limit of open files to just what was asked for.
fn exact_open_files(limit: u64) -> Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).map_err(|error| {
        let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
        Error::system(format!("set the limit of open files to {limit}"), error)
            .remedy(format!("ask for at most {hard}, or raise the hard limit with `ulimit -Hn`"))
    })
}
