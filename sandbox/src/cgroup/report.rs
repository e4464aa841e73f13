//! What of the limits this host can enforce, and what to do about the rest.

use std::fmt;

use super::{
    controller::{Controller, Home},
    device,
    hierarchy::Hierarchy,
};
use crate::{
    error::{Error, Result},
    sys,
};

/// Something that control groups enforce or provide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes of memory.
    Memory,
    /// No use of swap space.
    Swap,
    /// The number of processes and threads.
    Pids,
    /// Processor time per wall time.
    Cpu,
    /// Which device nodes can be opened.
    Devices,
    /// Bytes per second from block devices.
    IoRead,
    /// Bytes per second to block devices.
    IoWrite,
    /// Which processors are used.
    CpuSet,
    /// Ending all processes at once.
    Kill,
    /// Stopping all processes for a while.
    Freeze,
}

impl Limit {
    /// Every limit, in the order of a report.
    pub const ALL: &[Self] = &[
        Self::Memory,
        Self::Swap,
        Self::Pids,
        Self::Cpu,
        Self::Devices,
        Self::Kill,
        Self::IoRead,
        Self::IoWrite,
        Self::CpuSet,
        Self::Freeze,
    ];

    pub(super) fn controller(self) -> Option<Controller> {
        match self {
            Self::Memory | Self::Swap => Some(Controller::Memory),
            Self::Pids => Some(Controller::Pids),
            Self::Cpu => Some(Controller::Cpu),
            Self::Devices => Some(Controller::Devices),
            Self::IoRead | Self::IoWrite => Some(Controller::Io),
            Self::CpuSet => Some(Controller::CpuSet),
            Self::Kill | Self::Freeze => None,
        }
    }

    /// Whether jobs run without it as long as no one asks for it.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::IoRead | Self::IoWrite | Self::CpuSet | Self::Freeze)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Swap => "swap",
            Self::Pids => "pids",
            Self::Cpu => "cpus",
            Self::Devices => "devices",
            Self::IoRead => "io.read",
            Self::IoWrite => "io.write",
            Self::CpuSet => "cpuset",
            Self::Kill => "kill",
            Self::Freeze => "freeze",
        })
    }
}

/// Whether a limit holds on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// It does, by what is named here.
    Enforced(String),
    /// What it guards against cannot happen here, for this reason.
    Unneeded(String),
    /// It does not.
    Missing {
        /// What is not there.
        reason: String,
        /// What the user can do about it.
        remedy: String,
    },
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The limit.
    pub limit: Limit,
    /// Whether it holds, and how.
    pub enforcement: Enforcement,
}

/// An error with the remedy unless the limit holds.
pub(super) fn require(hierarchy: &Hierarchy, limit: Limit) -> Result<()> {
    match find(hierarchy, limit).enforcement {
        Enforcement::Enforced(_) | Enforcement::Unneeded(_) => Ok(()),
        Enforcement::Missing { reason, remedy } => {
            Err(Error::system(format!("enforce the limit `{limit}`"), reason).remedy(remedy))
        }
    }
}

/// Looks at one limit.
pub(super) fn find(hierarchy: &Hierarchy, limit: Limit) -> Finding {
    let enforcement = match limit {
        Limit::Kill | Limit::Freeze => membership(hierarchy, limit),
        Limit::Devices => devices(hierarchy),
        Limit::Swap => swap(hierarchy),
        _ => by_controller(hierarchy, limit),
    };
    Finding { limit, enforcement }
}

fn by_controller(hierarchy: &Hierarchy, limit: Limit) -> Enforcement {
    let Some(controller) = limit.controller() else {
        return Enforcement::Unneeded("no controller is involved".to_owned());
    };
    match hierarchy.bases.home(controller) {
        Some(Home::V1(_)) if limit == Limit::IoWrite => Enforcement::Missing {
            reason: "the v1 `blkio` controller does not see writes that go through the page cache"
                .to_owned(),
            remedy:
                "boot with `systemd.unified_cgroup_hierarchy=1`, or leave out the limit `io.write`"
                    .to_owned(),
        },
        Some(home) if hierarchy.can_write(home) => Enforcement::Enforced(match home {
            Home::V1(directory) => {
                format!("the v1 `{controller}` controller below `{}`", directory.display())
            }
            Home::V2(directory) => {
                format!("the `{controller}` controller below `{}`", directory.display())
            }
        }),
        Some(Home::V1(directory) | Home::V2(directory)) => Enforcement::Missing {
            reason: format!("groups cannot be made in `{}`", directory.display()),
            remedy: "run as root; on a v1 or hybrid host control groups cannot be delegated to a \
                     user, so for rootless use boot with `systemd.unified_cgroup_hierarchy=1`"
                .to_owned(),
        },
        None if hierarchy.unified.contains(&controller) => Enforcement::Missing {
            reason: format!("the `{controller}` controller is not delegated to this process"),
            remedy: delegation_remedy(controller, hierarchy.bases.v2().is_some()),
        },
        None => Enforcement::Missing {
            reason: format!("no mounted control group hierarchy has the `{controller}` controller"),
            remedy: match controller {
                Controller::Memory => {
                    "boot with `cgroup_enable=memory`, or mount cgroup2 on `/sys/fs/cgroup`"
                        .to_owned()
                }
                _ => format!(
                    "mount cgroup2 on `/sys/fs/cgroup`, or use a kernel with `{controller}` \
                     control groups"
                ),
            },
        },
    }
}

