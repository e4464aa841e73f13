//! The images that a pipeline makes: what they are made from, and whether anyone uses them.

use std::collections::HashMap;

use super::Checker;
use crate::{
    diagnostic::{Code, Diagnostic, quoted},
    expr::Template,
    graph::Graph,
    model::{ImageDefinition, ImageSource},
    plan::image_cycle,
    suggest::suggestion,
};

impl Checker<'_> {
    pub(super) fn images(&mut self) {
        let images = &self.pipeline.images;
        let indexes: HashMap<&str, usize> =
            images.iter().enumerate().map(|(index, it)| (it.name.as_str(), index)).collect();
        let from = |image: &ImageDefinition| match &image.from.value {
            ImageSource::Image(template) => template.as_literal().map(str::to_owned),
            ImageSource::Dockerfile(_) => None,
        };
        let needs = images.iter().map(|image| {
            from(image).and_then(|from| indexes.get(from.as_str()).copied()).into_iter().collect()
        });
        if let Err(circle) = Graph::new(needs.collect()).order() {
            let circle: Vec<_> = circle.iter().filter_map(|index| images.get(*index)).collect();
            self.report.push(image_cycle(&circle));
        }
        self.unused_images();
        for image in images {
            if let ImageSource::Dockerfile(build) = &image.from.value {
                self.secret_uses(&build.secrets);
            }
        }
    }

    /// Where a name comes from an expression, any image may be meant.
    fn unused_images(&mut self) {
        let pipeline = self.pipeline;
        let mut named: Vec<&Template> = pipeline.defaults.image.iter().collect();
        for job in &pipeline.jobs {
            named.extend(&job.image);
            named.extend(job.services.iter().map(|service| &service.image));
            named.extend(job.steps.iter().chain(&job.cleanup).filter_map(|it| it.image.as_ref()));
        }
        named.extend(pipeline.images.iter().filter_map(|image| match &image.from.value {
            ImageSource::Image(template) => Some(template),
            ImageSource::Dockerfile(_) => None,
        }));
        let own: Vec<&str> = pipeline.images.iter().map(|image| image.name.as_str()).collect();
        if named.iter().all(|template| template.as_literal().is_some()) {
            for image in &pipeline.images {
                let name = image.name.as_str();
                if !named.iter().any(|template| template.as_literal() == Some(name)) {
                    let message = format!("no job uses the image {}", quoted(name));
                    self.report.push(
                        Diagnostic::warning(Code::UnusedImage, message)
                            .at(image.name.span, "it is never built")
                            .help("remove it, or name it as the `image` of a job"),
                    );
                }
            }
        }
        for template in named {
            let Some(text) = template.as_literal() else { continue };
            let is_plain = !text.contains(['/', ':', '@']) && text != "host";
            if is_plain
                && !own.contains(&text)
                && let Some(help) = suggestion(text, own.iter().copied())
            {
                let message = format!("the pipeline makes no image {}", quoted(text));
                self.report.push(
                    Diagnostic::warning(Code::NearImage, message)
                        .at(template.span, "it would be pulled from a registry")
                        .help(help),
                );
            }
        }
    }
}
