//! The language as a JSON Schema (draft 2020-12), for editors.
//!
//! A schema sees shapes, not meanings: what it refuses `check` refuses too, and `check` finds more.
//! Each object here has the keys that the decoder knows, which a test holds both to.

use serde_json::{Map, Value, json};

/// What a key may hold, and what it is for.
type Key = (&'static str, Value, &'static str);

/// The schema.
pub fn schema() -> Value {
    let job_names = json!({ "propertyNames": name(), "type": "object" });
    let with = |base: &Value, more: Value| {
        let mut base = base.clone();
        if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
            base.extend(more);
        }
        base
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Cofferdam pipeline",
        "type": "object",
        "additionalProperties": false,
        "properties": properties(vec![
            ("name", nonempty(), "What the run is called."),
            ("env", reference("env"), "Environment of all jobs."),
            ("secrets", one_or_more(variable()), "Names of the secrets that the caller may give."),
            ("params", map_of(reference("param")), "What the caller may choose."),
            ("defaults", reference("defaults"), "What jobs have that do not say otherwise."),
            ("images", map_of(reference("image")), "Images that the pipeline makes."),
            ("include", one_or_more(nonempty()), "Further files of the project, relative to this one."),
            ("jobs", with(&job_names, json!({ "additionalProperties": reference("job"), "minProperties": 1 })), "The jobs."),
        ]),
        "anyOf": [{ "required": ["jobs"] }, { "required": ["include"] }],
        "$defs": definitions(),
    })
}

