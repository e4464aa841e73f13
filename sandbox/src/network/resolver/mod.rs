//! Answers a container's questions for names: the container has no other way to ask.
//!
//! The sockets are in the container's network namespace, on its own loopback, and are read here:
//! no packet of a question crosses the link, and nothing of this host listens where a container
//! could reach it. Questions, answers and clients are all strangers.

mod message;
mod names;
mod serve;
mod upstream;

pub(crate) use serve::Resolver;
