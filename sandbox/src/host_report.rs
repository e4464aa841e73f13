//! What this host can enforce and what it cannot, item by item with the remedy.
//!
//! Looks, and changes nothing; that everything works together is shown by a container that is put
//! up, which is the caller's to do.

use std::{fs, path::Path};

use nix::{
    sys::{
        resource::{Resource, getrlimit},
        utsname::uname,
    },
    unistd::{Pid, User},
};

use crate::{
    Limits,
    cgroup::{Enforcement, Hierarchy},
    ids::{self, IdMap, caller, is_root, subordinate},
    network::availability::{self, Unavailable},
    scratch::{Availability, is_at_least},
    supervisor,
};

/// The oldest kernel on which containers stand: an overlay takes id-mapped layers since then.
const OLDEST_KERNEL: (u32, u32) = (5, 19);

/// How an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is as it should be.
    Good,
    /// Jobs run without it; what asks for it is refused.
    Limited,
    /// No job can run with hard limits.
    Missing,
}

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// What was found.
    pub detail: String,
    /// What the user can do about it.
    pub remedy: Option<String>,
}

impl Item {
    fn good(name: &str, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            standing: Standing::Good,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn bad(name: &str, standing: Standing, detail: impl Into<String>, remedy: &str) -> Self {
        let detail = detail.into();
        Self { name: name.to_owned(), standing, detail, remedy: Some(remedy.to_owned()) }
    }
}

/// Looks at everything that containers need of this host; `state` is the state directory, which
/// need not exist.
pub fn examine(state: &Path) -> Vec<Item> {
    let mut items = vec![kernel(), privileges()];
    items.extend(subordinate_ids());
    items.extend([user_namespaces(), open_files()]);
    items.extend(limits());
    items.push(scratch(&Availability::of_host(state)));
    items.push(networks(availability::of_host()));
    let memory = Hierarchy::detect(&[Pid::this()]).and_then(|it| it.protected_memory());
    items.push(supervisor(supervisor::can_be_a_late_victim(), memory.unwrap_or(0)));
    items
}

/// What of Cofferdam itself is protected when the whole host is short of memory. Its jobs have limits
/// either way, so this forbids none.
fn supervisor(late_victim: bool, memory: u64) -> Item {
    const NAME: &str = "supervisor";
    let mut has = Vec::new();
    if late_victim {
        has.push(format!(
            "killed late when the host runs out of memory (`oom_score_adj` {})",
            supervisor::OOM_SCORE_ADJUSTMENT
        ));
    }
    if memory > 0 {
        let kept =
            if memory == u64::MAX { "all".to_owned() } else { format!("{} MiB", memory >> 20) };
        has.push(format!("{kept} of its memory kept when that is short (`memory.min`)"));
    }
    if has.is_empty() {
        let detail = "killed as early as any other process when the host runs out of memory";
        let remedy = "be root with CAP_SYS_RESOURCE, or start it in a unit with `Delegate=yes` and \
                      `MemoryMin=64M`, the latter in its slices too";
        return Item::bad(NAME, Standing::Limited, detail, remedy);
    }
    Item::good(NAME, has.join("; "))
}

fn networks(found: Result<String, Unavailable>) -> Item {
    let name = "networks";
    match found {
        Ok(how) => Item::good(name, how),
        Err(Unavailable { why, remedy }) => {
            let detail = format!("jobs have loopback only: {why}");
            Item::bad(name, Standing::Limited, detail, remedy)
        }
    }
}

fn kernel() -> Item {
    let release = uname().map(|it| it.release().to_string_lossy().into_owned()).unwrap_or_default();
    if is_at_least(&release, OLDEST_KERNEL) {
        Item::good("kernel", release)
    } else {
        let (major, minor) = OLDEST_KERNEL;
        let detail = format!("{release} is older than {major}.{minor}");
        Item::bad("kernel", Standing::Missing, detail, "install a newer kernel")
    }
}

fn scratch(host: &Availability) -> Item {
    let name = "limit disk, inodes";
    let remedy = "for files on disk: be root, install e2fsprogs, use a kernel with loop devices and ext4, \
                  and a state directory on a disk";
    let on_disk = match (&host.project, &host.disk) {
        (Ok(()), _) => {
            Ok("a project quota of the state directory's file system for each container")
        }
        (_, Ok(())) => Ok("an ext4 of each container's own on a loop device"),
        (_, Err(why)) => Err(why),
    };
    match (&host.memory, on_disk) {
        (Ok(()), Ok(how)) => Item::good(
            name,
            format!("{how}; in memory where the disk limit is at most twice the memory limit"),
        ),
        (Err(why), Ok(how)) => Item::good(name, format!("{how}; never in memory: {why}")),
        (Ok(()), Err(why)) => Item::bad(
            name,
            Standing::Limited,
            format!("files are kept in memory, and count as the job's: {why}"),
            remedy,
        ),
        (Err(memory), Err(disk)) => {
            Item::bad(name, Standing::Missing, format!("{disk}; {memory}"), remedy)
        }
    }
}

fn privileges() -> Item {
    match (is_root(), ids::in_first_namespace().unwrap_or(false)) {
        (true, true) => Item::good("privileges", "root"),
        (true, false) => Item::bad(
            "privileges",
            Standing::Missing,
            "root of a user namespace, such as a container",
            "run it on the host, or in a virtual machine",
        ),
        (false, _) => Item::good("privileges", format!("rootless, as user {}", caller())),
    }
}

/// What a user's containers have besides root; `None` for root, whose containers have all ids.
fn subordinate_ids() -> Option<Item> {
    const NAME: &str = "subordinate ids";
    let user = caller();
    if user.is_root() {
        return None;
    }
    if let IdMap::Subordinate { users, groups, count, .. } = ids::map() {
        let detail = format!("{count} users from {users} on, {count} groups from {groups} on");
        return Some(Item::good(NAME, detail));
    }
    let alone = "so containers have no user but root";
    let name = User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |it| it.name);
    let missing = |path: &str| subordinate::found(Path::new(path), user.as_raw()).is_none();
    if let Some(path) = ["/etc/subuid", "/etc/subgid"].into_iter().find(|path| missing(path)) {
        let remedy = format!(
            "have root run `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \
             {name}`, with a range that nobody else in these files has"
        );
        let detail = format!("`{path}` gives none to `{name}`, {alone}");
        return Some(Item::bad(NAME, Standing::Limited, detail, &remedy));
    }
    let detail = format!("`newuidmap` or `newgidmap` is not installed, {alone}");
    let remedy = "install Debian's package `uidmap`, or `shadow-utils` elsewhere";
    Some(Item::bad(NAME, Standing::Limited, detail, remedy))
}

