//! Finds and reads the operator's configuration.
//!
//! Root's is the machine's, everyone else has one of their own. A file that is named has to be
//! there; one in its usual place need not. Any fault in it stops the command: half of an operator's
//! decisions are worse than none.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use cofferdam_jobs::{
    Configuration, Sources, configuration, diagnostic::render, source::MAX_FILE_BYTES,
};

use crate::{
    exit::Exit,
    print,
    problem::Problem,
    report::{quantity::count, style::wants_colour},
};

/// Reads the file that was named, or the one in the usual place; faults end the process with `exit`.
pub(crate) fn load(named: Option<&Path>, exit: Exit) -> Result<Configuration, Problem> {
    let usual = if named.is_none() { usual_place() } else { None };
    let Some(path) = named.or(usual.as_deref()) else { return Ok(Configuration::default()) };
    match read(path) {
        Ok(bytes) => parse(path, &bytes, exit),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Ok(Configuration::default())
        }
        Err(error) => Err(Problem::new(
            exit,
            format!("failed to read the configuration `{}`", path.display()),
        )
        .because(error)
        .remedy("name another with `--config` or the variable COFFERDAM_CONFIG")),
    }
}

/// `/etc/cofferdam/config.yml` for root, in the user's configuration directory otherwise (XDG Base
/// Directory Specification).
fn usual_place() -> Option<PathBuf> {
    let directory = if cofferdam_sandbox::is_root() {
        PathBuf::from("/etc")
    } else {
        let set =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|it| it.is_absolute());
        set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?
    };
    Some(directory.join("cofferdam/config.yml"))
}

/// One byte more than may be, so that a file that is too long is seen to be.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(path: &Path, bytes: &[u8], exit: Exit) -> Result<Configuration, Problem> {
    let mut sources = Sources::new();
    let id = sources.add(path.display().to_string(), bytes);
    configuration::parse(&sources, id).map_err(|faults| {
        let drawn = render::render_all(&faults, &sources, wants_colour(&io::stderr()));
        print::standard_error(format_args!("{drawn}\n"));
        let faults = count(faults.len() as u64, "fault");
        let message =
            format!("the configuration `{}` has {faults}; nothing was done", path.display());
        Problem::new(exit, message)
    })
}
