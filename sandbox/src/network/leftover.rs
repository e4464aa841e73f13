//! What networks leave behind on the host, by name.

use std::{io, path::Path, time::Instant};

use super::{
    addresses, forwarding,
    netlink::{LinkChanges, Place, nftables, route},
};

/// The links of the run `instance` that are still there then. The kernel removes them some time
/// after the namespace in which their other ends were has lost its last process.
pub(crate) fn links_left(instance: &str, until: Instant) -> io::Result<Vec<String>> {
    let ours = Some(addresses::short(instance));
    // Listens before it looks, so that no change falls between the two.
    let changes = LinkChanges::listen()?;
    loop {
        let mut links = route::link_names(&Place::Here)?;
        links.retain(|name| addresses::instance_of(name) == ours);
        if links.is_empty() || !changes.wait(until)? {
            return Ok(links);
        }
    }
}

/// The names of all packet filter tables that could be ours.
pub(crate) fn tables() -> io::Result<Vec<String>> {
    nftables::tables(&Place::Here)
}

/// Whether a note says that packets are passed on for containers, while no run needs that.
pub(crate) fn is_forwarding_left(path: &Path) -> io::Result<bool> {
    forwarding::is_left(path)
}