fn delegation_remedy(controller: Controller, has_others: bool) -> String {
    match controller {
        _ if has_others || matches!(controller, Controller::Io | Controller::CpuSet) => format!(
            "have root add `Delegate=cpu cpuset io memory pids` for `user@.service` \
             (`systemctl edit user@.service`) and log in again; systemd does not delegate \
             `{controller}` by itself"
        ),
        _ => {
            "run it as root, or where your service manager answers: log in rather than `su`, have \
              root `loginctl enable-linger` you, install `dbus-user-session`"
                .to_owned()
        }
    }
}

fn swap(hierarchy: &Hierarchy) -> Enforcement {
    if !hierarchy.swaps {
        return Enforcement::Unneeded("this host uses no swap space".to_owned());
    }
    // Whether the kernel accounts swap shows in a group that has the controller; the groups
    // directly below the base of v1 have the same files as the base itself.
    let missing = match hierarchy.bases.home(Controller::Memory) {
        Some(Home::V1(directory)) => !directory.join("memory.memsw.limit_in_bytes").exists(),
        _ => false,
    };
    if missing {
        return Enforcement::Missing {
            reason: "the kernel does not account swap space to groups".to_owned(),
            remedy: "boot with `swapaccount=1`, or turn swap off with `swapoff -a`".to_owned(),
        };
    }
    by_controller(hierarchy, Limit::Swap)
}

fn devices(hierarchy: &Hierarchy) -> Enforcement {
    let by_v1 = hierarchy.bases.v1(Controller::Devices).is_some();
    if by_v1 && hierarchy.privileged {
        return by_controller(hierarchy, Limit::Devices);
    }
    if !hierarchy.privileged {
        return Enforcement::Unneeded(
            "without root no device node can be made, and those of the host keep their modes"
                .to_owned(),
        );
    }
    match sys::bpf::load_device_program(&device::program()) {
        Ok(_) => Enforcement::Enforced("a BPF program on each container's group".to_owned()),
        Err(error) => Enforcement::Missing {
            reason: format!("the kernel does not take a BPF program for devices: {error}"),
            remedy: device::BPF_REMEDY.to_owned(),
        },
    }
}

