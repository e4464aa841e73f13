//! `cofferdam cache`.

use std::{path::Path, time::SystemTime};

use cofferdam_sandbox::cache::{Caches, Listed};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    build::CacheUse,
    cli::CacheCommand,
    execute::CACHE_SIZE,
    exit::Exit,
    print,
    problem::Problem,
    report::{
        quantity::{Bytes, Elapsed},
        style::one_line,
    },
};

/// Lists or removes; ends with [`Exit::Failed`] where one stays that was to go.
pub(super) fn run(command: CacheCommand, state: &Path) -> Result<u8, Problem> {
    let caches = Caches::open(state, CACHE_SIZE)?;
    let all = caches.list()?;
    match command {
        CacheCommand::Ls { json } => {
            list(&all, json)?;
            Ok(Exit::Passed.code())
        }
        CacheCommand::Rm { id, all: everything, json } => {
            let chosen = if everything { all } else { choose(&all, &id)? };
            remove(&caches, &chosen, json)
        }
    }
}

fn list(all: &[Listed], json: bool) -> Result<(), Problem> {
    if json {
        return print::standard_output(all.iter().map(document).collect::<Value>());
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["ID", "OF", "CACHE", "SIZE", "LAST USED"]);
    let now = SystemTime::now();
    for cache in all {
        let (of, name) = match CacheUse::of_key(&cache.key) {
            Some((id, target)) if id == target => ("build", id.to_owned()),
            Some((id, target)) => ("build", format!("{id} at {target}")),
            None => ("job", cache.key.clone()),
        };
        // A clock may have been set back.
        let since = now.duration_since(cache.used).unwrap_or_default();
        table.add_row([
            cache.id.clone(),
            of.to_owned(),
            one_line(&name),
            Bytes(cache.bytes).to_string(),
            format!("{} ago", Elapsed(since)),
        ]);
    }
    print::standard_output(table)
}

fn document(cache: &Listed) -> Value {
    let time = |time: SystemTime| Timestamp::try_from(time).ok().map(|time| time.to_string());
    let of_build = CacheUse::of_key(&cache.key);
    json!({
        "id": cache.id,
        "of": if of_build.is_some() { "build" } else { "job" },
        "key": of_build.map_or(cache.key.as_str(), |(id, _)| id),
        "target": of_build.map(|(_, target)| target),
        "bytes": cache.bytes,
        "created": time(cache.created),
        "used": time(cache.used),
    })
}

fn choose(all: &[Listed], ids: &[String]) -> Result<Vec<Listed>, Problem> {
    let find = |id: &String| {
        all.iter().find(|cache| cache.id == *id).cloned().ok_or_else(|| {
            Problem::new(Exit::NoInput, format!("there is no cache `{}`", id.escape_debug()))
                .remedy("`cofferdam cache ls` lists them")
        })
    };
    // All are looked up before one goes.
    ids.iter().map(find).collect()
}

fn remove(caches: &Caches, chosen: &[Listed], json: bool) -> Result<u8, Problem> {
    let mut exit = Exit::Passed;
    for cache in chosen {
        let removed = caches.drop_listed(cache)?;
        if !removed {
            exit = Exit::Failed;
        }
        let id = &cache.id;
        if json {
            print::standard_output(json!({ "id": id, "removed": removed, "bytes": cache.bytes }))?;
        } else if removed {
            print::standard_error(format_args!("removed `{id}` ({})", Bytes(cache.bytes)));
        } else {
            print::standard_error(format_args!("`{id}` is in use and stays"));
        }
    }
    Ok(exit.code())
}
