//! The configuration of an image in the making: a JSON document, changed step by step.
//!
//! What no step mentions stays as the image that it starts from has it, known here or not.

use serde_json::{Map, Value, json};

/// A change of how containers of an image are started (OCI image specification, "Image
/// Configuration").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Sets a variable.
    Env(String, String),
    /// Where programs start: an absolute path.
    Workdir(String),
    /// Who programs are: `user[:group]`.
    User(String),
    /// What a command is passed to. The command that the image had goes with the old one.
    Entrypoint(Vec<String>),
    /// The command.
    Cmd(Vec<String>),
    /// Something said about the image.
    Label(String, String),
    /// A port that its programs listen on: `8080/tcp`.
    Expose(String),
    /// A directory that is not part of the image.
    Volume(String),
    /// What runs scripts, in images of Docker's making.
    Shell(Vec<String>),
    /// The signal that ends its programs.
    StopSignal(String),
    /// Who made it.
    Author(String),
    /// What says whether a container is well, in images of Docker's making.
    Health(Value),
    /// An instruction for images that are built on this one, in images of Docker's making.
    Trigger(String),
}

/// The configuration so far.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    document: Map<String, Value>,
    /// Of what this build did.
    history: Vec<Value>,
}

impl Configuration {
    /// Begins with that of another image, of `layers` layers.
    pub(super) fn new(document: &str, layers: usize) -> Result<Self, serde_json::Error> {
        let mut document: Map<String, Value> = serde_json::from_str(document)?;
        // What is only of the other image, or of the engine that made it.
        for key in ["container", "container_config", "docker_version", "id", "parent"] {
            document.remove(key);
        }
        let mut history = match document.remove("history") {
            Some(Value::Array(history)) => history,
            _ => Vec::new(),
        };
        // Readers match entries with layers by their order, so each layer needs one.
        let told = history.iter().filter(|entry| entry.get("empty_layer") != Some(&json!(true)));
        for _ in told.count()..layers {
            history.push(json!({ "comment": "of the image that this one was made from" }));
        }
        Ok(Self { document, history })
    }