fn membership(hierarchy: &Hierarchy, limit: Limit) -> Enforcement {
    match (hierarchy.bases.v2(), limit) {
        (Some(directory), Limit::Kill) if directory.join("cgroup.kill").exists() => {
            Enforcement::Enforced(format!("`cgroup.kill` below `{}`", directory.display()))
        }
        (Some(directory), Limit::Freeze) => {
            Enforcement::Enforced(format!("`cgroup.freeze` below `{}`", directory.display()))
        }
        (_, Limit::Freeze) => Enforcement::Missing {
            reason: "cgroup2 is not mounted where this process can make groups".to_owned(),
            remedy: "mount cgroup2 on `/sys/fs/cgroup/unified`".to_owned(),
        },
        _ => match by_controller(hierarchy, Limit::Pids) {
            Enforcement::Enforced(by) => Enforcement::Enforced(format!(
                "forbidding new processes and then signalling each, by {by}"
            )),
            other => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::controller::{Controllers, Directories},
        *,
    };

    const NOWHERE: &str = "/nowhere/cofferdam";

    fn set(names: &str) -> Controllers {
        names.split_whitespace().filter_map(Controller::parse).collect()
    }

    fn check(hierarchy: &Hierarchy, limit: Limit, expected: &str) {
        let text = match find(hierarchy, limit).enforcement {
            Enforcement::Enforced(by) => format!("by {by}"),
            Enforcement::Unneeded(why) => format!("unneeded: {why}"),
            Enforcement::Missing { reason, remedy } => format!("{reason}: {remedy}"),
        };
        assert_eq!(text, expected, "{limit}");
        let refused = require(hierarchy, limit).is_err();
        assert_eq!(refused, !expected.starts_with("by ") && !expected.starts_with("unneeded"));
    }

    #[test]
    fn no_hierarchy_at_all() {
        let hierarchy = Hierarchy::imagined(Directories::default(), "", true, true);
        check(
            &hierarchy,
            Limit::Memory,
            "no mounted control group hierarchy has the `memory` controller: boot with \
             `cgroup_enable=memory`, or mount cgroup2 on `/sys/fs/cgroup`",
        );
        let pids = "no mounted control group hierarchy has the `pids` controller: mount cgroup2 \
                    on `/sys/fs/cgroup`, or use a kernel with `pids` control groups";
        check(&hierarchy, Limit::Pids, pids);
        check(&hierarchy, Limit::Kill, pids);
        check(
            &hierarchy,
            Limit::Freeze,
            "cgroup2 is not mounted where this process can make groups: mount cgroup2 on \
             `/sys/fs/cgroup/unified`",
        );
    }

    #[test]
    fn a_user_without_delegation() {
        let all = "cpu cpuset io memory pids";
        let hierarchy = Hierarchy::imagined(Directories::default(), all, false, false);
        check(
            &hierarchy,
            Limit::Memory,
            "the `memory` controller is not delegated to this process: run it as root, or where \
             your service manager answers: log in rather than `su`, have root `loginctl \
             enable-linger` you, install `dbus-user-session`",
        );
        check(
            &hierarchy,
            Limit::IoRead,
            "the `io` controller is not delegated to this process: have root add `Delegate=cpu \
             cpuset io memory pids` for `user@.service` (`systemctl edit user@.service`) and log \
             in again; systemd does not delegate `io` by itself",
        );
        check(&hierarchy, Limit::Swap, "unneeded: this host uses no swap space");
        check(
            &hierarchy,
            Limit::Devices,
            "unneeded: without root no device node can be made, and those of the host keep their \
             modes",
        );
    }

    #[test]
    fn a_delegated_user() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().to_owned();
        std::fs::write(base.join("cgroup.kill"), "").unwrap();
        let path = base.display().to_string();
        let bases = Directories { v1: Vec::new(), v2: Some((set("cpu memory pids"), base)) };
        let hierarchy = Hierarchy::imagined(bases, "cpu io memory pids", true, false);
        let by = |name| format!("by the `{name}` controller below `{path}`");
        check(&hierarchy, Limit::Memory, &by("memory"));
        check(&hierarchy, Limit::Swap, &by("memory"));
        check(&hierarchy, Limit::Cpu, &by("cpu"));
        check(&hierarchy, Limit::Kill, &format!("by `cgroup.kill` below `{path}`"));
        assert!(require(&hierarchy, Limit::IoWrite).is_err());
        assert!(require(&hierarchy, Limit::CpuSet).is_err());
    }

    #[test]
    fn v1_for_root_and_for_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        let tree = |names, path: &str| (set(names), path.into());
        let bases = Directories {
            v1: vec![
                tree("cpu cpuacct", &path),
                tree("memory", &path),
                tree("blkio", &path),
                tree("devices", NOWHERE),
                tree("pids", &path),
            ],
            v2: None,
        };
        let hierarchy = Hierarchy::imagined(bases, "", true, true);
        check(&hierarchy, Limit::Cpu, &format!("by the v1 `cpu` controller below `{path}`"));
        check(
            &hierarchy,
            Limit::Kill,
            &format!(
                "by forbidding new processes and then signalling each, by the v1 `pids` \
                 controller below `{path}`"
            ),
        );
        check(
            &hierarchy,
            Limit::Swap,
            "the kernel does not account swap space to groups: boot with `swapaccount=1`, or \
             turn swap off with `swapoff -a`",
        );
        check(&hierarchy, Limit::IoRead, &format!("by the v1 `io` controller below `{path}`"));
        check(
            &hierarchy,
            Limit::IoWrite,
            "the v1 `blkio` controller does not see writes that go through the page cache: boot \
             with `systemd.unified_cgroup_hierarchy=1`, or leave out the limit `io.write`",
        );
        check(
            &hierarchy,
            Limit::Devices,
            "groups cannot be made in `/nowhere/cofferdam`: run as root; on a v1 or hybrid host \
             control groups cannot be delegated to a user, so for rootless use boot with \
             `systemd.unified_cgroup_hierarchy=1`",
        );
    }
}
