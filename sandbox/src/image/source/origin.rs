//! Where documents and layers are fetched from by their digests: an image layout, a registry.

use std::{fmt::Debug, io::Read};

use crate::{Result, image::digest::Digest};

/// A place that hands out an image piece by piece, such as a repository of a registry.
///
/// What it hands out is not trusted: the store checks size and digest of every piece, whoever
/// fetched it. Calls come from several threads.
pub trait Origin: Debug + Sync {
    /// What messages call it, such as `registry.example/team/app`.
    fn name(&self) -> String;

    /// Fetches the manifest or index with this digest. No more than `size` bytes need be read.
    ///
    /// # Errors
    /// Where it cannot be had.
    fn manifest(&self, digest: &Digest, size: u64) -> Result<Vec<u8>>;

    /// Fetches a small blob, such as a configuration. No more than `size` bytes need be read.
    ///
    /// # Errors
    /// Where it cannot be had.
    fn document(&self, digest: &Digest, size: u64) -> Result<Vec<u8>>;

    /// Opens a layer for reading from its start to its end. The reader resumes by itself where a
    /// connection breaks, or ends with an error that wraps a [`crate::Error`].
    ///
    /// # Errors
    /// Where it cannot be had.
    fn layer(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>>;
}

/// The document that a name stands for in an [`Origin`]: an index or a manifest.
#[derive(Clone, Debug)]
pub struct Root {
    /// What the origin says that it is.
    pub media_type: String,
    /// Its bytes, as they came.
    pub document: Vec<u8>,
}

impl Root {
    /// The digest of the document.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.document)
    }
}
