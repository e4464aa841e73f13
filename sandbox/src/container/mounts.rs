//! What of the host a container shows: its layers, its workspace, its binds.
//!
//! Root prepares them as mounts with the container's ids, before the container stands. Everyone
//! else can only name them, for the init to mount with the privileges of its own namespaces.

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use super::ContainerSpec;
use crate::{
    Limits,
    error::{Doing as _, Error, Result},
    init::message::{Bind, OwnMounts, OwnTree},
    lower::{self, WithoutIdMap},
    sandbox::Shared,
    scratch::{Making, Room},
    spawner::Spawned,
    sys,
};

/// The trees of a container, and where those that are not layers go.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    trees: Vec<Tree>,
    /// Where the last of the trees go.
    pub(super) binds: Vec<Bind>,
}

#[derive(Debug)]
struct Tree {
    path: PathBuf,
    read_only: bool,
    what: What,
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
        if let Some(workspace) = &spec.workspace {
            let workspace = canonical(workspace, "the workspace")?;
            refuse_state(shared, &workspace)?;
            wanted.add(workspace, true, What::Lower);
        }
        for mount in &spec.image.host_mounts {
            wanted.add(mount.source.clone(), true, What::Programs);
            let target = mount.target.clone();
            wanted.binds.push(Bind { target, directory: true, own_inodes: true });
        }
        for mount in &spec.mounts {
            let source = canonical(&mount.source, "the mount")?;
            refuse_state(shared, &source)?;
            let (target, directory) = (mount.target.clone(), source.is_dir());
            wanted.binds.push(Bind { target, directory, own_inodes: false });
            wanted.add(source, mount.read_only, What::Bind);
        }
        Ok(wanted)
    }

    fn add(&mut self, path: PathBuf, read_only: bool, what: What) {
        self.trees.push(Tree { path, read_only, what });
    }

    /// Prepares the mounts with the ids of the container whose init is `init`; needs root.
    pub(super) fn prepare(&self, init: &Spawned, making: Making) -> Result<Mounts> {
        let user_namespace = File::open(format!("/proc/{}/ns/user", init.pid))
            .system(|| "open the container's user namespace")?;
        let trees = self.trees.iter().map(|tree| {
            let without = match tree.what {
                What::Programs => WithoutIdMap::ShowUnmapped,
                What::Lower | What::Bind => WithoutIdMap::Refuse,
            };
            lower::tree(&tree.path, &user_namespace, tree.read_only, without)
        });
        let trees = trees.collect::<Result<_>>()?;
        // Last, because it may still be in the making.
        let scratch = making.finish()?;
        sys::mount::map_ids(&scratch, &user_namespace, sys::mount::Attributes::default())
            .system(|| "show the scratch file system with the container's ids")?;
        Ok(Mounts { scratch, trees })
    }

    /// Describes the mounts to an init that has to make them.
    pub(super) fn describe(&self, limits: &Limits) -> OwnMounts {
        let trees = self.trees.iter().map(|tree| OwnTree {
            path: tree.path.clone(),
            read_only: tree.read_only,
            recursive: tree.what != What::Lower,
        });
        OwnMounts { disk: limits.disk, inodes: limits.inodes, trees: trees.collect() }
    }
}

/// Detached mounts, prepared outside of the container.
#[derive(Debug)]
pub(super) struct Mounts {
    /// The writable file system.
    pub(super) scratch: Room,
    /// The layers from the lowest up, the workspace, the binds.
    pub(super) trees: Vec<OwnedFd>,
}

fn canonical(path: &Path, what: &str) -> Result<PathBuf> {
    fs::canonicalize(path).pipeline(|| format!("find {what} `{}`", path.display()))
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
