//! What a plan asks of the runner beyond running steps in a container.
//!
//! The language is read as a whole; a runner that cannot do a part of it must say so before the
//! first job starts, not leave it out.

use super::Plan;
use crate::{
    diagnostic::{Code, Diagnostic, quoted},
    model::{ImageSource, Network, SecretForm, Step, Workspace},
    source::Span,
};

/// A part of the language that a runner may not be able to execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// `build` of an image that a job uses.
    Dockerfile,
    /// `from`
    From,
    /// `services`
    Services,
    /// `cache`
    Cache,
    /// `needs: [{ artifacts: true }]`
    NeedsArtifacts,
    /// `workspace: git`
    WorkspaceGit,
    /// `network: services`
    NetworkServices,
    /// `network: full`
    NetworkFull,
    /// `network: { allow: … }`
    NetworkAllow,
    /// `limits.io`
    IoLimits,
    /// `secrets: [{ as: file }]`
    SecretFiles,
    /// `image` of a step
    StepImage,
    /// `limits` of a step
    StepLimits,
    /// `network` of a step
    StepNetwork,
    /// `background` and `ready`
    Background,
}

impl Feature {
    /// As the file asks for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dockerfile => "build",
            Self::From => "from",
            Self::Services => "services",
            Self::Cache => "cache",
            Self::NeedsArtifacts => "needs: [{ artifacts: true }]",
            Self::WorkspaceGit => "workspace: git",
            Self::NetworkServices => "network: services",
            Self::NetworkFull => "network: full",
            Self::NetworkAllow => "network: { allow: … }",
            Self::IoLimits => "limits: { io: … }",
            Self::SecretFiles => "secrets: [{ as: file }]",
            Self::StepImage => "image of a step",
            Self::StepLimits => "limits of a step",
            Self::StepNetwork => "network of a step",
            Self::Background => "background",
        }
    }
}

impl Plan {
    /// What this plan asks for, with the place of each, in the order of the jobs.
    pub fn features(&self) -> Vec<(Feature, Span)> {
        let mut found = Vec::new();
        for group in &self.groups {
            let job = &group.source;
            let mut add = |feature, span| found.push((feature, span));
            if let Some(from) = &job.from {
                add(Feature::From, from.job.span);
            }
            for service in &job.services {
                add(Feature::Services, service.name.span);
            }
            for cache in &job.cache {
                add(Feature::Cache, cache.span);
            }
            for need in job.needs.iter().filter(|need| need.artifacts) {
                add(Feature::NeedsArtifacts, need.job.span);
            }
            for secret in job.secrets.iter().filter(|secret| secret.form == SecretForm::File) {
                add(Feature::SecretFiles, secret.name.span);
            }
            for planned in self.jobs.get(group.jobs.clone()).into_iter().flatten() {
                let image = planned.build.as_ref().and_then(|build| self.images.get(build.image));
                if let Some(image) = image
                    && matches!(image.from.value, ImageSource::Dockerfile(_))
                {
                    add(Feature::Dockerfile, image.from.span);
                }
            }
            if let Some(first) = self.jobs.get(group.jobs.start) {
                match &first.network {
                    Network::None => {}
                    Network::Services(span) => add(Feature::NetworkServices, *span),
                    Network::Full(span) => add(Feature::NetworkFull, *span),
                    Network::Allow { span, .. } => add(Feature::NetworkAllow, *span),
                }
                if let Some(io) = &first.limits.io {
                    add(Feature::IoLimits, io.span);
                }
                if first.workspace == Workspace::Git {
                    let span =
                        job.workspace.as_ref().map_or(job.id.span, |workspace| workspace.span);
                    add(Feature::WorkspaceGit, span);
                }
            }
            for step in job.steps.iter().chain(&job.cleanup) {
                step_features(step, &mut add);
            }
        }
        found
    }

    /// A fault for everything that this plan asks for and that is not among `supported`.
    pub fn unsupported(&self, supported: &[Feature]) -> Vec<Diagnostic> {
        let mut asked = self.features();
        asked.sort_by_key(|(feature, span)| (*span, *feature));
        asked.dedup();
        asked.retain(|(feature, _)| !supported.contains(feature));
        asked
            .into_iter()
            .map(|(feature, span)| {
                let name = quoted(feature.as_str());
                Diagnostic::error(Code::Unsupported, format!("{name} cannot be run yet"))
                    .at(span, "")
                    .help("this version reads and checks it, but has no way to do it; leave it out")
            })
            .collect()
    }
}

fn step_features(step: &Step, add: &mut impl FnMut(Feature, Span)) {
    if let Some(image) = &step.image {
        add(Feature::StepImage, image.span);
    }
    if step.limits != crate::model::Limits::default() {
        add(Feature::StepLimits, step.span);
    }
    if step.network.is_some() {
        add(Feature::StepNetwork, step.span);
    }
    if let Some(background) = step.background.as_ref().filter(|background| background.value) {
        add(Feature::Background, background.span);
    }
    for secret in step.secrets.iter().filter(|secret| secret.form == SecretForm::File) {
        add(Feature::SecretFiles, secret.name.span);
    }
}
