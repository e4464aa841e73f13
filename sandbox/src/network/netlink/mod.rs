//! Talking to the kernel about links, addresses, routes and packet filters.

pub(crate) mod message;
pub(crate) mod nftables;
pub(crate) mod route;
pub(crate) mod rule;
mod socket;

pub(crate) use socket::{Changes, Place, open_here};
