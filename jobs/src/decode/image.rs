//! Images that a pipeline makes.

use super::decoder::Decoder;
use crate::{
    model::{DockerBuild, ImageConfig, ImageDefinition, ImageSource},
    source::Spanned,
    yaml::Node,
};

pub(super) const IMAGE: &[&str] = &["from", "build", "limits", "network", "steps", "config"];
pub(super) const BUILD: &[&str] = &["context", "dockerfile", "target", "args"];
pub(super) const CONFIG: &[&str] = &["env", "workdir", "user", "entrypoint", "cmd"];

impl<'t> Decoder<'t> {
    pub(super) fn image(
        &mut self,
        name: Spanned<String>,
        node: &'t Node<'t>,
    ) -> Option<ImageDefinition> {
        let fields = self.fields(node, "an image", IMAGE)?;
        let limits = fields.get("limits").map(|node| self.limits(node)).unwrap_or_default();
        let network = fields.get("network").and_then(|node| self.network(node));
        let steps = fields.get("steps").map(|node| self.steps(node)).unwrap_or_default();
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
        Some(ImageDefinition { name, from, limits, network, steps, config })
    }

    fn docker_build(&mut self, node: &'t Node<'t>) -> Option<DockerBuild> {
        let fields = self.fields(node, "`build`", BUILD)?;
        let mut get = |key| {
            let text = fields.get(key).and_then(|node| self.nonempty(node, "this"));
            text.map(|text| text.value)
        };
        Some(DockerBuild {
            context: get("context").unwrap_or_else(|| ".".to_owned()),
            dockerfile: get("dockerfile").unwrap_or_else(|| "Dockerfile".to_owned()),
            target: get("target"),
            args: fields.get("args").map(|node| self.env(node)).unwrap_or_default(),
        })
    }

    fn image_config(&mut self, node: &'t Node<'t>) -> ImageConfig {
        let Some(fields) = self.fields(node, "`config`", CONFIG) else {
            return ImageConfig::default();
        };
        ImageConfig {
            env: fields.get("env").map(|node| self.env(node)).unwrap_or_default(),
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
