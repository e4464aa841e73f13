//! Giving images away: their layers as archives again, their documents as they came.

mod rebuild;
mod recipe;

pub(crate) use recipe::{RECIPE, REPLACED, REPLACED_NAMES, Recorder};
