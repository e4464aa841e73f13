//! Telling with a handful of `lstat` whether the host image's layer still fits this host.

use std::{fmt::Write as _, fs::Metadata, os::unix::fs::MetadataExt as _, path::Path};

use super::sources::{ETC, ETC_PREFIXES, MERGED};
use crate::{ids, image::digest::Digest};

/// Raised whenever what [`super::write`] makes of the same host changes.
const GENERATION: u32 = 2;

/// A digest of what the layer below `root` would be made from: kind, inode, size and times of
/// every source. A directory stands for what is directly in it.
pub(super) fn of(root: &Path) -> Digest {
    let mut text = format!("{GENERATION} {:?}\n", ids::owner(super::write::CI));
    let mut add = |path: &Path, name: &str| {
        // Writing to a `String` cannot fail.
        let _written = match path.join(name).symlink_metadata() {
            Ok(metadata) => writeln!(text, "{name} {}", state(&metadata)),
            Err(error) => writeln!(text, "{name} {}", error.kind()),
        };
    };
    for name in MERGED {
        add(root, name);
    }
    let etc = root.join("etc");
    // `/etc` itself changes often; it is read for the directories whose full names vary.
    for name in ETC {
        add(&etc, name);
    }
    for name in varying(&etc) {
        add(&etc, &name);
    }
    Digest::of(text.as_bytes())
}

/// The entries of `/etc` that match [`ETC_PREFIXES`], sorted.
pub(super) fn varying(etc: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(etc)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| ETC_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    names.sort_unstable();
    names
}

fn state(metadata: &Metadata) -> String {
    let (ino, mode, size) = (metadata.ino(), metadata.mode(), metadata.size());
    let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
    // The change time moves with everything, also where a restored file keeps its old time.
    format!("{ino} {mode:o} {size} {seconds}.{nanoseconds}")
}
