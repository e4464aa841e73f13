//! A plan for people and for programs: table, tree, graph, JSON.

use std::fmt::Write as _;

use cofferdam_jobs::{
    Plan, Sources,
    model::{Network, Step, Workspace, quantity::written_duration},
    plan::{PlannedDockerfile, PlannedJob},
};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{
    forecast,
    quantity::{Bytes, count, cpus},
    style::one_line,
};
use crate::{build::Forecast, execute::forecast::Forecasts};

/// Columns of the table.
const WIDTH: u16 = 100;
/// How deep the tree is drawn; what is deeper goes on at the left, or a chain of jobs would take
/// room with the square of its length.
const DEPTH: usize = 24;

/// A row for each job, and for each image what of it is there already.
pub(crate) fn table(plan: &Plan, forecasts: &Forecasts) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(["JOB", "STARTS FROM", "AFTER", "STEPS", "LIMITS", "TIMEOUT"]);
    for job in &plan.jobs {
        table.add_row([
            one_line(&job.name),
            one_line(&starts_from(plan, job)),
            needs(plan, job).join(", "),
            job.source.steps.len().to_string(),
            limits(job),
            written_duration(job.timeout),
        ]);
    }
    let jobs = count(plan.jobs.len() as u64, "job");
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    let mut text = format!("{}\n\n{jobs}\n", lines.join("\n"));
    for job in &plan.jobs {
        let Some(forecasts) = forecasts.get(&job.id) else { continue };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "\n{}", one_line(&job.name));
        for (index, (step, forecast)) in job.source.steps.iter().zip(forecasts).enumerate() {
            let _ = writeln!(text, "  step {}: {}", index + 1, one_line(&step.label(index)));
            for said in forecast::lines(forecast) {
                let _ = writeln!(text, "    {said}");
            }
        }
    }
    text
}

/// What a job starts from: an image, or another's file system.
pub(crate) fn starts_from(plan: &Plan, job: &PlannedJob) -> String {
    match &job.from {
        None => match job.dockerfile() {
            Some(file) => file.path(),
            None => job.image.clone().unwrap_or_else(|| "host".to_owned()),
        },
        Some(from) => {
            let parent = plan.jobs.get(from.job).map_or("?", |job| job.name.as_str());
            match &from.step {
                None => format!("the end of {parent}"),
                Some(step) => format!("{parent} after {step}"),
            }
        }
    }
}

/// The ids of the jobs of the file that a job needs.
pub(crate) fn needs<'p>(plan: &'p Plan, job: &PlannedJob) -> Vec<&'p str> {
    let group = plan.group(job.group);
    let needs = group.into_iter().flat_map(|group| &group.needs);
    needs.filter_map(|need| Some(plan.group(need.group)?.id.as_str())).collect()
}

fn limits(job: &PlannedJob) -> String {
    let cpus = job.limits.millicpus.as_ref().map(|limit| format!("{} cpu", cpus(limit.value)));
    let memory = job.limits.memory.as_ref().map(|memory| Bytes(memory.value).to_string());
    cpus.into_iter().chain(memory).collect::<Vec<_>>().join(", ")
}

/// Each job of the file below the one that it waits for longest; those that it waits for as well
/// stand beside it.
pub(crate) fn tree(plan: &Plan) -> String {
    let depth = depths(plan);
    let parents: Vec<Option<usize>> = plan
        .groups
        .iter()
        .zip(&depth)
        .map(|(group, level)| {
            let needs = group.needs.iter().map(|need| need.group);
            let last = needs.max_by_key(|need| (depth.get(*need), std::cmp::Reverse(*need)));
            last.filter(|_| level % DEPTH != 0)
        })
        .collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); plan.groups.len()];
    let mut roots = Vec::new();
    for (index, parent) in parents.iter().enumerate() {
        match parent.and_then(|parent| children.get_mut(parent)) {
            Some(siblings) => siblings.push(index),
            None => roots.push(index),
        }
    }
    let mut text = String::new();
    // The lines still to be written, the next one last: what stands before its children, and it.
    let mut waiting: Vec<(String, String, usize)> =
        roots.into_iter().rev().map(|root| (String::new(), String::new(), root)).collect();
    while let Some((before, lead, index)) = waiting.pop() {
        let Some(group) = plan.group(index) else { continue };
        let many = group.jobs.len();
        let times = if many == 1 { String::new() } else { format!(" ×{many}") };
        let parent = parents.get(index).copied().flatten();
        let others: Vec<&str> = group
            .needs
            .iter()
            .filter(|need| Some(need.group) != parent)
            .filter_map(|need| Some(plan.group(need.group)?.id.as_str()))
            .collect();
        let others = match (others.join(", "), parent) {
            (others, _) if others.is_empty() => others,
            (others, Some(_)) => format!(" (also after {others})"),
            (others, None) => format!(" (after {others})"),
        };
        let fork = if group.source.from.is_some() { ", from its file system" } else { "" };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{before}{lead}{}{times}{fork}{others}", group.id);
        let below = match lead.as_str() {
            "" => String::new(),
            "└─ " => format!("{before}   "),
            _ => format!("{before}│  "),
        };
        let mine = children.get(index).map(Vec::as_slice).unwrap_or_default();
        for (position, child) in mine.iter().enumerate().rev() {
            let lead = if position + 1 == mine.len() { "└─ " } else { "├─ " };
            waiting.push((below.clone(), lead.to_owned(), *child));
        }
    }
    text
}

