//! Real groups with real processes: each limit is exceeded, each group is gone afterwards.
//!
//! They need root or a delegated cgroup subtree and say so, by name, where they have neither.

mod lifecycle;
mod limits;
mod refusals;
mod scene;
