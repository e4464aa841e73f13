//! What this host can run: a test that it cannot is named on standard error, never passed in silence.
//!
//! With `COFFERDAM_TESTS_REQUIRE=1` such a test fails instead, for hosts that must run all of them.

use std::{ffi::OsString, io::Write as _, path::Path};

/// Something that a test needs and a host may lack.
#[derive(Clone, Debug)]
pub(crate) enum Need {
    /// Containers at all: root, or user namespaces for everyone.
    Containers,
    /// Being root on the host.
    Root,
    /// Root that sets how early the kernel ends whom when memory runs out (CAP_SYS_RESOURCE).
    Victims,
    /// Not being root on the host.
    User,
    /// Files of more owners than one: root, or a user with subordinate ids.
    Ids,
    /// A user without subordinate ids.
    SingleId,
    /// Power over networks of the test's own: root, or a user in a user namespace of their own, as
    /// `unshare --user --map-current-user --net --mount --keep-caps` makes one.
    Networks,
    /// Where it is not root: a program that carries packets for a user.
    Carrier,
    /// That the host lacks a program.
    Without(&'static str),
    /// Files of containers on disk: loop devices and the program that makes an ext4.
    Disk,
    /// A kernel with project quotas, and what makes a file system that has them.
    ProjectQuotas,
    /// A disk under the directory in which the tests keep their files.
    DiskBehind,
    /// A program of the host.
    Program(&'static str),
    /// systemd as the host's service manager, on the unified control group hierarchy.
    ServiceManager,
    /// A login session of an unprivileged user, with a service manager of the user's own.
    LoginSession,
    /// Modules of the host's Python.
    PythonModules(&'static str),
    /// A program of the host in a place that its image shows.
    ProgramInside(String),
    /// A static busybox, here or in a package that can be fetched.
    Busybox,
    /// Leave to fetch packages from Debian's mirror, given by `COFFERDAM_TESTS_FETCH=1`.
    Fetch,
}

impl Need {
    /// Whether this host has it, for a test that can do without.
    pub(crate) fn is_met(&self) -> bool {
        self.missing().is_none()
    }

    fn missing(&self) -> Option<String> {
        match self {
            Self::Containers if !is_root() && !user_namespaces() => {
                Some("neither root nor user namespaces for everyone".to_owned())
            }
            Self::Victims if !is_root() || !has_capabilities(1 << 24) => {
                Some("not root with CAP_SYS_RESOURCE".to_owned())
            }
            Self::Networks if !has_capabilities(1 << 12 | 1 << 21) => {
                Some("no power over networks of its own".to_owned())
            }
            Self::Without(name) if which(name).is_some() => {
                Some(format!("the program `{name}` is on this host"))
            }
            Self::Carrier
                if !is_root() && ["pasta", "slirp4netns"].iter().all(|it| which(it).is_none()) =>
            {
                Some("neither `pasta` nor `slirp4netns` on this host".to_owned())
            }
            Self::User if is_root() => Some("root".to_owned()),
            Self::Root if !is_root() => Some("not root".to_owned()),
            Self::Ids if !has_ids() => Some("a single id".to_owned()),
            Self::SingleId if has_ids() => Some("more ids than one".to_owned()),
            Self::Disk if !is_root() => Some("not root".to_owned()),
            Self::Disk if !Path::new("/dev/loop-control").exists() => {
                Some("no loop devices".to_owned())
            }
            Self::Disk
                if !["/usr/sbin", "/sbin"]
                    .iter()
                    .any(|it| Path::new(it).join("mke2fs").exists()) =>
            {
                Some("no program `mke2fs` on this host".to_owned())
            }
            Self::ProjectQuotas if Self::Disk.missing().is_some() => Self::Disk.missing(),
            Self::ProjectQuotas if crate::quota::Disk::with_quotas().is_none() => {
                Some("no project quotas in this kernel".to_owned())
            }
            Self::DiskBehind if is_in_memory(&crate::binary::scratch()) => {
                Some("the tests' files are in memory".to_owned())
            }
            Self::Program(name) if which(name).is_none() => {
                Some(format!("no program `{name}` on this host"))
            }
            Self::PythonModules(names) if !has_modules(names) => {
                Some(format!("no Python with `{names}`"))
            }
            Self::ProgramInside(name)
                if !["/usr/bin", "/bin"].iter().any(|it| Path::new(it).join(name).is_file()) =>
            {
                Some(format!("no program `/usr/bin/{name}` on this host"))
            }
            Self::ServiceManager if !is_managed() => {
                Some("no systemd with the unified hierarchy".to_owned())
            }
            Self::LoginSession if is_root() || !is_managed() || !in_session() => {
                Some("not in a login session of an unprivileged user under systemd".to_owned())
            }
            Self::Busybox => crate::images::busybox().err(),
            Self::Fetch if std::env::var_os("COFFERDAM_TESTS_FETCH").is_none() => {
                Some("it fetches packages, which COFFERDAM_TESTS_FETCH=1 allows".to_owned())
            }
            _ => None,
        }
    }
}

/// The first need that this host does not meet, said on standard error under the test's name.
pub(crate) fn lacks(test: &str, needs: &[Need]) -> bool {
    let Some(reason) = needs.iter().find_map(|need| need.missing()) else {
        return false;
    };
    not_run(test, &reason);
    true
}

/// Says why a test, or a part of it, cannot run here; a failure where all of them must.
pub(crate) fn not_run(test: &str, reason: &str) {
    assert!(
        std::env::var_os("COFFERDAM_TESTS_REQUIRE").is_none(),
        "`{test}` cannot run on this host: {reason}"
    );
    // Written past the test harness's capture, which would swallow it for a test that passes.
    writeln!(std::io::stderr(), "NOT RUN on this host: {test}: {reason}").expect("write to stderr");
}

/// The name of the test that this stands in.
macro_rules! test {
    () => {{
        fn here() {}
        std::any::type_name_of_val(&here).trim_end_matches("::here")
    }};
}
pub(crate) use test;

/// Ends the test, by name and with the reason, where the host lacks something that it needs.
macro_rules! needs {
    ($($need:expr),+ $(,)?) => {
        if $crate::host::lacks($crate::host::test!(), &[$($need),+]) {
            return;
        }
    };
}
pub(crate) use needs;

/// Whether the kernel is one on which containers stand without root.
pub(crate) fn is_recent() -> bool {
    kernel() >= (6, 6)
}

/// The first two numbers of the kernel's version.
pub(crate) fn kernel() -> (u32, u32) {
    let release = nix::sys::utsname::uname().expect("uname").release().to_owned();
    let release = release.to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn is_in_memory(directory: &Path) -> bool {
    std::fs::create_dir_all(directory).expect("the tests' directory");
    let found = nix::sys::statfs::statfs(directory).expect("statfs");
    found.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn is_managed() -> bool {
    let there = |path: &str| Path::new(path).exists();
    there("/run/systemd/system") && there("/sys/fs/cgroup/cgroup.controllers")
}

fn in_session() -> bool {
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    group.trim_end().ends_with(".scope") && group.contains("/session-")
}

/// Whether files can have more owners than one.
pub(crate) fn has_ids() -> bool {
    let subordinate =
        || std::fs::read_to_string("/etc/subuid").is_ok_and(|text| !text.trim().is_empty());
    is_root() || subordinate()
}

fn has_modules(names: &str) -> bool {
    let mut python = crate::binary::program("python3");
    python.args(["-c", &format!("import {names}")]);
    python.output().is_ok_and(|output| output.status.success())
}

/// Whether the capabilities of this set are effective (capabilities(7)): CAP_NET_ADMIN is 12,
/// CAP_SYS_ADMIN 21.
fn has_capabilities(wanted: u64) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    let effective = u64::from_str_radix(line.trim(), 16).expect("a number");
    effective & wanted == wanted
}

fn user_namespaces() -> bool {
    crate::binary::program("unshare")
        .args(["--user", "true"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Where a program of the host is.
pub(crate) fn which(name: &str) -> Option<OsString> {
    let path =
        std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin:/usr/sbin"));
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| Path::is_file(candidate))
        .map(OsString::from)
}
