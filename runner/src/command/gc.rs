//! `cofferdam gc`: removes what runs without an end have left on this host.

use std::path::Path;

use cofferdam_sandbox::residue::{self, Residue};
use serde_json::{Value, json};

use crate::{exit::Exit, print, problem::Problem};

/// Removes, or with `dry_run` lists; ends with [`Exit::System`] when something is still there.
pub(super) fn run(state: &Path, dry_run: bool, json: bool) -> Result<u8, Problem> {
    let collected = residue::collect(state, dry_run)?;
    if json {
        let list = |all: &[Residue]| all.iter().map(to_json).collect::<Value>();
        print::standard_output(json!({
            "dry_run": dry_run,
            "removed": list(&collected.removed),
            "left": list(&collected.left),
        }))?;
    } else {
        let done = if dry_run { "would remove" } else { "removed" };
        for residue in &collected.removed {
            print::standard_output(format_args!(
                "{done} {} `{}`",
                residue.kind.word(),
                residue.name
            ))?;
        }
        for residue in &collected.left {
            print::standard_output(format_args!("cannot remove {residue}"))?;
        }
        if collected.removed.is_empty() && collected.left.is_empty() {
            print::standard_output("nothing was left behind")?;
        }
    }
    Ok(if collected.left.is_empty() { Exit::Passed } else { Exit::System }.code())
}

fn to_json(residue: &Residue) -> Value {
    json!({ "kind": residue.kind.word(), "name": residue.name, "why": residue.why })
}