/// The keys of each object, for the test that compares them with the decoder's.
#[cfg(test)]
fn keys(definition: &str) -> Vec<String> {
    let schema = schema();
    let object = if definition.is_empty() { &schema } else { &schema["$defs"][definition] };
    object["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

fn definitions() -> Value {
    json!({
        "env": { "type": "object", "propertyNames": variable(), "additionalProperties": scalar() },
        "param": object(&[], vec![
            ("default", scalar(), "Taken when the caller does not choose."),
            ("options", json!({ "type": "array", "items": scalar() }), "The only values allowed."),
            ("description", nonempty(), "For people."),
        ]),
        "defaults": object(&[], vec![
            ("image", template(), "The image of jobs that name none."),
            ("pull", pull(), "When images are fetched."),
            ("limits", reference("limits"), "Limits that a job does not set."),
            ("timeout", duration(), "Wall time of a job."),
            ("network", reference("network"), "What a job can reach."),
            ("workspace", workspace(), "How a job sees the project."),
            ("user", template(), "Who a job's processes are: `USER[:GROUP]`."),
            ("workdir", template(), "Where steps start."),
            ("shell", nonempty(), "What runs `run`."),
        ]),
        "image": object(&[], vec![
            ("from", template(), "The image that this one starts from."),
            ("build", reference("build"), "The Dockerfile that makes it."),
            ("network", reference("network"), "What its steps can reach."),
            ("limits", reference("limits"), "What its steps may use."),
            ("timeout", duration(), "Wall time of all its steps."),
            ("steps", json!({ "type": "array", "items": reference("step") }), "What makes it."),
            ("config", reference("config"), "How its containers start."),
        ]),
        "config": object(&[], vec![
            ("env", reference("env"), "Environment."),
            ("labels", reference("env"), "What is said about the image."),
            ("workdir", nonempty(), "Working directory."),
            ("user", scalar(), "Who processes are."),
            ("entrypoint", one_or_more(scalar()), "What a command is passed to."),
            ("cmd", one_or_more(scalar()), "The command."),
        ]),
        "build": json!({ "anyOf": [nonempty(), reference("dockerfile")] }),
        "dockerfile": object(&[], vec![
            ("context", nonempty(), "The directory that it copies from."),
            ("dockerfile", nonempty(), "The file, below that directory."),
            ("target", nonempty(), "The stage to end with."),
            ("args", map_of(scalar()), "Values of its `ARG`s."),
            ("secrets", one_or_more(nonempty()), "Secrets that `RUN --mount=type=secret` can ask for."),
        ]),
        "limits": object(&[], vec![
            ("cpus", quantity(), "Processors, such as 1.5."),
            ("memory", size(), "Memory, such as 512MiB."),
            ("pids", quantity(), "Processes and threads at once."),
            ("disk", size(), "Everything written, such as 4GiB."),
            ("inodes", quantity(), "Files and directories, such as 200k."),
            ("shm", size(), "Shared memory, part of the memory."),
            ("io", json!({ "anyOf": [quantity(), reference("io")] }), "Bandwidth of disks, such as 50MiB/s."),
            ("nofile", quantity(), "Open files per process."),
            ("logs", size(), "Output that is kept."),
        ]),
        "io": object(&[], vec![
            ("read", quantity(), "From disks per second."),
            ("write", quantity(), "To disks per second."),
        ]),
        "network": { "anyOf": [{ "enum": ["none", "services", "full"] }, reference("allowed")] },
        "allowed": object(&["allow"], vec![
            ("allow", json!({ "type": "array", "items": { "type": "string", "pattern": ":[0-9]+$" } }), "`HOST:PORT`, `*.DOMAIN:PORT`, `BLOCK/BITS:PORT`."),
            ("bandwidth", quantity(), "In each direction, such as 20Mbit."),
        ]),
        "secret": { "anyOf": [variable(), reference("secret-form")] },
        "secret-form": object(&["name"], vec![
            ("name", variable(), "Which declared secret."),
            ("as", json!({ "enum": ["env", "file"] }), "As a variable, or as `/run/secrets/NAME`."),
        ]),
        "matrix": {
            "type": "object",
            "properties": {
                "include": { "type": "array", "items": { "type": "object" } },
                "exclude": { "type": "array", "items": { "type": "object" } },
            },
            "additionalProperties": { "type": "array", "minItems": 1 },
        },
        "need": { "anyOf": [name(), reference("need-form")] },
        "need-form": object(&["job"], vec![
            ("job", name(), "Which job."),
            ("artifacts", json!({ "type": "boolean" }), "Whether its artifacts are brought in."),
        ]),
        "ready": with_command(object(&[], vec![
            ("run", script(), "A script that passes when it is up."),
            ("exec", arguments(), "A program that passes when it is up."),
            ("timeout", duration(), "How long it may take."),
            ("interval", duration(), "Between two tries."),
        ])),
        "service": object(&["image"], vec![
            ("image", template(), "What it starts from."),
            ("run", script(), "What it runs, in the shell."),
            ("exec", arguments(), "What it runs, without a shell."),
            ("env", reference("env"), "Its environment."),
            ("limits", reference("limits"), "What it may use."),
            ("user", template(), "Who its processes are."),
            ("ready", reference("ready"), "When it is up."),
        ]),
        "step": with_command(object(&[], vec![
            ("id", name(), "What `steps.ID` calls it."),
            ("name", template(), "What people call it."),
            ("run", script(), "A script for the shell."),
            ("exec", arguments(), "A program and its arguments, without a shell."),
            ("if", condition(), "Whether it runs; `success()` if not said."),
            ("env", reference("env"), "Environment of its own."),
            ("secrets", one_or_more(reference("secret")), "Secrets that it sees beside the job's."),
            ("workdir", template(), "Where it starts."),
            ("shell", nonempty(), "What runs `run`."),
            ("user", template(), "Who its processes are."),
            ("timeout", duration(), "Its wall time."),
            ("image", template(), "The image that it runs in, on the same workspace and network."),
            ("limits", reference("limits"), "What it may use: `cpus`, `memory`, `pids`."),
            ("network", reference("network"), "What it can reach."),
            ("background", json!({ "type": "boolean" }), "Whether it stays up while later steps run."),
            ("ready", reference("ready"), "When a background step is up."),
            ("continue-on-error", json!({ "type": "boolean" }), "Whether its failure lets the job go on."),
        ])),
        "cache": object(&["key", "paths"], vec![
            ("key", template(), "What the content depends on."),
            ("restore", one_or_more(template()), "Beginnings of keys that will do as well."),
            ("paths", one_or_more(template()), "What is kept."),
        ]),
        "artifacts": object(&["paths"], vec![
            ("paths", one_or_more(template()), "Globs relative to the working directory."),
            ("when", json!({ "enum": ["success", "failure", "always"] }), "After which end of the job."),
            ("optional", json!({ "type": "boolean" }), "Whether it is no fault that nothing matches."),
        ]),
        "results": object(&[], vec![("junit", one_or_more(nonempty()), "Globs of JUnit files.")]),
        "retry": object(&["max"], vec![
            ("max", json!({ "type": "integer", "minimum": 1, "maximum": 10 }), "How many times after the first."),
            ("on", one_or_more(json!({ "type": "string", "pattern": "^(system|timeout|memory|failure|exit:[0-9]+)$" })), "For which causes; all if not said."),
            ("backoff", duration(), "Before the second try; twice as long before each further one."),
        ]),
        "job": object(&["steps"], vec![
            ("name", template(), "What people call it."),
            ("image", template(), "What it starts from."),
            ("pull", pull(), "When its images are fetched."),
            ("from", json!({ "type": "string", "minLength": 1 }), "`JOB` or `JOB@STEP`: whose file system it starts in."),
            ("needs", one_or_more(reference("need")), "The jobs that must have ended first."),
            ("if", condition(), "Whether it runs; `success()` if not said."),
            ("matrix", reference("matrix"), "The combinations it runs for."),
            ("parallel", json!({ "type": "integer", "minimum": 1, "maximum": 256 }), "How many copies of it run."),
            ("max-parallel", json!({ "type": "integer", "minimum": 1 }), "How many of them at the same time."),
            ("fail-fast", json!({ "type": "boolean" }), "Whether one failure cancels the others."),
            ("env", reference("env"), "Environment of all its steps."),
            ("secrets", one_or_more(reference("secret")), "The secrets that it sees."),
            ("limits", reference("limits"), "What it may use."),
            ("network", reference("network"), "What it can reach."),
            ("services", map_of(reference("service")), "Containers beside it."),
            ("workspace", workspace(), "How it sees the project."),
            ("user", template(), "Who its processes are."),
            ("workdir", template(), "Where its steps start."),
            ("shell", nonempty(), "What runs `run`."),
            ("steps", json!({ "type": "array", "items": reference("step"), "minItems": 1 }), "What it does, in order."),
            ("cleanup", json!({ "type": "array", "items": reference("step") }), "What it does afterwards, however it ended."),
            ("outputs", map_of(scalar()), "What later jobs can read."),
            ("cache", one_or_more(reference("cache")), "Directories kept between runs."),
            ("artifacts", one_or_more(reference("artifacts")), "Files that come out."),
            ("results", reference("results"), "Test results that are read."),
            ("timeout", duration(), "Wall time of all its steps."),
            ("retry", reference("retry"), "When to try again."),
            ("allow-failure", json!({ "anyOf": [{ "type": "boolean" }, one_or_more(json!({ "type": "integer" }))] }), "Whether its failure fails the run."),
        ]),
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn properties(keys: Vec<Key>) -> Value {
    let mut properties = Map::new();
    for (name, mut value, description) in keys {
        if let Value::Object(value) = &mut value {
            value.insert("description".to_owned(), description.into());
        }
        properties.insert(name.to_owned(), value);
    }
    Value::Object(properties)
}

fn object(required: &[&str], keys: Vec<Key>) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties(keys),
    })
}

/// One of `run` and `exec`, not both.
fn with_command(mut object: Value) -> Value {
    if let Value::Object(object) = &mut object {
        let one = json!([{ "required": ["run"] }, { "required": ["exec"] }]);
        object.insert("oneOf".to_owned(), one);
    }
    object
}

fn map_of(values: Value) -> Value {
    json!({ "type": "object", "additionalProperties": values })
}

/// A list, or the one value that stands for a list of one.
fn one_or_more(items: Value) -> Value {
    json!({ "anyOf": [items.clone(), { "type": "array", "items": items }] })
}

fn scalar() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// Text in which `${{ … }}` may be.
fn template() -> Value {
    json!({ "type": ["string", "number"] })
}

fn script() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn arguments() -> Value {
    json!({ "type": "array", "items": scalar(), "minItems": 1 })
}

fn nonempty() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn condition() -> Value {
    json!({ "type": ["string", "boolean"] })
}

fn duration() -> Value {
    json!({ "type": "string", "pattern": "^[0-9]" })
}

fn size() -> Value {
    json!({ "type": ["string", "integer"] })
}

fn quantity() -> Value {
    json!({ "type": ["string", "number"] })
}

fn pull() -> Value {
    let words: Vec<&str> = crate::model::PullPolicy::WORDS.iter().map(|(word, _)| *word).collect();
    json!({ "enum": words })
}

fn workspace() -> Value {
    json!({ "enum": ["cow", "none", "git"] })
}

fn name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]*$", "maxLength": 64 })
}

fn variable() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::KEYS;

    #[test]
    fn every_object_has_the_keys_that_are_read() {
        for (definition, known) in KEYS {
            let mut known: Vec<&str> = known.to_vec();
            known.sort_unstable();
            let mut keys = keys(definition);
            keys.sort_unstable();
            assert_eq!(keys, known, "{definition:?}");
        }
    }
}
