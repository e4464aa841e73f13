//! The key of a step: all that what it writes depends on, and nothing else.
//!
//! Limits, log settings and the like are not in it: a step that they stop has made no layer.

use cofferdam_sandbox::{
    image::{Digest, LayerDir},
    network::{Destination, Network, Rule},
};
use serde_json::{Value, json};

use super::Run;

/// Raised whenever the same instruction comes to other files than before.
const VERSION: u32 = 1;

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
            ("environment", json!(env)),
            ("working directory", json!(workdir)),
            ("user", json!(user)),
            ("network", network(&run.network)),
        ];
        Self { parts }
    }

    /// Where it sees more than the image so far, and leaves something aside.
    pub(super) fn and_shown(mut self, shown: &[LayerDir], aside: &[String]) -> Self {
        if !shown.is_empty() || !aside.is_empty() {
            let layers = shown.iter().map(|layer| layer.diff_id.to_string());
            self.parts.push(("shown", layers.collect::<Vec<_>>().into()));
            self.parts.push(("aside", json!(aside)));
        }
        self
    }

    /// The key itself.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(json!(self.parts).to_string().as_bytes())
    }
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

    #[test]
    fn only_what_a_step_depends_on_changes_its_key() {
        let below = Digest::of(b"base");
        let run = Run {
            argv: vec!["make".to_owned()],
            files: Vec::new(),
            env: Vec::new(),
            workdir: None,
            user: None,
            network: Network::None,
            limits: Limits::default(),
            shown: Vec::new(),
            aside: Vec::new(),
        };
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
}
