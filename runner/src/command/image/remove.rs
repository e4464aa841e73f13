//! `cofferdam image rm`.

use cofferdam_sandbox::image::Store;

use super::reference;
use crate::{exit::Exit, print, problem::Problem};

pub(super) fn run(store: &Store, names: &[String]) -> Result<(), Problem> {
    for name in names {
        let removed = store.remove(&reference(name)?)?;
        if !removed.name {
            return Err(Problem::new(Exit::NoInput, format!("there is no image `{name}`"))
                .remedy("`cofferdam image ls` lists them"));
        }
        let in_use = match removed.layers_in_use {
            0 => String::new(),
            number => format!("; {number} in use stay until the run has ended"),
        };
        print::standard_error(format_args!("removed `{name}` ({} layers{in_use})", removed.layers));
    }
    Ok(())
}
