//! Images: references, the store, import and unpacking.
//!
//! Everything an image consists of is hostile until it is unpacked: documents, archives, names.
//! [`Store`] is the way in; an [`Image`] is what a container starts from.

mod archive;
mod assemble;
mod compression;
mod config;
mod digest;
mod host;
mod import;
mod limits;
mod merged;
mod open;
mod pack;
mod platform;
mod problem;
mod reference;
mod seal;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

pub use assemble::{Base, next_chain_id};
pub use config::ImageConfig;
pub(crate) use digest::HashingReader;
pub use digest::{Algorithm, Digest, InvalidDigest};
pub use import::{ImportOptions, Progress, PullOptions};
pub use limits::ImportLimits;
pub use merged::{Difference, Kind, Written};
pub use open::{HostMount, Image};
pub use pack::{Bundle, ExportForm, Manifest, Outgoing, PackedLayer, Packing};
pub use platform::Platform;
pub use reference::{InvalidReference, Reference};
pub use seal::{Aside, CopyFrom, Copying, Sealing, Seen, SeenCopy, WrittenLayer};
pub use source::{Origin, Root};
pub use store::{
    Collected, ImageDetails, ImageSummary, Keep, KeptState, KeptStep, LayerDetails, LayerDir, Made,
    StepLock, Store, Swept,
};
