//! What networks leave behind on the host, by name.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    addresses, forwarding,
    netlink::{Changes, Place, nftables, route},
};

/// The links of the run `instance` that are still there then. The kernel removes them some time
/// after the namespace in which their other ends were has lost its last process.
pub(crate) fn links_left(instance: &str, until: Instant) -> io::Result<Vec<String>> {
    let ours = Some(addresses::short(instance));
    // Listens before it looks, so that no change falls between the two.
    let changes = Changes::listen(libc::RTMGRP_LINK)?;
    loop {
        let mut links = route::link_names(&Place::Here)?;
        links.retain(|name| addresses::instance_of(name) == ours);
        if links.is_empty() || !changes.wait(until)? {
            return Ok(links);
        }
    }
}

/// The links of all runs, and their instances as far as the names have room for them.
pub(crate) fn links() -> io::Result<Vec<(String, String)>> {
    let of = |name: String| {
        let instance = addresses::instance_of(&name)?.to_owned();
        Some((name, instance))
    };
    Ok(route::link_names(&Place::Here)?.into_iter().filter_map(of).collect())
}

/// Removes a link.
pub(crate) fn remove_link(name: &str) -> io::Result<()> {
    route::remove_link(&Place::Here, name)
}

/// The names of all packet filter tables.
pub(crate) fn tables() -> io::Result<Vec<String>> {
    nftables::tables(&Place::Here)
}

/// The notes in `directory` that nobody holds.
pub(crate) fn forwardings_left(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let list = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut left = Vec::new();
    for entry in list {
        let path = entry?.path();
        if forwarding::namespace_of(&path).is_some() && forwarding::is_left(&path)? {
            left.push(path);
        }
    }
    Ok(left)
}

/// Whether a note says that packets are passed on for containers, while no run needs that.
pub(crate) fn is_forwarding_left(path: &Path) -> io::Result<bool> {
    forwarding::is_left(path)
}
