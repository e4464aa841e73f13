//! The key of a step: all that what it writes depends on, and nothing else.
//!
//! Limits, log settings and the like are not in it: a step that they stop has made no layer.
//! Caches are not in it either, but for where they are and what a new one is like: a layer must not
//! depend on what happens to be in one, so not on which one it is.

use cofferdam_sandbox::{
    image::Digest,
    network::{Destination, Network, Rule},
};
use serde_json::{Value, json};

use super::{Run, SecretUse};

/// Raised whenever the same instruction comes to other files than before.
const VERSION: u32 = 1;

const ENVIRONMENT: &str = "environment";
/// What messages call what is below a step.
pub(super) const BASE: &str = "the image below it";
/// What messages call what a step does.
pub(super) const DOES: [&str; 2] = ["the command", "the script"];

/// What a step depends on, part by part.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    /// Named, in a fixed order.
    parts: Vec<(&'static str, Value)>,
}

impl Key {
    /// Of a program that runs with all of `env` on the layers of `below`.
    pub(super) fn of_run(
        below: &Digest,
        run: &Run,
        env: &[(String, String)],
        (workdir, user): (&str, &str),
    ) -> Self {
        let files = run
            .files
            .iter()
            .map(|file| json!([file.path, file.mode, Digest::of(&file.content).to_string()]));
        let parts = vec![
            ("version", json!(VERSION)),
            ("base", json!(below.to_string())),
            ("command", json!(run.argv)),
            ("files", files.collect::<Vec<_>>().into()),
            (ENVIRONMENT, json!(env)),
            ("working directory", json!(workdir)),
            ("user", json!(user)),
            ("network", network(&run.network)),
        ];
        Self { parts }
    }

    /// Where it sees more than the image so far, and leaves something aside.
    pub(super) fn and_shown<'a>(
        mut self,
        shown: impl Iterator<Item = &'a Digest>,
        aside: &[String],
    ) -> Self {
        let layers: Vec<String> = shown.map(Digest::to_string).collect();
        if !layers.is_empty() || !aside.is_empty() {
            self.parts.push(("shown", layers.into()));
            self.parts.push(("aside", json!(aside)));
        }
        self
    }

    /// Where it sees secrets: which they are, and never what they are.
    pub(super) fn and_secrets(mut self, secrets: &[SecretUse]) -> Self {
        if !secrets.is_empty() {
            let said = secrets.iter().map(|secret| {
                let SecretUse { id, file, variable, link, value: _ } = secret;
                json!([id, file, variable, link])
            });
            self.parts.push(("secrets", said.collect::<Vec<_>>().into()));
        }
        self
    }

    /// What it is made of, by names for people and digests of the values: enough to say which is new.
    pub(super) fn parts(&self) -> Vec<(String, String)> {
        let mut parts = Vec::new();
        for (name, value) in &self.parts {
            match value.as_array() {
                Some(variables) if *name == ENVIRONMENT => {
                    for variable in variables {
                        let name = variable.get(0).and_then(Value::as_str).unwrap_or_default();
                        parts.push((format!("the variable `{name}`"), short(variable)));
                    }
                }
                _ => parts.push((said(name).to_owned(), short(value))),
            }
        }
        parts
    }

    /// The key itself.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(json!(self.parts).to_string().as_bytes())
    }
}

