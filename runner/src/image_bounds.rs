//! How much the image store may hold, and that it does not grow past it: the disk never fills, and
//! nobody has to remember to clear it.

use std::time::Duration;

use cofferdam_jobs::Configuration;
use cofferdam_sandbox::image::{Keep, Store};

use crate::{
    print,
    report::quantity::{Bytes, count},
};

/// What images may take where the operator says nothing.
const KEEP: u64 = 50 << 30;
/// So much of the disk stays free, in percent.
const FREE: u8 = 10;
/// What was used so recently is about to be used again, however full the disk is.
const RECENTLY: Duration = Duration::from_secs(60 * 60);

/// After something was taken in: keeps the store within its bounds.
pub(crate) fn tidy(store: &Store, configuration: &Configuration) {
    match store.collect(of(configuration), false) {
        Ok(collected) if collected.names.is_empty() => {}
        Ok(collected) => print::standard_error(format_args!(
            "let go of {} that had not been used for long ({})",
            count(collected.names.len() as u64, "image"),
            Bytes(collected.swept.bytes)
        )),
        // What was taken in is there all the same.
        Err(error) => tracing::warn!(%error, "the image store could not be kept within bounds"),
    }
}

/// What may stay.
pub(crate) fn of(configuration: &Configuration) -> Keep {
    let keep = configuration.keep_images.as_ref();
    Keep { bytes: keep.map_or(KEEP, |keep| keep.value), free: FREE, used_within: RECENTLY }
}
