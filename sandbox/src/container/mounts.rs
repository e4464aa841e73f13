//! What of the host a container shows: its layers, its workspace, its binds.
//!
//! Root prepares them as mounts with the container's ids, before the container stands. Everyone
//! else can only name them, for the init to mount with the privileges of its own namespaces.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    ContainerSpec, Layer, State,
    host_mounts::{self, Below},
};
use crate::{
    Limits, WORKSPACE,
    error::{Doing as _, Error, Result},
    ids,
    image::HostMount,
    init::message::{self, Bind, HiddenTree, OwnMounts, OwnTree},
    kept_mounts::{KeptMount, KeptMounts},
    kernel_file, lower, mount_table,
    sandbox::Shared,
    scratch::{Making, Room},
    spawner::Spawned,
    sys::mount::{Attributes, map_ids},
};

/// The trees of a container, and where those that are not layers go.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    trees: Vec<Tree>,
    /// How many of them are lower layers of the root.
    pub(super) layers: usize,
    /// How many of those after them are lower layers of the workspace.
    pub(super) workspace: usize,
    /// The project, and whether the operator shows something of it as well.
    project: Option<(PathBuf, bool)>,
    /// Where the last of the trees go.
    pub(super) binds: Vec<Bind>,
}

#[derive(Debug)]
struct Tree {
    source: Source,
    read_only: bool,
    what: What,
}

/// Where a tree is.
#[derive(Debug)]
enum Source {
    /// A directory or file of the host.
    Path(PathBuf),
    /// What is mounted below the host's programs.
    Below(Below),
    /// An upper directory of a container that has ended.
    State(Arc<State>, &'static str),
}

/// What a tree is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// The lower layer of an overlay.
    Lower,
    /// The host's own programs: readable by all is all that they need to be.
    Programs,
    /// Something that the operator shows.
    Bind,
}

impl Wanted {
    /// Finds them all, and refuses what no container may see.
    pub(super) fn collect(shared: &Shared, spec: &ContainerSpec) -> Result<Self> {
        let mut wanted = Self::default();
        for layer in &spec.image.layers {
            wanted.add(layer.path.clone(), true, What::Lower);
        }
        for layer in &spec.layers {
            match layer {
                Layer::State(state) => wanted.add_state(state, "root"),
                Layer::Tree(path) => wanted.add(path.clone(), true, What::Lower),
            }
        }
        wanted.layers = wanted.trees.len();
        if let Some(workspace) = &spec.workspace {
            let workspace = canonical(workspace, "the workspace")?;
            refuse_state(shared, &workspace)?;
            wanted.project = Some((workspace.clone(), false));
            wanted.add(workspace, true, What::Lower);
        }
        for layer in spec.layers.iter().filter(|_| spec.workspace.is_some()) {
            match layer {
                Layer::State(state) if state.has_workspace() => {
                    wanted.add_state(state, "workspace");
                }
                Layer::State(_) => {}
                Layer::Tree(path) => {
                    let below = path.join(WORKSPACE.trim_start_matches('/'));
                    // What is in it came from a job: a link would lead out of it.
                    if fs::symlink_metadata(&below).is_ok_and(|it| it.is_dir()) {
                        wanted.add(below, true, What::Lower);
                    }
                }
            }
        }
        wanted.workspace = wanted.trees.len() - wanted.layers;
        for mount in &spec.image.host_mounts {
            refuse_state(shared, &mount.source).map_err(|error| {
                Error::system(format!("show `{}` in a container", mount.source.display()), error)
                    .remedy("choose another state directory with `--state`")
            })?;
            wanted.add(mount.source.clone(), true, What::Programs);
            let target = mount.target.clone();
            wanted.binds.push(Bind { target, directory: true, own_inodes: true });
            if ids::is_root() {
                wanted.add_below(mount)?;
            }
        }
        for mount in &spec.mounts {
            let source = canonical(&mount.source, "the mount")?;
            refuse_state(shared, &source)?;
            if let Some((workspace, also_bound)) = &mut wanted.project {
                *also_bound |= source.starts_with(workspace);
            }
            let (target, directory) = (mount.target.clone(), source.is_dir());
            wanted.binds.push(Bind { target, directory, own_inodes: false });
            wanted.add(source, mount.read_only, What::Bind);
        }
        Ok(wanted)
    }

