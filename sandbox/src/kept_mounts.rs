//! Mounts that are kept for containers to come, where the kernel lets them be copied.
//!
//! Before Linux 6.15 `open_tree(2)` copies what is mounted in the caller's mount namespace, and
//! nothing that is attached nowhere. So what is kept is attached, in a mount namespace in which no
//! process is: it holds nothing of the host, no path of the host leads there, and it goes with the
//! last descriptor, however the runner ends.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

use crate::{
    error::{Doing as _, Error, Result},
    own_root,
    sys::mount::{Tree, move_mount_at, open_tree},
};

/// Those of a sandbox, whose namespace is made when it is first needed and goes with this.
#[derive(Debug, Default)]
pub(crate) struct KeptMounts(Mutex<Option<Arc<Namespace>>>);

/// A mount namespace without processes.
#[derive(Debug)]
struct Namespace {
    itself: OwnedFd,
    /// A tmpfs with a directory for each mount.
    root: Arc<OwnedFd>,
    /// Names the directories.
    count: AtomicU64,
}

/// A mount that is attached for as long as this is held and its namespace is there; copies of it are
/// not affected.
#[derive(Debug)]
pub(crate) struct KeptMount {
    namespace: Weak<Namespace>,
    root: Arc<OwnedFd>,
    directory: String,
}

impl KeptMounts {
    /// Attaches the detached `mount`, whose descriptor means the same mount afterwards; returns a
    /// detached copy as well.
    pub(crate) fn keep(&self, mount: impl AsFd) -> Result<(KeptMount, OwnedFd)> {
        let doing = || "keep a file system for later containers";
        let namespace = self.namespace()?;
        let directory = namespace.count.fetch_add(1, Ordering::Relaxed).to_string();
        let path = CString::new(directory.as_str()).system(doing)?;
        let root = Arc::clone(&namespace.root);
        mkdirat(&root, path.as_c_str(), Mode::S_IRWXU).system(doing)?;
        // From here on the directory is removed with it.
        let kept = KeptMount { namespace: Arc::downgrade(&namespace), root, directory };
        let mount = mount.as_fd();
        let copy = namespace.inside(|| {
            move_mount_at(mount, c"", &namespace.root, &path)?;
            open_tree(mount, c"", Tree::Copy)
        });
        Ok((kept, copy.system(doing)?))
    }

    /// Makes it, unless it is there.
    fn namespace(&self) -> Result<Arc<Namespace>> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = &*made {
            return Ok(Arc::clone(namespace));
        }
        let namespace = Arc::new(Namespace::make()?);
        *made = Some(Arc::clone(&namespace));
        Ok(namespace)
    }
}

impl KeptMount {
    /// A detached copy of what is at `path` below the mount.
    pub(crate) fn copy(&self, path: &str) -> io::Result<OwnedFd> {
        let path = CString::new(format!("{}/{path}", self.directory))?;
        let gone = || io::Error::other("it went with its sandbox");
        let namespace = self.namespace.upgrade().ok_or_else(gone)?;
        namespace.inside(|| open_tree(&self.root, &path, Tree::Copy))
    }
}

impl Drop for KeptMount {
    /// Removing a directory unmounts what other namespaces have mounted on it (`mount_namespaces(7)`).
    fn drop(&mut self) {
        let removed = unlinkat(&self.root, self.directory.as_str(), UnlinkatFlags::RemoveDir);
        if let Err(error) = removed {
            tracing::warn!(%error, "what a container has written is kept until the run ends");
        }
    }
}

impl Namespace {
    fn make() -> Result<Self> {
        let doing = || "make a mount namespace for what is kept of containers";
        let make = move || -> Result<Self> {
            // A thread can have one for itself, and lets go of it when it ends.
            let own_root::Made { namespace, root } = own_root::make(c"700")?;
            Ok(Self { itself: namespace, root: Arc::new(root), count: AtomicU64::new(0) })
        };
        let thread = thread::Builder::new().spawn(make).system(doing)?;
        thread.join().map_err(|_| Error::system(doing(), "a bug"))?
    }

