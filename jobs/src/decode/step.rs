//! Steps and the commands in them.

use super::decoder::{Decoder, Fields};
use crate::{
    model::{Command, Step},
    yaml::{Kind, Node},
};

pub(super) const STEP: &[&str] = &[
    "id",
    "name",
    "run",
    "exec",
    "if",
    "env",
    "secrets",
    "workdir",
    "shell",
    "user",
    "timeout",
    "image",
    "limits",
    "network",
    "background",
    "ready",
    "continue-on-error",
];

impl<'t> Decoder<'t> {
    pub(super) fn steps(&mut self, node: &'t Node<'t>) -> Vec<Step> {
        self.list(node, "a list of steps").into_iter().filter_map(|item| self.step(item)).collect()
    }

    fn step(&mut self, node: &'t Node<'t>) -> Option<Step> {
        let fields = self.fields(node, "a step", STEP)?;
        let command = self.command(&fields);
        if !fields.has("run") && !fields.has("exec") {
            self.missing(node.span, "a step", "run", "add `run: SCRIPT` or `exec: [PROGRAM, …]`");
        }
        let step = Step {
            id: fields.get("id").and_then(|node| self.nonempty(node, "the id")),
            name: fields.get("name").and_then(|node| self.template(node)),
            condition: fields.get("if").and_then(|node| self.condition(node)),
            env: fields.get("env").map(|node| self.env(node)).unwrap_or_default(),
            secrets: fields.get("secrets").map(|node| self.secret_uses(node)).unwrap_or_default(),
            workdir: fields.get("workdir").and_then(|node| self.template(node)),
            shell: fields.get("shell").and_then(|node| self.nonempty(node, "the shell")),
            user: fields.get("user").and_then(|node| self.template(node)),
            timeout: fields.get("timeout").and_then(|node| self.duration(node)),
            image: fields.get("image").and_then(|node| self.template(node)),
            limits: fields.get("limits").map(|node| self.limits(node)).unwrap_or_default(),
            network: fields.get("network").and_then(|node| self.network(node)),
            background: fields.get("background").and_then(|node| self.boolean(node)),
            ready: fields.get("ready").and_then(|node| self.ready(node)),
            continue_on_error: fields.get("continue-on-error").and_then(|node| self.boolean(node)),
            span: fields.key_span(if fields.get("run").is_some() { "run" } else { "exec" }),
            command: command?,
        };
        if let Some(shell) = &step.shell
            && matches!(step.command, Command::Exec(_))
        {
            let message = "`exec` runs a program without a shell";
            self.conflict(
                fields.key_span("exec"),
                shell.span,
                message,
                "remove `shell`, or use `run`",
            );
        }
        if let Some(ready) = &step.ready
            && !step.background.as_ref().is_some_and(|background| background.value)
        {
            let message = "`ready` is for steps that stay up in the background";
            self.conflict(node.span, ready.span, message, "add `background: true`");
        }
        Some(step)
    }

    /// `run` or `exec`, not both; [`None`] also when there is neither.
    pub(super) fn command(&mut self, fields: &Fields<'t>) -> Option<Command> {
        match (fields.get("run"), fields.get("exec")) {
            (Some(_), Some(_)) => {
                let message = "`run` is a script and `exec` a program: a step has one of them";
                let (run, exec) = (fields.key_span("run"), fields.key_span("exec"));
                self.conflict(run, exec, message, "make two steps");
                None
            }
            (Some(node), None) => {
                self.nonempty(node, "the script")?;
                self.template(node).map(Command::Run)
            }
            (None, Some(node)) => {
                if !matches!(node.kind, Kind::Sequence(_)) {
                    self.wrong_type(node, "a list: the program and its arguments");
                    return None;
                }
                let items = self.items(node);
                let words: Vec<_> =
                    items.into_iter().filter_map(|item| self.template(item)).collect();
                match words.first() {
                    Some(program) if program.as_literal() != Some("") => Some(Command::Exec(words)),
                    _ => {
                        self.bad_value(node.span, "there is no program to run", None);
                        None
                    }
                }
            }
            (None, None) => None,
        }
    }
}
