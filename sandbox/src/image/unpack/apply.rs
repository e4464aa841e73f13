//! Acting on the entries of one layer, in their order.

use std::{
    ffi::CString,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
};

use nix::{
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, UtimensatFlags, utimensat},
    unistd::{linkat, mkfifoat, symlinkat},
};

use super::{
    metadata::Metadata,
    tree::{ForeignLink, Tree, is_directory, is_whiteout},
};
use crate::{
    image::{
        archive::{Archive, Entry, EntryPath, Kind, Skip, SparseMap, WHITEOUT},
        limits::Budget,
        problem::Problem,
    },
    sys::beneath::set_attribute,
};

/// The name that makes a directory opaque.
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// What was unpacked, and what was left out on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extracted {
    pub(crate) entries: u64,
    /// Character and block devices, which no container may bring.
    pub(crate) devices_skipped: u64,
    /// Extended attributes outside `user.*`, file capabilities among them.
    pub(crate) attributes_dropped: u64,
}

/// Unpacks every entry of `archive` into `tree`, which stays to be settled and finished.
pub(crate) fn extract<R: Skip>(
    archive: &mut Archive<'_, R>,
    tree: &mut Tree<'_>,
    budget: &Budget<'_>,
) -> Result<Extracted, Problem> {
    let mut extracted = Extracted::default();
    let mut buffer = vec![0; 256 * 1024];
    while let Some(entry) = archive.next()? {
        tree.reached(archive.recorded());
        budget.enter()?;
        extracted.entries += 1;
        apply(archive, &entry, tree, budget, &mut buffer, &mut extracted)?;
    }
    Ok(extracted)
}

fn apply<R: Skip>(
    archive: &mut Archive<'_, R>,
    entry: &Entry,
    tree: &mut Tree<'_>,
    budget: &Budget<'_>,
    buffer: &mut [u8],
    extracted: &mut Extracted,
) -> Result<(), Problem> {
    let path = &entry.path;
    let metadata = Metadata::of(entry);
    let Some((above, name)) = path.split() else {
        return match entry.kind {
            Kind::Directory => {
                tree.describe(path, metadata)?;
                set_attributes(tree.root(), entry, extracted)
            }
            Kind::Label => Ok(()),
            _ => Err(Problem::refused(b".", "the root of a layer must be a directory")),
        };
    };
    if entry.kind == Kind::Label {
        return Ok(());
    }
    if above.components().any(|component| component.starts_with(WHITEOUT)) {
        let why = "a directory above it is named like a whiteout";
        return Err(Problem::refused(path.as_bytes(), why));
    }
    if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        return whiteout(tree, &above, name, hidden);
    }
    let parent = tree.open_directory(&above)?;
    let parent = parent.as_fd();
    let write = |error: nix::Error| Problem::write(path.as_bytes(), error);
    match &entry.kind {
        Kind::Directory => {
            tree.add_directory(path, metadata)?;
            if entry.attributes.is_empty() {
                return Ok(());
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let fd = openat(parent, name, flags, Mode::empty()).map_err(write)?;
            set_attributes(fd.as_fd(), entry, extracted)
        }
        Kind::File => {
            let flags = OFlag::O_WRONLY
                | OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            // Mostly its own already, which spares changing it; attributes need the owner's write.
            let mode = Mode::from_bits_truncate(metadata.mode & 0o777 | 0o600);
            let fd = tree.replace(path, parent, name, || openat(parent, name, flags, mode))?;
            let mut file = File::from(fd);
            match &entry.sparse {
                Some(map) => {
                    write_sparse(archive, &mut file, path, map, budget, buffer)?;
                    archive.kept(path, &map.pieces)?;
                }
                None if entry.size == 0 => {}
                None => {
                    write_plain(archive, &mut file, path, entry.size, buffer)?;
                    archive.kept(path, &[(0, entry.size)])?;
                }
            }
            set_attributes(file.as_fd(), entry, extracted)?;
            metadata.give(file.as_fd()).map_err(write)
        }
        Kind::Symlink(target) => {
            let target = target.as_slice();
            tree.replace(path, parent, name, || symlinkat(target, parent, name))?;
            metadata.give_owner_at(parent, name).map_err(write)?;
            let (time, flag) = (metadata.time(), UtimensatFlags::NoFollowSymlink);
            utimensat(parent, name, &time, &time, flag).map_err(write)
        }
        Kind::Fifo => {
            let mode = Mode::from_bits_truncate(metadata.mode & 0o777);
            tree.replace(path, parent, name, || mkfifoat(parent, name, mode))?;
            metadata.give_owner_at(parent, name).map_err(write)?;
            let (time, flag) = (metadata.time(), UtimensatFlags::NoFollowSymlink);
            utimensat(parent, name, &time, &time, flag).map_err(write)
        }
        Kind::HardLink(target) => {
            let link = ForeignLink { path: path.clone(), target: target.clone(), metadata };
            hard_link(tree, parent, name, link)
        }
        Kind::Device => {
            extracted.devices_skipped += 1;
            Ok(())
        }
        Kind::Label => Ok(()),
    }
}

