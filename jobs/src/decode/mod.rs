//! The tree of a file to the typed model, with every fault of it at once.
//!
//! A value that cannot be read is reported and left out, so that the rest is still looked at. The
//! lists of keys here are the language: what is not in them is refused with the nearest that is.

mod configuration;
mod decoder;
mod files;
mod foreign;
mod image;
mod job;
mod limits;
mod matrix;
mod network;
mod pipeline;
mod registries;
mod scalars;
mod service;
mod step;

pub(crate) use decoder::Decoder;

/// The keys of each object of the language, by its name in the schema.
#[cfg(test)]
pub(crate) const KEYS: &[(&str, &[&str])] = &[
    ("", pipeline::PIPELINE),
    ("param", pipeline::PARAM),
    ("defaults", pipeline::DEFAULTS),
    ("secret-form", pipeline::SECRET),
    ("image", image::IMAGE),
    ("dockerfile", image::BUILD),
    ("config", image::CONFIG),
    ("limits", limits::LIMITS),
    ("io", limits::IO),
    ("allowed", network::NETWORK),
    ("need-form", job::NEED),
    ("retry", job::RETRY),
    ("job", job::JOB),
    ("step", step::STEP),
    ("service", service::SERVICE),
    ("ready", service::READY),
    ("cache", files::CACHE),
    ("artifacts", files::ARTIFACTS),
    ("results", files::RESULTS),
];