/// Switches that distributions add, the value that forbids, and what to do about it.
const FOR_ROOT_ALONE: [(&str, &str, &str); 2] = [
    (
        "kernel.unprivileged_userns_clone",
        "0",
        "set it to 1: `sysctl kernel.unprivileged_userns_clone=1`",
    ),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "have root load an AppArmor profile that lets this binary make user namespaces (`userns,`), \
         or set it to 0 with `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
];

fn user_namespaces() -> Item {
    const NAME: &str = "user namespaces";
    let value = |name: &str| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    if !is_root() {
        for (name, forbids, remedy) in FOR_ROOT_ALONE {
            if value(name).as_deref() == Some(forbids) {
                let detail = format!("forbidden to users by {name} = {forbids}");
                return Item::bad(NAME, Standing::Missing, detail, remedy);
            }
        }
    }
    match value("user.max_user_namespaces").and_then(|text| text.parse::<u64>().ok()) {
        Some(0) => Item::bad(
            NAME,
            Standing::Missing,
            "forbidden by user.max_user_namespaces = 0",
            "set it higher: `sysctl user.max_user_namespaces=10000`",
        ),
        Some(most) => Item::good(NAME, format!("up to {most}")),
        None => Item::bad(
            NAME,
            Standing::Missing,
            "the kernel has none",
            "use a kernel with CONFIG_USER_NS",
        ),
    }
}

fn open_files() -> Item {
    let default = Limits::default().nofile;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard >= default => {
            Item::good("limit nofile", format!("up to {hard} per process"))
        }
        Ok((_, hard)) => Item::bad(
            "limit nofile",
            Standing::Missing,
            format!("the hard limit is {hard}, and jobs get {default}"),
            "raise it with `ulimit -Hn`, or ask for less with `nofile`",
        ),
        Err(error) => Item::bad(
            "limit nofile",
            Standing::Missing,
            error.to_string(),
            "report this: getrlimit(2) cannot fail",
        ),
    }
}

fn limits() -> Vec<Item> {
    let hierarchy = match Hierarchy::detect(&[Pid::this()]) {
        Ok(hierarchy) => hierarchy,
        Err(error) => {
            let detail = error.to_string();
            let remedy = "mount the control groups: `mount -t cgroup2 none /sys/fs/cgroup`";
            return vec![Item::bad("control groups", Standing::Missing, detail, remedy)];
        }
    };
    hierarchy
        .report()
        .into_iter()
        .map(|finding| {
            let name = format!("limit {}", finding.limit);
            match finding.enforcement {
                Enforcement::Enforced(how) => Item::good(&name, how),
                Enforcement::Unneeded(why) => Item::good(&name, format!("not needed: {why}")),
                Enforcement::Missing { reason, remedy } => {
                    let optional = finding.limit.is_optional();
                    let standing = if optional { Standing::Limited } else { Standing::Missing };
                    Item::bad(&name, standing, reason, &remedy)
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_bad_has_a_remedy() {
        let can = [Ok(()), Err("not here".to_owned())];
        let scratches = can.iter().flat_map(|memory| {
            let host = |disk: &Result<(), String>, project: &Result<(), String>| Availability {
                memory: memory.clone(),
                disk: disk.clone(),
                project: project.clone(),
            };
            let [yes, no] = &can;
            [host(yes, no), host(no, no), host(no, yes)]
        });
        let scratches: Vec<_> = scratches.map(|host| scratch(&host)).collect();
        let standings: Vec<_> = scratches.iter().map(|item| item.standing).collect();
        let (good, limited, missing) = (Standing::Good, Standing::Limited, Standing::Missing);
        assert_eq!(standings, [good, limited, good, good, missing, good]);
        let none = Unavailable { why: "no way".to_owned(), remedy: "find one" };
        assert_eq!(networks(Err(none)).standing, limited);
        for (late_victim, memory, expected) in
            [(true, 0, good), (false, 1 << 26, good), (true, u64::MAX, good), (false, 0, limited)]
        {
            assert_eq!(supervisor(late_victim, memory).standing, expected);
        }
        for item in examine(Path::new("/")).into_iter().chain(scratches) {
            assert_eq!(item.standing == Standing::Good, item.remedy.is_none(), "{item:?}");
        }
    }
}
