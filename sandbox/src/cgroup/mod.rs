//! Control groups: limits, usage and killing on the v2, v1 and hybrid layouts.
//!
//! [`Hierarchy::detect`] finds out where groups can be made, [`Hierarchy::prepare`] makes one group
//! per running instance of Cofferdam there, [`Instance::create`] one per container below it with its
//! limits set, and [`Group::step`] one per step below that. Every group's name carries the instance,
//! so what a dead instance left is found by name and removed.
//!
//! On a hybrid host each limit goes to the tree that has its controller, and the container is
//! a member of the v2 tree as well, for `cgroup.kill` and `cgroup.freeze`.
//!
//! A limit that cannot be enforced is an error that names the controller and the remedy.

mod base;
mod controller;
mod create;
mod device;
mod event;
mod file;
mod group;
mod hierarchy;
mod instances;
mod layout;
mod protection;
mod removal;
mod report;
mod resident;
mod scope;
mod setting;
#[cfg(test)]
mod tests;
mod usage;

pub use create::{GroupOptions, Instance, IoLimit};
pub use event::MemoryEvents;
pub use group::{Entrance, Group};
pub use hierarchy::Hierarchy;
pub(crate) use instances::{
    is_of_one as is_in_an_instance, on_host as groups_on_host, remove_leaf,
};
pub(crate) use removal::processes_below;
pub use removal::remove_groups;
pub use report::{Enforcement, Finding, Limit};
pub use resident::Resident;
pub(crate) use resident::printable;
pub use scope::enter_scope;
pub use setting::StepLimits;
pub use usage::Usage;
