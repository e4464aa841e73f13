//! `RUN --mount`: what a program sees beside the image, and what of its work is not kept.
//!
//! A mount is a layer over the image so far, for this one program, and nothing that is below its
//! target becomes part of the step's layer. So what is written to a `bind` is thrown away, as it is
//! with `rw` in Docker, and a `cache` begins empty: a build must work with that anyway.

use std::path::PathBuf;

use cofferdam_jobs::{
    Code, Diagnostic,
    diagnostic::Report,
    dockerfile::{CopyFrom, ModeChange, Mount, MountKind, Run as RunLine, Word},
};

use super::{lower::Lowering, metadata::absolute, sources::Taking};
use crate::{
    build::{Configuration, Put, Run, Source},
    problem::Problem,
};

/// Permissions of a directory that is a `tmpfs`.
const OPEN: u32 = 0o1777;

impl Lowering {
    /// Adds the mounts of an instruction to its program.
    pub(super) fn mount(
        &self,
        run: &RunLine,
        mut lowered: Run,
        configuration: &Configuration,
    ) -> Result<Run, Problem> {
        for mount in &run.mounts {
            let mut report = Report::new();
            let target = self.target(mount, configuration, &mut report);
            let target = self.project.told(report, target)?;
            let put = match &mount.kind {
                MountKind::Bind { from, source } => {
                    let from = from.as_ref().map(|from| &from.value);
                    self.bound((mount, &target), from, source.as_ref())?
                }
                MountKind::Cache { mode, owner, .. } => directory(&target, *mode, *owner),
                MountKind::Tmpfs { .. } => directory(&target, OPEN, (0, 0)),
                // With its target, before this.
                MountKind::Secret { .. } => continue,
            };
            lowered.shown.push(put);
            lowered.aside.push(target);
        }
        Ok(lowered)
    }

    /// Where a mount is seen.
    fn target(
        &self,
        mount: &Mount,
        configuration: &Configuration,
        report: &mut Report,
    ) -> Option<String> {
        let refused = |report: &mut Report, message: &str, help: &str| {
            let fault = Diagnostic::error(Code::DockerfileUnsupported, message);
            report.push(fault.at(mount.span, "").help(help));
        };
        if let MountKind::Secret { .. } = mount.kind {
            let help = "fetch what needs it before the build, and `COPY` that";
            refused(report, "mounts of type `secret` are not supported", help);
            return None;
        }
        let target = self.variables.expand(mount.target.as_ref()?, report)?;
        let target = absolute(&configuration.workdir(), &target);
        if target == "/" {
            refused(report, "nothing can be mounted on `/`", "name a directory below it");
            return None;
        }
        Some(target)
    }

    /// Files of the context, a stage or an image.
    fn bound(
        &self,
        (mount, target): (&Mount, &str),
        from: Option<&CopyFrom>,
        source: Option<&Word>,
    ) -> Result<Put, Problem> {
        let place = source.or(mount.target.as_ref());
        let mut report = Report::new();
        let path = match source {
            Some(source) => self.variables.expand(source, &mut report),
            None => Some(String::new()),
        };
        let path = self.project.told(report, path)?;
        let words: Vec<(String, Word)> =
            place.map(|place| (path, place.clone())).into_iter().collect();
        let taking = Taking { project: &self.project, words: &words, exclude: &[] };
        let taken = self.taken(taking, from, false)?.into_iter().next();
        let (from, paths) = match taken {
            Some(copied) => (copied.from, copied.paths),
            None => (Source::Files(Vec::new()), Vec::new()),
        };
        Ok(Put { from, paths, to: target.to_owned(), owner: None, mode: None, alone: true })
    }
}

/// An empty directory.
fn directory(target: &str, mode: u32, (user, group): (u32, u32)) -> Put {
    Put {
        from: Source::Files(Vec::new()),
        paths: Vec::<PathBuf>::new(),
        to: target.to_owned(),
        owner: Some(format!("{user}:{group}")),
        mode: Some(ModeChange::Octal(mode)),
        alone: true,
    }
}
