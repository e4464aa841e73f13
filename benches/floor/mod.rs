//! The floor: what a complete container costs when nothing is checked and nothing is said.

mod check;
mod container;
mod groups;
pub(crate) mod rootfs;
mod times;

pub(crate) use container::Floor;
pub(crate) use rootfs::Rootfs;
pub(crate) use times::Times;
