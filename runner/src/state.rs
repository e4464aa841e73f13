//! Where images and runs are kept.

use std::path::PathBuf;

use cofferdam_jobs::Configuration;

use crate::{exit::Exit, problem::Problem};

/// The state directory: what the user said, what the configuration says, `/var/lib/cofferdam` for
/// root, the user's data directory otherwise (XDG Base Directory Specification).
pub(crate) fn directory(
    said: Option<PathBuf>,
    configuration: &Configuration,
) -> Result<PathBuf, Problem> {
    let configured = || configuration.state.as_ref().map(|state| PathBuf::from(&state.value));
    if let Some(said) = said.or_else(configured) {
        return Ok(said);
    }
    if cofferdam_sandbox::is_root() {
        return Ok("/var/lib/cofferdam".into());
    }
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|it| it.is_absolute());
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("cofferdam"))
        .ok_or_else(|| {
            Problem::new(Exit::Usage, "no state directory: HOME is not set")
                .remedy("name one with `--state` or the variable COFFERDAM_STATE")
        })
}
