//! `cofferdam doctor`: what this host can enforce, and what to do about the rest.

use std::{fmt::Write as _, io, path::Path, sync::Arc, time::Instant};

use anstyle::{AnsiColor, Style};
use cofferdam_sandbox::{
    ContainerSpec, Program, Sandbox, Streams,
    host_report::{self, Item, Standing},
    image::Store,
    residue,
    spawner::Spawner,
    with_causes,
};
use serde_json::json;

use crate::{exit::Exit, print, problem::Problem, report::style::wants_colour};

/// Examines the host and tries a container; ends with [`Exit::System`] when no job can run.
pub(super) async fn run(json: bool, state: &Path, spawner: Spawner) -> Result<u8, Problem> {
    let mut items = host_report::examine(state);
    items.push(left_behind(state));
    items.push(trial(state, spawner).await);
    let able = items.iter().all(|item| item.standing != Standing::Missing);
    if json {
        let list: Vec<_> = items
            .iter()
            .map(|item| {
                json!({
                    "item": item.name,
                    "standing": word(item.standing),
                    "detail": item.detail,
                    "remedy": item.remedy,
                })
            })
            .collect();
        print::standard_output(json!({ "able": able, "items": list }))?;
    } else {
        print::standard_output(table(&items, able))?;
    }
    Ok(if able { Exit::Passed } else { Exit::System }.code())
}

/// What earlier runs have left on this host.
fn left_behind(state: &Path) -> Item {
    const SHOWN: usize = 3;
    let name = "earlier runs".to_owned();
    let (standing, detail) = match residue::collect(state, true) {
        Err(error) => (Standing::Limited, with_causes(&error)),
        Ok(found) => {
            let all: Vec<String> =
                found.removed.iter().chain(&found.left).map(ToString::to_string).collect();
            if all.is_empty() {
                let detail = "nothing was left behind".to_owned();
                return Item { name, standing: Standing::Good, detail, remedy: None };
            }
            let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
            let more = all.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            (Standing::Limited, format!("left behind: {shown}{more}"))
        }
    };
    let remedy = Some("`cofferdam gc` removes it, or says what holds it".to_owned());
    Item { name, standing, detail, remedy }
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Good => "good",
        Standing::Limited => "limited",
        Standing::Missing => "missing",
    }
}

fn table(items: &[Item], able: bool) -> String {
    let mut text = String::new();
    let colour = wants_colour(&io::stdout());
    let width = items.iter().map(|item| item.name.len()).max().unwrap_or(0);
    for item in items {
        let (symbol, shade) = match item.standing {
            Standing::Good => ('✓', AnsiColor::Green),
            Standing::Limited => ('○', AnsiColor::Yellow),
            Standing::Missing => ('✗', AnsiColor::Red),
        };
        let style = if colour { Style::new().fg_color(Some(shade.into())) } else { Style::new() };
        writeln!(text, "{style}{symbol}{style:#} {:width$}  {}", item.name, item.detail).ok();
        if let Some(remedy) = &item.remedy {
            writeln!(text, "  {:width$}  → {remedy}", "").ok();
        }
    }
    let verdict = if able { "jobs can run with hard limits" } else { "no job can run here" };
    text + "\n" + verdict
}

/// Puts one container up, runs `true` in it, and takes it down.
async fn trial(state: &Path, spawner: Spawner) -> Item {
    let name = "a container".to_owned();
    let began = Instant::now();
    match try_container(state, spawner).await {
        Ok(()) => Item {
            name,
            standing: Standing::Good,
            detail: format!("up, verified and down in {:.1?}", began.elapsed()),
            remedy: None,
        },
        Err(problem) => Item {
            name,
            standing: Standing::Missing,
            detail: problem.to_string(),
            remedy: Some(problem.remedy_text().unwrap_or("mend what is named above").to_owned()),
        },
    }
}

async fn try_container(state: &Path, spawner: Spawner) -> Result<(), Problem> {
    let sandbox = Sandbox::open(spawner, state)?;
    let result = in_sandbox(&sandbox, state).await;
    let residue = sandbox.close().await;
    match residue.first() {
        Some(left) => result.and(Err(Problem::new(Exit::System, format!("left behind: {left}"))
            .remedy("`cofferdam gc` tries again to remove it"))),
        None => result,
    }
}

async fn in_sandbox(sandbox: &Sandbox, state: &Path) -> Result<(), Problem> {
    let image = Store::open(state)?.get("host")?;
    let container = sandbox.create(ContainerSpec::new(Arc::new(image))).await?;
    let streams = Streams::null()
        .map_err(|error| Problem::new(Exit::System, "failed to open `/dev/null`").because(error))?;
    let mut process = container.start(Program::new(["/bin/sh", "-c", ":"]), streams, None).await?;
    let exit = process.wait().await?;
    container.end().await?;
    if exit.code() == Some(0) {
        Ok(())
    } else {
        Err(Problem::new(Exit::System, format!("`sh -c :` ended with {exit:?}")))
    }
}