fn whiteout(
    tree: &mut Tree<'_>,
    above: &EntryPath,
    name: &[u8],
    hidden: &[u8],
) -> Result<(), Problem> {
    if name == OPAQUE_NAME {
        return tree.add_opaque(above);
    }
    // Other names with the doubled prefix are aufs's own records, never files.
    if hidden.starts_with(WHITEOUT) {
        return Ok(());
    }
    if matches!(hidden, b"" | b"." | b"..") {
        let why = "the name after `.wh.` must be that of one file";
        return Err(Problem::refused(above.join(name).as_bytes(), why));
    }
    tree.add_whiteout(above, hidden)
}

/// Links to a file of the same layer; one that is not there lies in a layer below.
fn hard_link(
    tree: &mut Tree<'_>,
    parent: BorrowedFd<'_>,
    name: &[u8],
    link: ForeignLink,
) -> Result<(), Problem> {
    let ForeignLink { path, target, metadata } = &link;
    let refused = |why: &str| Err(Problem::refused(path.as_bytes(), why));
    if target == path {
        return refused("it is a hard link to itself");
    }
    let Some((target_above, target_name)) = target.split() else {
        return refused("it is a hard link to the root");
    };
    if target_name.starts_with(WHITEOUT) {
        return refused("it is a hard link to a whiteout");
    }
    let Some(target_parent) = tree.find_directory(&target_above)? else {
        return tree.add_foreign_link(link);
    };
    let target_parent = target_parent.as_fd();
    let write = |error: nix::Error| Problem::write(path.as_bytes(), error);
    match tree.stat(target_parent, target_name).map_err(write)? {
        None => tree.add_foreign_link(link),
        Some(stat) if is_directory(&stat) => refused("it is a hard link to a directory"),
        Some(stat) if is_whiteout(&stat) => refused("it is a hard link to a file deleted before"),
        Some(_) => {
            tree.replace(path, parent, name, || {
                linkat(target_parent, target_name, parent, name, AtFlags::empty())
            })?;
            metadata.give_link(parent, name).map_err(write)
        }
    }
}

fn write_plain<R: Skip>(
    archive: &mut Archive<'_, R>,
    file: &mut File,
    path: &EntryPath,
    size: u64,
    buffer: &mut [u8],
) -> Result<(), Problem> {
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = archive.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if read == 0 {
            return Err(Problem::refused(path.as_bytes(), "its data ends too early"));
        }
        file.write_all(buffer.get(..read).unwrap_or_default())
            .map_err(|error| Problem::write(path.as_bytes(), error))?;
        left -= read as u64;
    }
    Ok(())
}

fn write_sparse<R: Skip>(
    archive: &mut Archive<'_, R>,
    file: &mut File,
    path: &EntryPath,
    map: &SparseMap,
    budget: &Budget<'_>,
    buffer: &mut [u8],
) -> Result<(), Problem> {
    // The holes count as well: whoever copies the file pays for them.
    budget.grow(map.size)?;
    for (offset, length) in &map.pieces {
        file.seek(SeekFrom::Start(*offset))
            .map_err(|error| Problem::write(path.as_bytes(), error))?;
        write_plain(archive, file, path, *length, buffer)?;
    }
    file.set_len(map.size).map_err(|error| Problem::write(path.as_bytes(), error))
}

/// Sets the attributes on the allow list: `user.*`, but nothing that overlayfs would obey.
/// `security.capability` goes because the container's mounts are `nosuid` and it could not act;
/// ACLs and labels go because they name ids and policies of another host.
fn set_attributes(
    file: BorrowedFd<'_>,
    entry: &Entry,
    extracted: &mut Extracted,
) -> Result<(), Problem> {
    for (name, value) in &entry.attributes {
        if !is_allowed_attribute(name) {
            extracted.attributes_dropped += 1;
            continue;
        }
        let c_name = CString::new(name.as_slice()).map_err(|_| {
            Problem::refused(entry.path.as_bytes(), "an attribute's name holds a NUL")
        })?;
        set_attribute(file, &c_name, value)
            .map_err(|error| Problem::write(entry.path.as_bytes(), error))?;
    }
    Ok(())
}

pub(crate) fn is_allowed_attribute(name: &[u8]) -> bool {
    name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
}