/// What messages call a part.
fn said(name: &'static str) -> &'static str {
    let [command, script] = DOES;
    match name {
        "version" => "the version of cofferdam",
        "base" => BASE,
        "command" => command,
        "files" => script,
        "working directory" => "the working directory",
        "user" => "the user",
        "network" => "the network",
        "shown" => "what is mounted",
        "aside" => "where it is mounted",
        "secrets" => "its secrets",
        other => other,
    }
}

/// Enough of a digest to tell values of one name apart.
fn short(value: &Value) -> String {
    Digest::of(value.to_string().as_bytes()).hex().chars().take(16).collect()
}

/// A policy as text that stays the same.
fn network(network: &Network) -> Value {
    match network {
        Network::None => json!("none"),
        Network::Full => json!("full"),
        Network::Learn { rules, .. } if rules.is_empty() => json!("full"),
        Network::Learn { rules, .. } => json!(["full", listed(rules)]),
        // The bandwidth changes how long it takes, not what comes.
        Network::Allow { rules, .. } => listed(rules),
    }
}

fn listed(rules: &[Rule]) -> Value {
    let each = rules.iter().map(|rule| {
        let port = rule.port;
        match &rule.destination {
            Destination::Name(name) => format!("{name}:{port}"),
            Destination::Below(name) => format!("*.{name}:{port}"),
            Destination::Block(address, bits) => format!("{address}/{bits}:{port}"),
        }
    });
    each.collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use cofferdam_sandbox::{Limits, ProgramFile};

    use super::*;
    use crate::log::secret::Secret;

    fn plain() -> Run {
        Run {
            argv: vec!["make".to_owned()],
            files: Vec::new(),
            env: Vec::new(),
            workdir: None,
            user: None,
            network: Network::None,
            limits: Limits::default(),
            shown: Vec::new(),
            aside: Vec::new(),
            secrets: Vec::new(),
            caches: Vec::new(),
        }
    }

    #[test]
    fn only_what_a_step_depends_on_changes_its_key() {
        let below = Digest::of(b"base");
        let run = plain();
        let env = [("A".to_owned(), "b".to_owned())];
        let key = |below: &Digest, run: &Run, env: &[(String, String)], place| {
            Key::of_run(below, run, env, place).digest()
        };
        let first = key(&below, &run, &env, ("/", ""));
        let with = |change: fn(&mut Run)| {
            let mut run = run.clone();
            change(&mut run);
            key(&below, &run, &env, ("/", ""))
        };
        assert_eq!(with(|run| run.limits.memory /= 2), first);
        let file = |content: &str| ProgramFile {
            path: "/run/cofferdam/script".to_owned(),
            mode: 0o500,
            content: content.as_bytes().to_vec(),
        };
        let other = [
            with(|run| run.argv.push("all".to_owned())),
            with(|run| run.network = Network::Full),
            {
                let run = Run { files: vec![file("a")], ..run.clone() };
                key(&below, &run, &env, ("/", ""))
            },
            {
                let run = Run { files: vec![file("b")], ..run.clone() };
                key(&below, &run, &env, ("/", ""))
            },
            key(&Digest::of(b"other"), &run, &env, ("/", "")),
            key(&below, &run, &[], ("/", "")),
            key(&below, &run, &env, ("/srv", "")),
            key(&below, &run, &env, ("/", "1000")),
        ];
        for (index, one) in other.iter().enumerate() {
            assert_ne!(*one, first, "{index}");
            assert!(!other[..index].contains(one), "{index}");
        }
    }

    #[test]
    fn what_a_secret_is_changes_no_key() {
        let run = plain();
        let plain = Key::of_run(&Digest::of(b"base"), &run, &[], ("/", ""));
        let with = |id: &str, value: Option<&str>, variable: Option<&str>| {
            let value = value.map(|value| Secret::new(id, value).unwrap());
            let variable = variable.map(str::to_owned);
            let secret =
                SecretUse { id: id.to_owned(), value, file: Some(0o400), variable, link: None };
            let key = plain.clone().and_secrets(&[secret]);
            assert!(!format!("{key:?}").contains("hunter22"));
            key.digest()
        };
        let first = with("token", Some("hunter22"), None);
        assert_eq!(with("token", Some("another one"), None), first);
        assert_eq!(with("token", None, None), first);
        assert_ne!(with("other", Some("hunter22"), None), first);
        assert_ne!(with("token", Some("hunter22"), Some("TOKEN")), first);
        assert_ne!(plain.clone().and_secrets(&[]).digest(), first);
        assert_eq!(plain.clone().and_secrets(&[]), plain);
    }
}
