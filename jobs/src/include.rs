//! Several files to one pipeline.
//!
//! An included file is a pipeline without its checks: those are made once, on the whole. What the
//! including file says wins: its jobs and images take the place of those of the same name, its
//! variables, parameters and defaults likewise, one by one. Two included files may not say the same
//! job or image differently, because nobody could tell which one counts.

use std::collections::HashMap;

use crate::{
    decode::Decoder,
    diagnostic::{Code, Diagnostic, Report, quoted},
    model::{Defaults, Pipeline},
    source::{FileId, Sources, Span, Spanned},
    yaml,
};

/// The most files that one pipeline is made of.
const FILES_MAX: usize = 64;
/// The most bytes that they have together.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// Its name: the same for the same file, whatever it was called.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Why a file cannot be included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotIncluded {
    /// It lies outside of the project.
    Outside,
    /// It cannot be read; one sentence without a full stop.
    Unreadable(String),
}

/// Finds files: the name of the including file, and the path as it is written there.
pub type Find<'f> = &'f mut dyn FnMut(&str, &str) -> Result<Included, NotIncluded>;

/// Reads files and puts them together.
pub(crate) struct Reader<'f> {
    pub(crate) find: Find<'f>,
    /// The files that were read, by name.
    read: HashMap<String, FileId>,
    /// The files that are being read, the first including the next, and where.
    chain: Vec<(String, Span)>,
    bytes: usize,
}

impl<'f> Reader<'f> {
    pub(crate) fn new(find: Find<'f>) -> Self {
        Self { find, read: HashMap::new(), chain: Vec::new(), bytes: 0 }
    }

    /// The pipeline of the file `id`, with all that it includes.
    pub(crate) fn read(
        &mut self,
        sources: &mut Sources,
        id: FileId,
        report: &mut Report,
    ) -> Option<Pipeline> {
        let first = self.chain.is_empty();
        let mut pipeline = {
            let file = sources.file(id)?;
            let tree = yaml::scan(file, id, report)?;
            let mut decoder = Decoder::new(&tree, file, report);
            if first { decoder.pipeline(tree.root()) } else { decoder.included(tree.root()) }
        };
        let name = sources.file(id)?.name().to_owned();
        if first {
            self.chain.push((name.clone(), Span::default()));
            self.read.insert(name.clone(), id);
        }
        let mut base = Pipeline::default();
        for path in std::mem::take(&mut pipeline.include) {
            if report.is_full() {
                break;
            }
            if let Some(included) = self.include(sources, &name, &path, report) {
                join(&mut base, included, report);
            }
        }
        override_with(&mut base, pipeline);
        Some(base)
    }

    fn include(
        &mut self,
        sources: &mut Sources,
        name: &str,
        path: &Spanned<String>,
        report: &mut Report,
    ) -> Option<Pipeline> {
        let fault = |message: String, help: &str| {
            Diagnostic::error(Code::BadInclude, message).at(path.span, "").help(help)
        };
        let quoted_path = quoted(path);
        let found = match (self.find)(name, path) {
            Ok(found) => found,
            Err(NotIncluded::Outside) => {
                report.push(fault(
                    format!("{quoted_path} lies outside of the project"),
                    "include files of the project only, by paths relative to this file",
                ));
                return None;
            }
            Err(NotIncluded::Unreadable(why)) => {
                report.push(fault(
                    format!("{quoted_path} cannot be included: {why}"),
                    "the path is relative to this file",
                ));
                return None;
            }
        };
        if let Some(at) = self.chain.iter().position(|(name, _)| *name == found.name) {
            let mut circle = fault(
                format!("{quoted_path} includes itself"),
                "remove one of these from `include`",
            );
            for (name, span) in self.chain.iter().skip(at + 1) {
                circle = circle.at(*span, format!("{} is included here", quoted(name)));
            }
            report.push(circle);
            return None;
        }
        if self.read.contains_key(&found.name) {
            // By two ways: once is enough.
            return None;
        }
        self.bytes = self.bytes.saturating_add(found.bytes.len());
        if self.read.len() >= FILES_MAX || self.bytes > BYTES_MAX {
            report.push(fault(
                format!("more than {FILES_MAX} files or {} MiB are included", BYTES_MAX >> 20),
                "put some of them together",
            ));
            return None;
        }
        let id = sources.add(found.name.clone(), &found.bytes);
        self.read.insert(found.name.clone(), id);
        self.chain.push((found.name, path.span));
        let pipeline = self.read(sources, id, report);
        self.chain.pop();
        pipeline
    }
}

/// Adds an included file to those before it.
fn join(base: &mut Pipeline, included: Pipeline, report: &mut Report) {
    let mut twice = |what: &str, first: &Spanned<String>, second: &Spanned<String>| {
        report.push(
            Diagnostic::error(
                Code::DuplicateName,
                format!("the {what} {} is in two included files", quoted(second)),
            )
            .at(second.span, "the second time")
            .at(first.span, "the first time")
            .help("remove one of them, or say it in the including file, which wins"),
        );
    };
    for job in &included.jobs {
        if let Some(other) = base.job(&job.id) {
            twice("job", &other.id, &job.id);
        }
    }
    for image in &included.images {
        if let Some(other) = base.images.iter().find(|other| other.name.value == image.name.value) {
            twice("image", &other.name, &image.name);
        }
    }
    let name = base.name.take();
    override_with(base, included);
    base.name = name;
}

/// What `upper` says wins.
fn override_with(base: &mut Pipeline, upper: Pipeline) {
    let Pipeline { name, env, secrets, params, defaults, images, include, jobs } = upper;
    base.name = name;
    base.include = include;
    for (name, value) in env {
        match base.env.iter_mut().find(|(known, _)| known.value == name.value) {
            Some(known) => *known = (name, value),
            None => base.env.push((name, value)),
        }
    }
    base.secrets.retain(|known| !secrets.iter().any(|name| name.value == known.value));
    base.secrets.extend(secrets);
    base.params.retain(|known| !params.iter().any(|param| param.name.value == known.name.value));
    base.params.extend(params);
    base.images.retain(|known| !images.iter().any(|image| image.name.value == known.name.value));
    base.images.extend(images);
    base.jobs.retain(|known| !jobs.iter().any(|job| job.id.value == known.id.value));
    base.jobs.extend(jobs);
    let lower = std::mem::take(&mut base.defaults);
    base.defaults = Defaults {
        image: defaults.image.or(lower.image),
        pull: defaults.pull.or(lower.pull),
        limits: defaults.limits.or(&lower.limits),
        timeout: defaults.timeout.or(lower.timeout),
        network: defaults.network.or(lower.network),
        workspace: defaults.workspace.or(lower.workspace),
        user: defaults.user.or(lower.user),
        workdir: defaults.workdir.or(lower.workdir),
        shell: defaults.shell.or(lower.shell),
    };
}
