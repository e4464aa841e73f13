//! The addresses of the host as a set of the packet filter, kept up to date.
//!
//! A packet filter on the host knows its addresses by itself. In the keeper's namespace they are
//! addresses like any other, and the program that carries the packets on would reach them.

use std::{io, net::Ipv4Addr};

use tokio::{io::unix::AsyncFd, task::JoinHandle};

use super::{
    netlink::{Changes, Place, route},
    table,
};
use crate::sys::readiness;

/// Keeps them up to date until it is dropped.
#[derive(Debug)]
pub(super) struct HostAddresses(JoinHandle<()>);

impl Drop for HostAddresses {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HostAddresses {
    /// Puts them into the filter `table` of `place`, now and whenever they change; within a
    /// runtime.
    pub(super) fn watch(place: Place, table: String) -> io::Result<Self> {
        // Before the first look, so that nothing is missed in between.
        let changes = Changes::listen(libc::RTMGRP_IPV4_IFADDR)?;
        let _runtime = tokio::runtime::Handle::current().enter();
        let changes = readiness::watch(changes)?;
        let known = update(&place, &table, &[])?;
        Ok(Self(tokio::spawn(follow(changes, place, table, known))))
    }
}

async fn follow(changes: AsyncFd<Changes>, place: Place, table: String, mut known: Vec<Ipv4Addr>) {
    loop {
        let Ok(mut ready) = changes.readable().await else { return };
        // What has changed is asked for anew.
        if changes.get_ref().clear().is_err() {
            return;
        }
        ready.clear_ready();
        let (here, table_here) = (place.clone(), table.clone());
        let known_now = known.clone();
        let updated =
            tokio::task::spawn_blocking(move || update(&here, &table_here, &known_now)).await;
        match updated {
            Ok(Ok(now)) => known = now,
            Ok(Err(error)) => tracing::warn!(%error, "cannot note an address of this host"),
            Err(_) => return,
        }
    }
}

/// Returns what there is now.
fn update(place: &Place, table: &str, known: &[Ipv4Addr]) -> io::Result<Vec<Ipv4Addr>> {
    let addresses = route::addresses(&Place::Here)?;
    if addresses != known {
        table::set_host(place, table, &addresses)?;
    }
    Ok(addresses)
}
