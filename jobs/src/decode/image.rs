//! Images that a pipeline makes.

use super::decoder::Decoder;
use crate::{
    model::{
        DockerBuild, Env, ImageConfig, ImageDefinition, ImageSource, SecretForm, SecretUse, Step,
    },
    source::Spanned,
    yaml::{Kind, Node},
};

pub(super) const IMAGE: &[&str] =
    &["from", "build", "limits", "network", "timeout", "steps", "config"];
pub(super) const BUILD: &[&str] = &["context", "dockerfile", "target", "args", "secrets"];
pub(super) const CONFIG: &[&str] = &["env", "labels", "workdir", "user", "entrypoint", "cmd"];

/// The file of a build that does not say.
const DOCKERFILE: &str = "Dockerfile";

impl<'t> Decoder<'t> {
    pub(super) fn image(
        &mut self,
        name: Spanned<String>,
        node: &'t Node<'t>,
    ) -> Option<ImageDefinition> {
        let fields = self.fields(node, "an image", IMAGE)?;
        let limits = fields.get("limits").map(|node| self.limits(node)).unwrap_or_default();
        let network = fields.get("network").and_then(|node| self.network(node));
        let timeout = fields.get("timeout").and_then(|node| self.duration(node));
        let steps = fields.get("steps").map(|node| self.steps(node)).unwrap_or_default();
        for step in &steps {
            self.image_step(step);
        }
        let config = fields.get("config").map(|node| self.image_config(node)).unwrap_or_default();
        let from = match (fields.get("from"), fields.get("build")) {
            (Some(node), None) => {
                self.nonempty(node, "the image to start from")?;
                Spanned::new(ImageSource::Image(self.template(node)?), node.span)
            }
            (None, Some(node)) => {
                Spanned::new(ImageSource::Dockerfile(self.docker_build(node)?), node.span)
            }
            (Some(_), Some(_)) => {
                let (from, build) = (fields.key_span("from"), fields.key_span("build"));
                let message = "an image is made from another, or from a Dockerfile, not both";
                self.conflict(from, build, message, "remove `from` or `build`");
                return None;
            }
            (None, None) => {
                let help = "add `from: IMAGE` and `steps`, or `build: { context: . }`";
                self.missing(name.span, "an image", "from", help);
                return None;
            }
        };
        Some(ImageDefinition { name, from, limits, network, timeout, steps, config })
    }

    /// What is kept of a step must depend on nothing but the step.
    fn image_step(&mut self, step: &Step) {
        let limits = &step.limits;
        let limit = [&limits.millicpus, &limits.memory, &limits.pids, &limits.disk, &limits.inodes];
        let limit = limit.into_iter().flatten().next().map(|limit| limit.span);
        let refused = [
            ("if", step.condition.as_ref().map(|it| it.expr().span), "leave it out"),
            (
                "secrets",
                step.secrets.first().map(|secret| secret.name.span),
                "what a step of an image sees can end up in the image; use it in a job",
            ),
            ("image", step.image.as_ref().map(|it| it.span), "make another image of these steps"),
            ("limits", limit, "set them for the image: each of its steps has them"),
            (
                "background",
                step.background.as_ref().map(|it| it.span),
                "nothing of a step runs any more when the next one starts",
            ),
            (
                "continue-on-error",
                step.continue_on_error.as_ref().map(|it| it.span),
                "write `|| true` where a command may fail",
            ),
        ];
        for (key, span, help) in refused {
            if let Some(span) = span {
                let message = format!("a step of an image has no `{key}`");
                self.bad_value(span, message, Some(help.to_owned()));
            }
        }
    }

    fn docker_build(&mut self, node: &'t Node<'t>) -> Option<DockerBuild> {
        if matches!(node.kind, Kind::Scalar { .. }) {
            return Some(DockerBuild {
                context: self.nonempty(node, "the context")?.value,
                dockerfile: DOCKERFILE.to_owned(),
                target: None,
                args: Env::new(),
                secrets: Vec::new(),
            });
        }
        let fields = self.fields(node, "`build`", BUILD)?;
        let mut get = |key| {
            let text = fields.get(key).and_then(|node| self.nonempty(node, "this"));
            text.map(|text| text.value)
        };
        Some(DockerBuild {
            context: get("context").unwrap_or_else(|| ".".to_owned()),
            dockerfile: get("dockerfile").unwrap_or_else(|| DOCKERFILE.to_owned()),
            target: get("target"),
            args: fields.get("args").map(|node| self.env(node)).unwrap_or_default(),
            secrets: fields.get("secrets").map(|node| self.names(node)).unwrap_or_default(),
        })
    }

    /// The secrets that a build can ask for; in which form, the Dockerfile says.
    fn names(&mut self, node: &'t Node<'t>) -> Vec<SecretUse> {
        let mut uses = Vec::new();
        for item in self.items(node) {
            let name = self.nonempty(item, "the name of the secret");
            uses.extend(name.map(|name| SecretUse { name, form: SecretForm::File }));
        }
        uses
    }

    fn image_config(&mut self, node: &'t Node<'t>) -> ImageConfig {
        let Some(fields) = self.fields(node, "`config`", CONFIG) else {
            return ImageConfig::default();
        };
        ImageConfig {
            env: fields.get("env").map(|node| self.env(node)).unwrap_or_default(),
            labels: fields.get("labels").map(|node| self.env(node)).unwrap_or_default(),
            workdir: fields.get("workdir").and_then(|node| self.template(node)),
            user: fields.get("user").and_then(|node| self.template(node)),
            entrypoint: fields
                .get("entrypoint")
                .map(|node| self.templates(node))
                .unwrap_or_default(),
            cmd: fields.get("cmd").map(|node| self.templates(node)).unwrap_or_default(),
        }
    }
}
