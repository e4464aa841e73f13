//! Several files to one pipeline.
//!
//! An included file is a pipeline without its checks: those are made once, on the whole. What the
//! including file says wins: its jobs and images take the place of those of the same name, its
//! variables, parameters and defaults likewise, one by one. Two included files may not say the same
//! job or image differently, because nobody could tell which one counts.

use std::collections::{HashMap, HashSet};

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
    let jobs: HashMap<&str, _> = base.jobs.iter().map(|job| (job.id.as_str(), &job.id)).collect();
    for job in &included.jobs {
        if let Some(other) = jobs.get(job.id.as_str()) {
            twice("job", other, &job.id);
        }
    }
    let images = base.images.iter().map(|image| (image.name.as_str(), &image.name));
    let images: HashMap<&str, _> = images.collect();
    for image in &included.images {
        if let Some(other) = images.get(image.name.as_str()) {
            twice("image", other, &image.name);
        }
    }
    let name = base.name.take();
    override_with(base, included);
    base.name = name;
}

/// Adds `upper` to `lower`, in place of those of the same name.
fn replace<T>(lower: &mut Vec<T>, upper: Vec<T>, name: impl Fn(&T) -> &Spanned<String>) {
    let names: HashSet<&str> = upper.iter().map(|it| name(it).as_str()).collect();
    lower.retain(|it| !names.contains(name(it).as_str()));
    drop(names);
    lower.extend(upper);
}

/// What `upper` says wins.
fn override_with(base: &mut Pipeline, upper: Pipeline) {
    let Pipeline { name, env, secrets, params, defaults, images, include, jobs } = upper;
    base.name = name;
    base.include = include;
    replace(&mut base.env, env, |(name, _)| name);
    replace(&mut base.secrets, secrets, |name| name);
    replace(&mut base.params, params, |param| &param.name);
    replace(&mut base.images, images, |image| &image.name);
    replace(&mut base.jobs, jobs, |job| &job.id);
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
