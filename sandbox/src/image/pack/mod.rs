//! Giving images away: their layers as archives again, their documents as they came.

mod bundle;
mod export;
mod rebuild;
mod recipe;

pub use bundle::{Blob as PackedLayer, Bundle, Manifest, Outgoing, Packing};
pub use export::ExportForm;
pub(crate) use recipe::{RECIPE, REPLACED, REPLACED_NAMES, Recorder};