    fn add(&mut self, path: PathBuf, read_only: bool, what: What) {
        self.trees.push(Tree { source: Source::Path(path), read_only, what });
    }

    /// What is mounted below a directory of the host's, each in its place.
    fn add_below(&mut self, mount: &HostMount) -> Result<()> {
        for below in host_mounts::below(&mount.source)? {
            let rest = below.path.strip_prefix(&mount.source).unwrap_or(&below.path);
            let target = Path::new(&mount.target).join(rest);
            let target = target.into_os_string().into_string().map_err(|name| {
                let doing = format!("show `{}` in a container", name.display());
                Error::system(doing, "its path is no text")
                    .remedy("use an image other than `host`, or mount it elsewhere")
            })?;
            let directory = below.is_directory;
            self.binds.push(Bind { target, directory, own_inodes: directory });
            let source = Source::Below(below);
            self.trees.push(Tree { source, read_only: true, what: What::Programs });
        }
        Ok(())
    }

    fn add_state(&mut self, state: &Arc<State>, name: &'static str) {
        let source = Source::State(Arc::clone(state), name);
        self.trees.push(Tree { source, read_only: true, what: What::Lower });
    }

    /// Where on the host its files are, but for what it and others write: that is in the state
    /// directory.
    pub(super) fn places(&self) -> Result<BTreeSet<PathBuf>> {
        let doing = || "find the disks that a container reads from";
        let table = kernel_file::read("/proc/self/mountinfo").system(doing)?;
        let mut places = BTreeSet::new();
        for tree in &self.trees {
            match &tree.source {
                Source::Path(path) => {
                    // Without root a bind brings along what is mounted below it.
                    if tree.what == What::Bind && !ids::is_root() {
                        let below = mount_table::below(&table, path);
                        // What another mount covers is not there; anything else is asked for again.
                        places.extend(below.filter(|place| place.try_exists().unwrap_or(true)));
                    }
                    places.insert(path.clone());
                }
                Source::Below(below) => {
                    places.insert(below.path.clone());
                }
                Source::State(..) => {}
            }
        }
        Ok(places)
    }

    /// What must not show in the container's mount table: the project is seen through an overlay,
    /// unless the operator shows it directly.
    pub(super) fn hidden(&self, shared: &Shared) -> Result<Vec<HiddenTree>> {
        let workspace = self.project.as_ref().filter(|(_, also_bound)| !also_bound);
        let paths = workspace.map(|(path, _)| path).into_iter().chain([&shared.state]);
        let hidden = |path: &PathBuf| {
            let tree = shared.places.tree(path).system(|| "read the mount table")?;
            Ok(HiddenTree { path: path.clone(), tree })
        };
        paths.map(hidden).collect()
    }

    /// Prepares the mounts with the ids of the container whose init is `init`; needs root.
    /// With `keep`, others can start from what is written.
    pub(super) fn prepare(
        &self,
        init: &Spawned,
        making: Making,
        keep: Option<&KeptMounts>,
    ) -> Result<Mounts> {
        let user_namespace = File::open(format!("/proc/{}/ns/user", init.pid))
            .system(|| "open the container's user namespace")?;
        let trees = self.trees.iter().map(|tree| match &tree.source {
            Source::Path(path) if tree.what == What::Programs => {
                let doing = || format!("open `{}`", path.display());
                lower::programs(lower::open(path).system(doing)?, path)
            }
            Source::Path(path) => lower::tree(path, &user_namespace, tree.read_only),
            Source::Below(below) => lower::programs(&below.place, &below.path),
            Source::State(state, name) => state.lower(name, Some(&user_namespace)),
        });
        let trees = trees.collect::<Result<_>>()?;
        // Last, because it may still be in the making.
        let scratch = making.finish()?;
        let (kept, copy) = match keep {
            Some(kept_mounts) => {
                kept_mounts.keep(&scratch).map(|(kept, copy)| (Some(kept), Some(copy)))?
            }
            None => (None, None),
        };
        let mounts = Mounts { scratch, copy, kept, trees };
        map_ids(mounts.shown(), &user_namespace, Attributes::default())
            .system(|| "show the scratch file system with the container's ids")?;
        Ok(mounts)
    }

