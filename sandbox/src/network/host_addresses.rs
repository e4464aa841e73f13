//! The addresses of the host as a set of the packet filter, kept up to date.
//!
//! A packet filter on the host knows its addresses by itself. In the keeper's namespace they are
//! addresses like any other, and the program that carries the packets on would reach them. So an
//! address that cannot be noted closes the way out: what would be open to containers is not known.

use std::{io, net::Ipv4Addr};

use tokio::{io::unix::AsyncFd, task::JoinHandle};

use super::{
    loss::Loss,
    netlink::{Changes, Place, route},
    table,
    uplink::LINK,
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
    pub(super) fn watch(place: Place, table: String, loss: Loss) -> io::Result<Self> {
        // Before the first look, so that nothing is missed in between.
        let changes = Changes::listen(libc::RTMGRP_IPV4_IFADDR)?;
        let _runtime = tokio::runtime::Handle::current().enter();
        let changes = readiness::watch(changes)?;
        let known = update(&place, &table, &[])?;
        Ok(Self(tokio::spawn(follow(changes, (place, table), known, loss))))
    }
}

async fn follow(
    changes: AsyncFd<Changes>,
    (place, table): (Place, String),
    mut known: Vec<Ipv4Addr>,
    loss: Loss,
) {
    let mut next = async || -> io::Result<()> {
        let mut ready = changes.readable().await?;
        // What has changed is asked for anew.
        changes.get_ref().clear()?;
        ready.clear_ready();
        let (here, table, known_now) = (place.clone(), table.clone(), known.clone());
        known = tokio::task::spawn_blocking(move || update(&here, &table, &known_now)).await??;
        Ok(())
    };
    let error = loop {
        if let Err(error) = next().await {
            break error;
        }
    };
    let why = format!("an address of this host cannot be kept from them: {error}");
    let closed = tokio::task::spawn_blocking(move || close(&place)).await;
    match closed.map_err(io::Error::from).flatten() {
        Ok(()) => loss.report(why),
        Err(error) => tracing::error!("{why}; and their way out cannot be closed: {error}"),
    }
}

/// Nothing leaves through it any more.
fn close(place: &Place) -> io::Result<()> {
    match route::link(place, LINK) {
        Ok(link) => route::bring_down(place, link.index),
        // The program that makes it has ended.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(error) => Err(error),
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
