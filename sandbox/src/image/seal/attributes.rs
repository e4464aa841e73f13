//! Owner, permissions, time and attributes of a file that becomes part of a layer.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::stat::FileStat;

use crate::{
    image::{
        archive::{Described, ExtendedAttribute},
        limits::ImportLimits,
        problem::Problem,
        unpack::is_allowed_attribute,
    },
    sys::beneath::{attribute, attribute_names},
};

/// File capabilities (capabilities(7)); the file system's form is `struct vfs_ns_cap_data`.
const CAPABILITIES: &[u8] = b"security.capability";

/// What a layer says of a file without attributes.
pub(super) fn plain(status: &FileStat) -> Described {
    Described {
        uid: status.st_uid,
        gid: status.st_gid,
        mode: status.st_mode & 0o7777,
        mtime: status.st_mtime,
        attributes: Vec::new(),
    }
}

/// What a layer says of an open file.
pub(super) fn described(
    status: &FileStat,
    file: impl AsFd,
    limits: &ImportLimits,
) -> Result<Described, Problem> {
    let attributes = attributes(file.as_fd(), limits)?;
    Ok(Described { attributes, ..plain(status) })
}

/// The attributes that are part of a layer, sorted: what users set, and file capabilities. What
/// overlayfs keeps for itself is none of the file's.
fn attributes(
    file: BorrowedFd<'_>,
    limits: &ImportLimits,
) -> Result<Vec<ExtendedAttribute>, Problem> {
    let read = |error: io::Error| Problem::Read(error);
    let mut found = Vec::new();
    let mut size = 0;
    for name in attribute_names(file).map_err(read)? {
        // In an archive, an equals sign ends the name.
        let is_user = is_allowed_attribute(&name) && !name.contains(&b'=');
        if !is_user && name != CAPABILITIES {
            continue;
        }
        let Ok(c_name) = CString::new(name.clone()) else { continue };
        let Some(value) = attribute(file, &c_name).map_err(read)? else { continue };
        let value = if is_user { Some(value) } else { capabilities(value) };
        if let Some(value) = value {
            size += name.len() + value.len();
            if size as u64 > limits.extension {
                let limit = limits.extension;
                return Err(Problem::Limit { what: "bytes of attributes of one file", limit });
            }
            found.push((name, value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// File capabilities in the form that does not name a user namespace (revision 2), which is what
/// images have. Those of another than root's namespace of the container mean nothing outside.
fn capabilities(value: Vec<u8>) -> Option<Vec<u8>> {
    const REVISION: u8 = 3;
    let root = value.get(20..24);
    match (value.get(3), value.len(), root) {
        (Some(2), 20, _) => Some(value),
        (Some(&REVISION), 24, Some([0, 0, 0, 0])) => {
            let mut plain = value.get(..20)?.to_vec();
            *plain.get_mut(3)? = 2;
            Some(plain)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_lose_their_namespace_or_go() {
        let form = |revision: u8, rest: &[u8]| [&[1, 0, 0, revision][..], &[7; 16], rest].concat();
        for (value, expect) in [
            (form(2, &[]), Some(form(2, &[]))),
            (form(3, &[0; 4]), Some(form(2, &[]))),
            (form(3, &[0, 0, 1, 0]), None),
            (form(1, &[]), None),
            (form(3, &[]), None),
            (Vec::new(), None),
        ] {
            assert_eq!(capabilities(value.clone()), expect, "{value:?}");
        }
    }
}
