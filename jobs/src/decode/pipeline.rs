//! The top of the file.

use super::decoder::Decoder;
use crate::{
    diagnostic::{Code, Diagnostic},
    model::{Defaults, Param, Pipeline, PullPolicy, SecretForm, SecretUse, Workspace},
    source::Spanned,
    yaml::{Kind, Node},
};

pub(super) const PIPELINE: &[&str] =
    &["name", "env", "secrets", "params", "defaults", "images", "include", "jobs"];
pub(super) const PARAM: &[&str] = &["default", "options", "description"];
pub(super) const DEFAULTS: &[&str] =
    &["image", "pull", "limits", "timeout", "network", "workspace", "user", "workdir", "shell"];
pub(super) const SECRET: &[&str] = &["name", "as"];

pub(super) const WORKSPACES: &[(&str, Workspace)] =
    &[("cow", Workspace::Cow), ("none", Workspace::None), ("git", Workspace::Git)];

impl<'t> Decoder<'t> {
    /// The whole document.
    pub(crate) fn pipeline(&mut self, root: &'t Node<'t>) -> Pipeline {
        self.document(root, true)
    }

    /// The document of a file that another includes: it may have no jobs.
    pub(crate) fn included(&mut self, root: &'t Node<'t>) -> Pipeline {
        self.document(root, false)
    }

    fn document(&mut self, root: &'t Node<'t>, needs_jobs: bool) -> Pipeline {
        let Some(fields) = self.fields(root, "a pipeline", PIPELINE) else {
            return Pipeline::default();
        };
        let mut pipeline = Pipeline {
            name: fields.get("name").and_then(|node| self.nonempty(node, "the name")),
            env: fields.get("env").map(|node| self.env(node)).unwrap_or_default(),
            secrets: fields.get("secrets").map(|node| self.texts(node)).unwrap_or_default(),
            params: fields.get("params").map(|node| self.params(node)).unwrap_or_default(),
            defaults: fields.get("defaults").map(|node| self.defaults(node)).unwrap_or_default(),
            include: fields.get("include").map(|node| self.texts(node)).unwrap_or_default(),
            ..Pipeline::default()
        };
        if let Some(node) = fields.get("images") {
            for entry in self.entries(node, "a mapping of names to images") {
                let name = Spanned::new(entry.key.clone().into_owned(), entry.key_span);
                let image = self.image(name, self.tree.node(entry.value));
                pipeline.images.extend(image);
            }
        }
        match fields.get("jobs") {
            Some(node) => {
                let entries = self.entries(node, "a mapping of names to jobs");
                for entry in entries {
                    let id = Spanned::new(entry.key.clone().into_owned(), entry.key_span);
                    let job = self.job(id, self.tree.node(entry.value));
                    pipeline.jobs.extend(job);
                }
                if entries.is_empty() && matches!(node.kind, Kind::Mapping(_)) {
                    self.bad_value(node.span, "there are no jobs", None);
                }
            }
            None if needs_jobs && pipeline.include.is_empty() && !fields.has("jobs") => {
                self.missing(
                    fields.span,
                    "a pipeline",
                    "jobs",
                    "add `jobs: { NAME: { steps: […] } }`",
                );
            }
            None => {}
        }
        pipeline
    }

    fn params(&mut self, node: &'t Node<'t>) -> Vec<Param> {
        let mut params = Vec::new();
        for entry in self.entries(node, "a mapping of names to parameters") {
            let name = Spanned::new(entry.key.clone().into_owned(), entry.key_span);
            let value = self.tree.node(entry.value);
            let Some(fields) = self.fields(value, "a parameter", PARAM) else { continue };
            let default = fields.get("default").and_then(|node| self.scalar(node));
            let options: Vec<_> = match fields.get("options") {
                Some(node) => self
                    .list(node, "a list of values")
                    .into_iter()
                    .filter_map(|item| self.scalar(item))
                    .collect(),
                None => Vec::new(),
            };
            if let Some(default) = &default
                && !options.is_empty()
                && !options.iter().any(|option| option.to_text() == default.to_text())
            {
                self.report.push(
                    Diagnostic::error(Code::BadParameter, "the default is not among the options")
                        .at(default.span, "")
                        .at(fields.key_span("options"), "the options")
                        .help("add it to `options`, or choose one of them"),
                );
            }
            let description =
                fields.get("description").and_then(|node| self.nonempty(node, "the description"));
            params.push(Param { name, default, options, description });
        }
        params
    }

    fn defaults(&mut self, node: &'t Node<'t>) -> Defaults {
        let Some(fields) = self.fields(node, "`defaults`", DEFAULTS) else {
            return Defaults::default();
        };
        Defaults {
            image: fields.get("image").and_then(|node| self.template(node)),
            pull: fields.get("pull").and_then(|node| self.choice(node, PullPolicy::WORDS)),
            limits: fields.get("limits").map(|node| self.limits(node)).unwrap_or_default(),
            timeout: fields.get("timeout").and_then(|node| self.duration(node)),
            network: fields.get("network").and_then(|node| self.network(node)),
            workspace: fields.get("workspace").and_then(|node| self.choice(node, WORKSPACES)),
            user: fields.get("user").and_then(|node| self.template(node)),
            workdir: fields.get("workdir").and_then(|node| self.template(node)),
            shell: fields.get("shell").and_then(|node| self.nonempty(node, "the shell")),
        }
    }

    /// The secrets that a job or step sees: names, or `{ name: NAME, as: file }`.
    pub(super) fn secret_uses(&mut self, node: &'t Node<'t>) -> Vec<SecretUse> {
        let mut uses = Vec::new();
        for item in self.items(node) {
            if !matches!(item.kind, Kind::Mapping(_)) {
                let name = self.nonempty(item, "the name of the secret");
                uses.extend(name.map(|name| SecretUse { name, form: SecretForm::Env }));
                continue;
            }
            let Some(fields) = self.fields(item, "a secret", SECRET) else { continue };
            let forms = [("env", SecretForm::Env), ("file", SecretForm::File)];
            let form = fields.get("as").and_then(|node| self.choice(node, &forms));
            match fields.get("name") {
                Some(node) => {
                    let name = self.nonempty(node, "the name of the secret");
                    let form = form.map_or(SecretForm::Env, |form| form.value);
                    uses.extend(name.map(|name| SecretUse { name, form }));
                }
                None => self.missing(fields.span, "a secret", "name", "name a declared secret"),
            }
        }
        uses
    }
}
