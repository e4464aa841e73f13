//! `cofferdam doctor --json`: what machines are told of this host.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{
    binary::{Cofferdam, program, wait},
    host::{Need, is_root, needs},
};

/// What it is asked for on every host, in this order; others may stand between them.
const ITEMS: [&str; 12] = [
    "kernel",
    "privileges",
    "user namespaces",
    "limit nofile",
    "limit memory",
    "limit pids",
    "limit cpus",
    "limit disk, inodes",
    "networks",
    "supervisor",
    "earlier runs",
    "a container",
];

/// Its items, after a look at all that holds whatever the host is: the form, a remedy for whatever is
/// not good and for nothing else, and the verdict and the exit status that follow from them.
#[track_caller]
fn items(mut command: Command) -> Vec<Value> {
    let ended = wait(command.spawn().expect("start cofferdam"));
    let said: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let items = said["items"].as_array().expect("a list").clone();
    let mut expected = ITEMS.iter();
    let mut next = expected.next();
    for item in &items {
        let keys: Vec<_> = item.as_object().expect("an object").keys().collect();
        assert_eq!(keys.len(), 4, "{item}");
        let text = |key: &str| item[key].as_str().unwrap_or_else(|| panic!("no `{key}`: {item}"));
        assert!(!text("item").is_empty() && !text("detail").is_empty(), "{item}");
        let is_good = match text("standing") {
            "good" => true,
            "limited" | "missing" => false,
            other => panic!("`{other}` is no standing"),
        };
        assert_eq!(item["remedy"].is_null(), is_good, "{item}");
        assert!(is_good || !text("remedy").is_empty(), "{item}");
        if next.is_some_and(|name| *name == text("item")) {
            next = expected.next();
        }
    }
    assert_eq!(next, None, "not in {said}");
    let able = items.iter().all(|item| item["standing"] != "missing");
    assert_eq!(said["able"], able, "{said}");
    assert_eq!(ended.status, if able { 0 } else { 70 }, "{said}");
    items
}

/// It, run by another program.
fn below(cofferdam: &Cofferdam, name: &str, arguments: &[&str]) -> Command {
    let plain = cofferdam.command(["doctor", "--json"]);
    let mut command = program(name);
    command.args(arguments).arg(plain.get_program()).args(plain.get_args()).env_clear();
    for (name, value) in plain.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn item<'list>(items: &'list [Value], name: &str) -> &'list Value {
    let mut named = items.iter().filter(|item| item["item"] == name);
    let found = named.next().unwrap_or_else(|| panic!("no item `{name}`"));
    assert!(named.next().is_none(), "`{name}` is told twice");
    found
}

#[test]
fn every_item_has_its_state_and_its_remedy() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::new();
    let items = items(cofferdam.command(["doctor", "--json"]));
    let privileges = item(&items, "privileges");
    assert_eq!(privileges["standing"], "good");
    if is_root() {
        assert_eq!(privileges["detail"], "root");
        assert!(items.iter().all(|item| item["item"] != "subordinate ids"));
        assert_eq!(item(&items, "a container")["standing"], "good");
    } else {
        let user = format!("rootless, as user {}", nix::unistd::geteuid());
        assert_eq!(privileges["detail"], user);
        assert_ne!(item(&items, "subordinate ids")["standing"], "missing");
    }
    // For people it is the same.
    let able = items.iter().all(|item| item["standing"] != "missing");
    let verdict = if able { "jobs can run with hard limits" } else { "no job can run here" };
    let told = cofferdam.run(["doctor"]).expect(if able { 0 } else { 70 });
    assert!(told.stdout.ends_with(&format!("\n{verdict}\n")), "{}", told.stdout);
    for item in &items {
        assert!(told.stdout.contains(item["item"].as_str().expect("a name")), "{}", told.stdout);
    }
    // What protects the supervisor is no condition of a job's.
    assert_ne!(item(&items, "supervisor")["standing"], "missing");
    // Others may clear up at this moment; of these there was none.
    let earlier = item(&items, "earlier runs");
    assert_ne!(earlier["standing"], "missing", "{earlier}");
    let state = cofferdam.state().display().to_string();
    assert!(earlier["detail"].as_str().is_some_and(|it| !it.contains(&state)), "{earlier}");
}

/// One thing that every job needs is enough: the host then cannot, and says so in its exit status.
#[test]
fn what_no_job_can_do_without_is_missing() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::new();
    let items = items(below(&cofferdam, "prlimit", &["--nofile=1000:1000"]));
    let limit = item(&items, "limit nofile");
    assert_eq!(limit["standing"], "missing");
    assert!(limit["detail"].as_str().is_some_and(|it| it.contains("1000")), "{limit}");
}

/// Without the right to make itself a late victim, and without a claim on memory, root is told so.
#[test]
fn a_supervisor_that_nothing_protects() {
    needs!(Need::Containers, Need::Root, Need::Program("setpriv"));
    let cofferdam = Cofferdam::new();
    let without = ["--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "--"];
    let items = items(below(&cofferdam, "setpriv", &without));
    let supervisor = item(&items, "supervisor");
    let detail = supervisor["detail"].as_str().expect("text");
    assert!(!detail.contains("killed late"), "{supervisor}");
}
