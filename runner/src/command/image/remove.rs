//! `cofferdam image rm`.

use cofferdam_sandbox::image::Store;

use super::{missing, reference};
use crate::{print, problem::Problem, report::quantity::count};

pub(super) fn run(store: &Store, names: &[String]) -> Result<(), Problem> {
    for name in names {
        let swept = store.remove(&reference(name)?)?.ok_or_else(|| missing(name))?;
        let in_use = match swept.layers_in_use {
            0 => String::new(),
            number => format!("; {number} in use stay until the run has ended"),
        };
        let layers = count(swept.layers as u64, "layer");
        print::standard_error(format_args!("removed `{name}` ({layers}{in_use})"));
    }
    Ok(())
}