/// How many jobs of the file come one after the other before each.
fn depths(plan: &Plan) -> Vec<usize> {
    let mut depths: Vec<usize> = Vec::with_capacity(plan.groups.len());
    for group in &plan.groups {
        let needs = group.needs.iter().filter_map(|need| depths.get(need.group));
        depths.push(needs.max().map_or(0, |depth| depth + 1));
    }
    depths
}

/// For Graphviz (the DOT language).
pub(crate) fn dot(plan: &Plan) -> String {
    let quoted = |text: &str| {
        let escaped = one_line(text).replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    };
    let mut text = String::from("digraph pipeline {\n  rankdir = LR;\n  node [shape = box];\n");
    for group in &plan.groups {
        let label = match group.jobs.len() {
            1 => group.id.clone(),
            many => format!("{} ×{many}", group.id),
        };
        let _ = writeln!(text, "  {} [label = {}];", quoted(&group.id), quoted(&label));
    }
    for (from, to, fork) in edges(plan) {
        let style = if fork { " [style = bold]" } else { "" };
        let id = |index: usize| plan.group(index).map_or("", |group| group.id.as_str());
        let _ = writeln!(text, "  {} -> {}{style};", quoted(id(from)), quoted(id(to)));
    }
    text.push_str("}\n");
    text
}

/// For Mermaid flowcharts.
pub(crate) fn mermaid(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    for (index, group) in plan.groups.iter().enumerate() {
        let times = match group.jobs.len() {
            1 => String::new(),
            many => format!(" ×{many}"),
        };
        let label = one_line(&group.id).replace('"', "#quot;");
        let _ = writeln!(text, "  j{index}[\"{label}{times}\"]");
    }
    for (from, to, fork) in edges(plan) {
        let arrow = if fork { "==>" } else { "-->" };
        let _ = writeln!(text, "  j{from} {arrow} j{to}");
    }
    text
}

/// What waits for what, by their places in the plan, and whether it starts in its file system.
fn edges(plan: &Plan) -> impl Iterator<Item = (usize, usize, bool)> {
    plan.groups.iter().enumerate().flat_map(move |(index, group)| {
        let forked = group.source.from.as_ref().map(|from| &from.job.value);
        group.needs.iter().map(move |need| {
            let needed = plan.group(need.group).map(|needed| &needed.id);
            (need.group, index, forked.is_some() && forked == needed)
        })
    })
}

/// All of it. Secrets have no value in a plan, so none can be here.
pub(crate) fn json(plan: &Plan, sources: &Sources, forecasts: &Forecasts) -> Value {
    let jobs = plan.jobs.iter().map(|job| {
        let source = &job.source;
        let limit =
            |limit: &Option<cofferdam_jobs::Spanned<u64>>| limit.as_ref().map(|it| it.value);
        let group = plan.group(job.group);
        json!({
            "id": job.id,
            "name": job.name,
            "job": source.id.value,
            "matrix": job.matrix.to_json(),
            "index": job.index,
            "total": job.total,
            "image": match job.from.is_some() || job.dockerfile().is_some() {
                true => job.image.as_deref(),
                false => Some(job.image.as_deref().unwrap_or("host")),
            },
            "dockerfile": job.dockerfile().map(PlannedDockerfile::path),
            "from": job.from.as_ref().map(|from| json!({
                "job": plan.jobs.get(from.job).map(|job| job.id.as_str()),
                "step": from.step,
            })),
            "needs": needs(plan, job),
            "if": source.condition.as_ref().map(|it| sources.text(it.expr().span)),
            "weight_ms": group.map(|group| milliseconds(group.weight)),
            "timeout_ms": milliseconds(job.timeout),
            "limits": {
                "millicpus": limit(&job.limits.millicpus),
                "memory": limit(&job.limits.memory),
                "pids": limit(&job.limits.pids),
                "disk": limit(&job.limits.disk),
                "inodes": limit(&job.limits.inodes),
                "nofile": limit(&job.limits.nofile),
                "logs": limit(&job.limits.logs),
            },
            "network": network(&job.network),
            "workspace": workspace(job.workspace),
            "user": job.user,
            "workdir": job.workdir,
            "services": job.services.iter().map(|service| json!({
                "name": service.name, "image": service.image,
            })).collect::<Vec<_>>(),
            "steps": steps(&source.steps, job, false, sources, forecasts.get(&job.id)),
            "cleanup": steps(&source.cleanup, job, true, sources, None),
        })
    });
    json!({
        "schema": 1,
        "name": plan.name,
        "params": plan.params.to_json(),
        "secrets": plan.secrets,
        "jobs": jobs.collect::<Vec<_>>(),
    })
}

