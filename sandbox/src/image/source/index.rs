//! What a tar archive is, by what is in it, and where its members lie.
//!
//! Those who write archives of images name the members as they like, so names alone tell little: the
//! archive of an image says so in `manifest.json` or `oci-layout`, wherever that stands. A root file
//! system is seldom read to its end for that: a few names are only ever its own.

use std::{collections::HashMap, io::Read as _};

use super::{docker, layout};
use crate::image::{
    archive::{Archive, Entry, Kind, Skip},
    limits::ImportLimits,
    problem::{Problem, shown},
};

/// What an archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// An OCI image layout.
    Layout,
    /// What `docker save` writes.
    Docker,
    /// The files of one layer.
    Rootfs,
}

#[derive(Clone, Debug)]
pub(super) enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// Older `docker save` writes a layer that is there twice as a link to the first.
    Link(String),
}

#[derive(Debug)]
pub(super) struct Index {
    pub(super) shape: Shape,
    /// Of an archive of images, by name.
    pub(super) members: HashMap<String, Member>,
}

/// How many members an archive of images may have; every layer has three at most.
const MEMBERS: usize = 16_384;
/// How many members of other names than usual an archive of images may have before it says that it is
/// one.
const UNUSUAL: usize = 1024;
/// Directories that only a root file system has.
const ROOT: [&str; 17] = [
    "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root",
    "run", "sbin", "sys", "usr", "var",
];

/// Lists the members of an archive of images, up to the first that only a root file system has.
pub(super) fn index<R: Skip>(input: R, limits: &ImportLimits) -> Result<Index, Problem> {
    let mut archive = Archive::new(input, limits);
    let mut members = HashMap::new();
    let rootfs = || Ok(Index { shape: Shape::Rootfs, members: HashMap::new() });
    // Whether a document says that this holds images, and how many members have names of their own.
    let (mut said, mut unusual) = (false, 0_usize);
    // A damaged header is reported by whoever reads the archive in earnest.
    while let Some(entry) = archive.next()? {
        if entry.path.is_root() || entry.kind == Kind::Label {
            continue;
        }
        let name = String::from_utf8_lossy(entry.path.as_bytes()).into_owned();
        let is_usual = is_image_member(&name);
        let offset = archive.position();
        let member = member(&entry, &name, offset);
        if !is_usual {
            unusual += 1;
            let first = name.split('/').next().unwrap_or_default();
            let is_known = member.is_some() || entry.kind == Kind::Directory;
            let is_twice = members.contains_key(&name);
            if !said && (unusual > UNUSUAL || !is_known || is_twice || ROOT.contains(&first)) {
                return rootfs();
            }
            if !is_known {
                continue;
            }
        }
        let Some(member) = member else {
            if entry.kind == Kind::Directory {
                continue;
            }
            let why = "an image archive holds plain files";
            return Err(Problem::refused(name.as_bytes(), why));
        };
        if matches!(name.as_str(), "manifest.json" | "oci-layout") && entry.size <= limits.document
        {
            let mut document = Vec::new();
            (&mut archive).take(entry.size).read_to_end(&mut document)?;
            said |= match name.as_str() {
                "oci-layout" => layout::is_marker(&document),
                _ => docker::is_manifest(&document),
            };
        }
        if members.insert(name.clone(), member).is_some() {
            return Err(Problem::refused(name.as_bytes(), "the archive holds it twice"));
        }
        if members.len() > MEMBERS {
            return Err(Problem::Limit {
                what: "members of an image archive",
                limit: MEMBERS as u64,
            });
        }
    }
    let has = |name: &str| members.contains_key(name);
    let shape = match (has("oci-layout") && has("index.json"), has("manifest.json")) {
        // Documents that merely have these names.
        _ if unusual > 0 && !said => return rootfs(),
        (true, _) => Shape::Layout,
        (false, true) => Shape::Docker,
        (false, false) => return rootfs(),
    };
    Ok(Index { shape, members })
}

/// Where the content of an entry lies that can be a part of an image.
fn member(entry: &Entry, name: &str, offset: u64) -> Option<Member> {
    match &entry.kind {
        Kind::File if entry.sparse.is_none() => Some(Member::File { offset, size: entry.size }),
        Kind::Symlink(target) => Some(Member::Link(link_target(name, target))),
        Kind::HardLink(target) => Some(Member::Link(shown(target.as_bytes()))),
        _ => None,
    }
}

/// Whether an OCI layout or a `docker save` archive has members of this name.
fn is_image_member(name: &str) -> bool {
    let is_hex = |text: &str| {
        matches!(text.len(), 64 | 128) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match name {
        "oci-layout" | "index.json" | "manifest.json" | "repositories" | "blobs"
        | "blobs/sha256" | "blobs/sha512" => true,
        _ => match name.split_once('/') {
            Some(("blobs", blob)) => blob.split_once('/').is_some_and(|(algorithm, hex)| {
                matches!(algorithm, "sha256" | "sha512") && is_hex(hex)
            }),
            Some((id, file)) => is_hex(id) && matches!(file, "" | "VERSION" | "json" | "layer.tar"),
            None => {
                // `crane` and its kin call the configuration by its digest, and compress layers.
                let name = name.strip_prefix("sha256:").unwrap_or(name);
                let stem = [".json", ".tar", ".tar.gz"].iter().find_map(|it| name.strip_suffix(it));
                is_hex(stem.unwrap_or(name))
            }
        },
    }
}

/// The member that a symbolic link beside `name` names; the text need not be one.
fn link_target(name: &str, target: &[u8]) -> String {
    let mut path: Vec<&str> = name.split('/').collect();
    path.pop();
    let target = String::from_utf8_lossy(target);
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            _ => path.push(component),
        }
    }
    path.join("/")
}