    /// Has `work` done by a thread that is in the namespace.
    fn inside<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let enter = || {
            // Threads that share their root and current directory cannot go apart.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.itself, CloneFlags::CLONE_NEWNS)?;
            work()
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, enter)?;
            thread.join().map_err(|_| io::Error::other("a bug"))?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc};

    use nix::{
        dir::Dir,
        fcntl::{OFlag, openat},
        unistd::{geteuid, gettid},
    };

    use super::*;
    use crate::{
        sys::mount::{Attributes, Configuration},
        tests::not_run,
    };

    fn tmpfs() -> OwnedFd {
        Configuration::open(c"tmpfs").unwrap().mount(Attributes::default()).unwrap()
    }

    fn names(mount: &OwnedFd) -> Vec<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = Dir::openat(mount, ".", flags, Mode::empty()).unwrap();
        let names = directory
            .into_iter()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }

    fn make_file(mount: &OwnedFd, name: &str) {
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(mount, name, flags, Mode::S_IRUSR).unwrap();
    }

    fn mounts_of_this_host() -> String {
        fs::read_to_string("/proc/self/mountinfo").unwrap()
    }

    #[test]
    fn what_is_kept_is_copied_and_goes() {
        if !geteuid().is_root() {
            return not_run("what_is_kept_is_copied_and_goes", "it takes root");
        }
        let before = mounts_of_this_host();
        let kept_mounts = KeptMounts::default();
        let (first, second) = (tmpfs(), tmpfs());
        let (kept, copy) = kept_mounts.keep(&first).unwrap();
        let (other, _) = kept_mounts.keep(&second).unwrap();
        mkdirat(&copy, "root", Mode::S_IRWXU).unwrap();
        make_file(&kept.copy("root").unwrap(), "written");
        make_file(&second, "apart");
        assert_eq!(mounts_of_this_host(), before, "nothing is attached on the host");

        let parts = [kept.copy("root"), kept.copy("root"), other.copy(".")].map(io::Result::unwrap);
        assert_eq!(parts.each_ref().map(names), [["written"], ["written"], ["apart"]]);
        assert_eq!(names(&first), ["root"], "the descriptor means the same mount");
        let missing = kept.copy("none").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);

        let namespace = kept.namespace.upgrade().unwrap();
        assert_eq!(names(&namespace.root), ["0", "1"]);
        drop(kept);
        assert_eq!(names(&namespace.root), ["1"]);
        let gone = namespace.inside(|| open_tree(&first, c"", Tree::Copy)).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::EINVAL), "it is attached nowhere");
        assert_eq!(names(&parts[0]), ["written"], "a copy stays");
        assert_eq!(names(&other.copy(".").unwrap()), ["apart"]);

        drop((kept_mounts, namespace));
        assert!(other.copy(".").is_err(), "the namespace went before it");
        assert_eq!(names(&second), ["apart"], "a descriptor stays");
    }

    /// Otherwise nobody could unmount anything of the host for as long as a run lasts.
    #[test]
    fn nothing_of_the_host_is_in_the_namespace() {
        if !geteuid().is_root() {
            return not_run("nothing_of_the_host_is_in_the_namespace", "it takes root");
        }
        let namespace = &Namespace::make().unwrap();
        let (begin, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let stay = move || {
            begin.send(gettid()).unwrap();
            ended.recv().unwrap();
            Ok(fs::read_dir("/")?.count())
        };
        thread::scope(|scope| {
            let stays = scope.spawn(|| namespace.inside(stay));
            let table = format!("/proc/self/task/{}/mountinfo", begun.recv().unwrap());
            let table = fs::read_to_string(table);
            end.send(()).unwrap();
            assert_eq!(stays.join().unwrap().unwrap(), 0, "files in its root");
            let table = table.unwrap();
            assert_eq!(table.lines().count(), 1, "{table}");
            assert!(table.contains(" / / ") && table.contains(" tmpfs "), "{table}");
        });
    }
}
