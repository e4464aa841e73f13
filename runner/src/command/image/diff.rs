//! `cofferdam image diff`.

use std::path::Path;

use cofferdam_sandbox::image::{Difference, Image, Kind, Store};
use serde_json::{Value, json};

use super::{found, host, kept};
use crate::{
    exit::Exit,
    print,
    problem::Problem,
    report::{
        quantity::{Bytes, count},
        style::one_line,
    },
};

/// Ends with 1 when there is a difference, as `diff` does.
pub(super) fn run(
    store: &Store,
    state: &Path,
    (first, second): (&str, Option<&str>),
    json: bool,
) -> Result<u8, Problem> {
    let (before, after) = sides(store, state, first, second)?;
    let mut totals = Totals::default();
    // Line by line, so that images of any size can be compared.
    before.compare(&after, |difference| {
        totals.add(&difference);
        let shown = if json {
            print::standard_output(document(&difference))
        } else {
            print::standard_output(line(&difference))
        };
        shown.map_err(|problem| {
            cofferdam_sandbox::Error::system("print the differences", problem.to_string())
        })
    })?;
    if !json && totals != Totals::default() {
        print::standard_error(format_args!(
            "{}, {}, {}",
            format_args!("{} added ({})", count(totals.added, "file"), Bytes(totals.added_bytes)),
            format_args!("{} changed", totals.changed),
            format_args!("{} deleted ({})", totals.deleted, Bytes(totals.deleted_bytes)),
        ));
    }
    Ok(if totals == Totals::default() { Exit::Passed } else { Exit::Failed }.code())
}

/// What is compared: two images or states of jobs, or one of these with what its job started from.
fn sides(
    store: &Store,
    state: &Path,
    first: &str,
    second: Option<&str>,
) -> Result<(Image, Image), Problem> {
    let side = |name: &str| match kept::split(name, state) {
        Some((run, job)) => Ok(kept::find(store, state, run, job)?.state.image),
        None => found(store.find(name)?, name),
    };
    let Some(second) = second else {
        let Some((run, job)) = kept::split(first, state) else {
            let message = format!("`{}` is compared with what?", first.escape_debug());
            return Err(Problem::new(Exit::Usage, message)
                .remedy("name a second image; only `RUN/JOB` has one that it started from"));
        };
        let found = kept::find(store, state, run, job)?.state;
        return Ok((found.before, found.image));
    };
    let (before, after) = (side(first)?, side(second)?);
    // What images that were made from it have of this machine, they all have.
    if before.host_mounts == after.host_mounts && (first, second) != ("host", "host") {
        return Ok((before, after));
    }
    Err(host())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    added: u64,
    added_bytes: u64,
    changed: u64,
    deleted: u64,
    deleted_bytes: u64,
}

impl Totals {
    fn add(&mut self, difference: &Difference) {
        match difference.kind {
            Kind::Added => {
                self.added += 1;
                self.added_bytes += difference.after;
            }
            Kind::Changed => self.changed += 1,
            Kind::Deleted => {
                self.deleted += 1;
                self.deleted_bytes += difference.before;
            }
        }
    }
}

fn line(difference: &Difference) -> String {
    let path = one_line(&difference.path.display().to_string());
    let slash = if difference.directory { "/" } else { "" };
    let Difference { before, after, .. } = difference;
    match difference.kind {
        Kind::Added if difference.directory => format!("A /{path}/"),
        Kind::Added => format!("A /{path}  {}", Bytes(*after)),
        Kind::Deleted if difference.directory => format!("D /{path}/"),
        Kind::Deleted => format!("D /{path}  {}", Bytes(*before)),
        Kind::Changed if before == after => format!("C /{path}{slash}"),
        Kind::Changed => format!("C /{path}{slash}  {} → {}", Bytes(*before), Bytes(*after)),
    }
}

fn document(difference: &Difference) -> Value {
    let kind = match difference.kind {
        Kind::Added => "added",
        Kind::Changed => "changed",
        Kind::Deleted => "deleted",
    };
    json!({
        "change": kind,
        "path": format!("/{}", difference.path.display()),
        "directory": difference.directory,
        "before": difference.before,
        "after": difference.after,
    })
}