fn steps(
    steps: &[Step],
    job: &PlannedJob,
    cleanup: bool,
    sources: &Sources,
    forecasts: Option<&Vec<Forecast>>,
) -> Vec<Value> {
    let each = |(index, step): (usize, &Step)| {
        let mut said = json!({
            "id": step.id.as_ref().map(|id| id.value.as_str()),
            "name": step.label(index),
            "if": step.condition.as_ref().map(|it| sources.text(it.expr().span)),
            "image": job.step_image(cleanup, index),
            "timeout_ms": step.timeout.as_ref().map(|timeout| milliseconds(timeout.value)),
            "background": step.background.as_ref().is_some_and(|it| it.value),
        });
        if let (Some(said), Some(forecast)) =
            (said.as_object_mut(), forecasts.and_then(|forecasts| forecasts.get(index)))
        {
            said.insert("layer".to_owned(), forecast::json(forecast));
        }
        said
    };
    steps.iter().enumerate().map(each).collect()
}

pub(crate) fn network(network: &Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Services(_) => "services",
        Network::Full(_) => "full",
        Network::Allow { .. } => "allow",
    }
}

pub(crate) fn workspace(workspace: Workspace) -> &'static str {
    match workspace {
        Workspace::Cow => "cow",
        Workspace::None => "none",
        Workspace::Git => "git",
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use cofferdam_jobs::{Inputs, parse, plan};

    use super::*;

    const PIPELINE: &str = "\
jobs:
  lint: { image: 'debian:12', steps: [{ run: x }] }
  build: { limits: { cpus: 1.5, memory: 1GiB }, steps: [{ run: make, id: make }, { run: more }] }
  test: { from: build@make, matrix: { a: [1, 2] }, timeout: 90s, steps: [{ run: y }] }
  late: { needs: [lint, test], steps: [{ run: z }] }
  last: { needs: late, if: always(), steps: [{ name: \"for ${{ run.id }}\", run: z, if: failure() }] }
";

    fn planned() -> (Plan, Sources) {
        let mut sources = Sources::new();
        let id = sources.add("a.yml", PIPELINE.as_bytes());
        let pipeline = parse(&sources, id).pipeline.unwrap();
        (plan(&pipeline, &Inputs::default()).unwrap(), sources)
    }

    #[test]
    fn plans_are_printed() {
        let (plan, sources) = planned();
        let json =
            serde_json::to_string_pretty(&json(&plan, &sources, &Forecasts::new())["jobs"][5])
                .unwrap();
        let all = [table(&plan, &Forecasts::new()), tree(&plan), dot(&plan), mermaid(&plan), json];
        insta::assert_snapshot!(all.join("\n----\n"));
    }

    #[test]
    fn what_is_kept_of_images_is_printed() {
        let (plan, sources, forecasts) = forecast::sample();
        let document = json(&plan, &sources, &forecasts);
        let steps = document["jobs"][0]["steps"].as_array().unwrap();
        let layers: Vec<String> = steps.iter().map(|step| step["layer"].to_string()).collect();
        let all = [table(&plan, &forecasts), layers.join("\n")];
        insta::assert_snapshot!(all.join("----\n"));
    }

    /// Names may hold anything that is no control character; ids are words.
    #[test]
    fn names_take_over_neither_table_nor_graph() {
        let yaml = "jobs:\n  a: { name: \"x\\\"]; y -> z [label=\\\"\\u202e<b>\\n\", steps: [{ run: x }] }\n  \
                    b.c_d-e: { needs: a, name: '\"]-->j9', steps: [{ run: x }] }\n";
        let mut sources = Sources::new();
        let id = sources.add("a.yml", yaml.as_bytes());
        let plan = plan(&parse(&sources, id).pipeline.unwrap(), &Inputs::default()).unwrap();
        insta::assert_snapshot!(
            [table(&plan, &Forecasts::new()), tree(&plan), dot(&plan), mermaid(&plan)].join("\n")
        );
    }

    #[test]
    fn a_long_chain_is_drawn_in_room_that_grows_with_its_length() {
        let mut yaml = String::from("jobs:\n  j0: { steps: [{ run: x }] }\n");
        for job in 1..1000 {
            let before = job - 1;
            let _ = writeln!(yaml, "  j{job}: {{ needs: j{before}, steps: [{{ run: x }}] }}");
        }
        let mut sources = Sources::new();
        let id = sources.add("a.yml", yaml.as_bytes());
        let plan = plan(&parse(&sources, id).pipeline.unwrap(), &Inputs::default()).unwrap();
        let tree = tree(&plan);
        assert_eq!(tree.lines().count(), 1000);
        assert!(tree.lines().all(|line| line.chars().count() < 100));
        assert!(tree.contains("\nj24 (after j23)\n└─ j25\n   └─ j26\n"), "{tree}");
        assert_eq!(mermaid(&plan).matches("-->").count(), 999);
        assert_eq!(dot(&plan).matches("->").count(), 999);
    }
}