    /// Prepares what others shall start in, and what others have written: without root these are
    /// mounts of the runner's user namespace, which has the container's ids.
    pub(super) fn prepare_kept(&self, making: Making, keep: Option<&KeptMounts>) -> Result<Kept> {
        let states = self.trees.iter().filter_map(|tree| match &tree.source {
            Source::Path(_) | Source::Below(_) => None,
            Source::State(state, name) => Some(state.lower(name, None::<&File>)),
        });
        let trees = states.collect::<Result<Vec<_>>>()?;
        let Some(kept_mounts) = keep else { return Ok(Kept { room: None, sent: trees }) };
        let scratch = making.finish()?;
        let (kept, copy) = kept_mounts.keep(&scratch)?;
        Ok(Kept { room: Some((scratch, kept)), sent: [copy].into_iter().chain(trees).collect() })
    }

    /// Describes the mounts to an init that has to make them, but for those that are sent to it: the
    /// states, and with `keep` the scratch file system.
    pub(super) fn describe(&self, limits: &Limits, keep: bool) -> Result<OwnMounts> {
        let trees = self.trees.iter().map(|tree| match &tree.source {
            Source::Path(path) => {
                if tree.what == What::Programs {
                    refuse_mounts_below(path)?;
                }
                let recursive = tree.what == What::Bind;
                let (path, read_only) = (path.clone(), tree.read_only);
                Ok(message::Tree::Own(OwnTree { path, read_only, recursive }))
            }
            Source::Below(Below { path, .. }) => {
                let doing = format!("show `{}` of this host in a container", path.display());
                Err(Error::system(doing, "this needs root").remedy("run it with `sudo`"))
            }
            Source::State(..) => Ok(message::Tree::Sent),
        });
        let scratch = (!keep).then_some((limits.disk, limits.inodes));
        let trees = trees.collect::<Result<_>>()?;
        Ok(OwnMounts { scratch, trees })
    }
}

/// What a runner without root prepares.
#[derive(Debug)]
pub(super) struct Kept {
    /// The writable file system, where others shall start in it.
    pub(super) room: Option<(Room, KeptMount)>,
    /// Detached mounts: that one, what others have written.
    pub(super) sent: Vec<OwnedFd>,
}

/// Detached mounts, prepared outside of the container.
#[derive(Debug)]
pub(super) struct Mounts {
    /// The writable file system.
    pub(super) scratch: Room,
    /// The same with the container's ids, where it is kept as it stands.
    copy: Option<OwnedFd>,
    pub(super) kept: Option<KeptMount>,
    /// The layers from the lowest up, the workspace, the binds.
    pub(super) trees: Vec<OwnedFd>,
}

impl Mounts {
    /// The writable file system as the container sees it.
    pub(super) fn shown(&self) -> BorrowedFd<'_> {
        self.copy.as_ref().map_or_else(|| self.scratch.as_fd(), OwnedFd::as_fd)
    }
}

fn canonical(path: &Path, what: &str) -> Result<PathBuf> {
    fs::canonicalize(path).pipeline(|| format!("find {what} `{}`", path.display()))
}

/// Only root can show a tree without what is mounted below it, and an overlay, which gives a
/// container inodes of its own, shows nothing that is mounted below its layers.
fn refuse_mounts_below(path: &Path) -> Result<()> {
    let doing = || format!("show `{}` of this host in a container", path.display());
    let table = kernel_file::read("/proc/self/mountinfo").system(doing)?;
    match mount_table::below(&table, path).next() {
        None => Ok(()),
        Some(point) => {
            let point = point.display();
            let why = format!("`{point}` is mounted below it, which takes root to show");
            Err(Error::system(doing(), why).remedy(format!(
                "use an image other than `host`, run it with `sudo`, or move \
                 what is there into the file system of `{}`",
                path.display()
            )))
        }
    }
}

/// Images and other runs' files are nothing that a container may see, let alone change.
fn refuse_state(shared: &Shared, path: &Path) -> Result<()> {
    if shared.state.starts_with(path) || path.starts_with(&shared.state) {
        return Err(Error::pipeline(
            format!("show `{}` in a container", path.display()),
            format!("it holds or lies in the state directory `{}`", shared.state.display()),
        )
        .remedy("choose another directory, or another state directory with `--state`"));
    }
    Ok(())
}