    /// Makes a change.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Env(name, value) => {
                let mut env = self.env();
                match env.iter_mut().find(|(known, _)| known == name) {
                    Some((_, old)) => old.clone_from(value),
                    None => env.push((name.clone(), value.clone())),
                }
                let env = env.into_iter().map(|(name, value)| format!("{name}={value}"));
                self.set("Env", env.collect::<Vec<_>>().into());
            }
            Change::Workdir(path) => self.set("WorkingDir", path.as_str().into()),
            Change::User(user) => self.set("User", user.as_str().into()),
            Change::Entrypoint(argv) => {
                self.set("Entrypoint", argv.clone().into());
                self.set("Cmd", Value::Null);
            }
            Change::Cmd(argv) => self.set("Cmd", argv.clone().into()),
            Change::Label(name, value) => self.put("Labels", name, value.as_str().into()),
            Change::Expose(port) => self.put("ExposedPorts", port, json!({})),
            Change::Volume(path) => self.put("Volumes", path, json!({})),
            Change::Shell(argv) => self.set("Shell", argv.clone().into()),
            Change::StopSignal(signal) => self.set("StopSignal", signal.as_str().into()),
            Change::Health(check) => self.set("Healthcheck", check.clone()),
            Change::Trigger(instruction) => {
                let mut triggers = self.texts("OnBuild");
                triggers.push(instruction.clone());
                self.set("OnBuild", triggers.into());
            }
            Change::Author(author) => {
                self.document.insert("author".to_owned(), author.as_str().into());
            }
        }
    }

    /// The variables, in their order.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let pair = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        };
        self.texts("Env").iter().map(pair).collect()
    }

    /// Where programs start; `/` where nothing says.
    pub(crate) fn workdir(&self) -> String {
        match self.text("WorkingDir") {
            path if path.is_empty() => "/".to_owned(),
            path => path,
        }
    }

    /// Who programs are; empty for root.
    pub(crate) fn user(&self) -> String {
        self.text("User")
    }

    /// What runs scripts, where the image says.
    pub(crate) fn shell(&self) -> Option<Vec<String>> {
        Some(self.texts("Shell")).filter(|shell| !shell.is_empty())
    }

    /// Takes the instructions for images that are built on this one away.
    pub(super) fn take_triggers(&mut self) -> Vec<String> {
        let triggers = self.texts("OnBuild");
        self.set("OnBuild", Value::Null);
        triggers
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.document.get("config")?.get(key)
    }

    fn text(&self, key: &str) -> String {
        self.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let values = self.get(key).and_then(Value::as_array).into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }

    fn fields(&mut self) -> Option<&mut Map<String, Value>> {
        let config = self.document.entry("config").or_insert_with(|| json!({}));
        if !config.is_object() {
            *config = json!({});
        }
        config.as_object_mut()
    }

    fn set(&mut self, key: &str, value: Value) {
        let Some(fields) = self.fields() else { return };
        match value {
            Value::Null => drop(fields.remove(key)),
            value => drop(fields.insert(key.to_owned(), value)),
        }
    }

    fn put(&mut self, key: &str, name: &str, value: Value) {
        let Some(fields) = self.fields() else { return };
        let inner = fields.entry(key).or_insert_with(|| json!({}));
        if !inner.is_object() {
            *inner = json!({});
        }
        if let Some(inner) = inner.as_object_mut() {
            inner.insert(name.to_owned(), value);
        }
    }

    /// Adds what a step did to the history; `created` is an RFC 3339 time.
    pub(super) fn tell(&mut self, created: &str, created_by: &str, comment: &str, layer: bool) {
        let mut entry = json!({ "created": created, "created_by": created_by, "comment": comment });
        if let (false, Some(entry)) = (layer, entry.as_object_mut()) {
            entry.insert("empty_layer".to_owned(), true.into());
        }
        self.history.push(entry);
    }

    /// The document of the image, made at `created`.
    pub(super) fn document(&self, created: &str) -> String {
        let mut document = self.document.clone();
        document.insert("created".to_owned(), created.into());
        document.insert("history".to_owned(), self.history.clone().into());
        Value::Object(document).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_add_to_what_is_there() {
        let base = json!({
            "architecture": "amd64",
            "os": "linux",
            "docker_version": "1",
            "config": {
                "Env": ["PATH=/bin", "A=old=er"],
                "Cmd": ["sh"],
                "Labels": null,
                "Healthcheck": { "Test": ["NONE"] },
            },
            "history": [{ "created_by": "base" }, { "empty_layer": true }],
        });
        let mut configuration = Configuration::new(&base.to_string(), 2).unwrap();
        assert_eq!(configuration.workdir(), "/");
        for change in [
            Change::Env("A".into(), "new".into()),
            Change::Env("B".into(), "=".into()),
            Change::Workdir("/srv".into()),
            Change::User("1000".into()),
            Change::Entrypoint(vec!["/app".into()]),
            Change::Label("a".into(), "b".into()),
            Change::Expose("80/tcp".into()),
            Change::Volume("/data".into()),
            Change::Shell(vec!["/bin/sh".into(), "-c".into()]),
            Change::StopSignal("SIGINT".into()),
            Change::Author("me".into()),
            Change::Health(json!({ "Test": ["CMD", "true"] })),
            Change::Trigger("RUN a".into()),
            Change::Trigger("RUN b".into()),
        ] {
            configuration.apply(&change);
        }
        configuration.tell("1980-01-01T00:00:00Z", "RUN make", "cofferdam", true);
        configuration.tell("1980-01-01T00:00:00Z", "USER 1000", "cofferdam", false);
        let document = configuration.document("1980-01-01T00:00:00Z");
        let document: Value = serde_json::from_str(&document).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
    }
}
