//! `RUN --mount`: what a program sees beside the image, and what of its work is not kept.
//!
//! A mount is a layer over the image so far, for this one program, and nothing that is below its
//! target becomes part of the step's layer. So what is written to a `bind` is thrown away, as it is
//! with `rw` in Docker. A `cache` is an empty directory below what the last build left of it.

use std::path::PathBuf;

use cofferdam_jobs::{
    Code, Diagnostic,
    diagnostic::{Report, quoted},
    dockerfile::{CopyFrom, ModeChange, Mount, MountKind, Run as RunLine, Sharing, Word},
};

use super::{lower::Lowering, metadata::absolute, sources::Taking};
use crate::{
    build::{CacheUse, Configuration, Put, Run, SecretUse, Source},
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
            if let MountKind::Secret { .. } = mount.kind {
                let used = self.secret(mount, configuration, &mut report);
                let used = self.project.told(report, used)?;
                lowered.aside.extend(used.link.clone());
                lowered.secrets.push(used);
                continue;
            }
            let target = self.target(mount, configuration, &mut report);
            let target = self.project.told(report, target)?;
            let put = match &mount.kind {
                MountKind::Bind { from, source } => {
                    let from = from.as_ref().map(|from| &from.value);
                    self.bound((mount, &target), from, source.as_ref())?
                }
                MountKind::Cache { id, sharing, mode, owner } => {
                    let mut report = Report::new();
                    let id = match id {
                        Some(id) => self.variables.expand(id, &mut report),
                        None => Some(target.clone()),
                    };
                    let id = self.project.told(report, id)?;
                    let put = directory(&target, *mode, *owner);
                    lowered.caches.push(CacheUse {
                        id,
                        put: Put { alone: false, ..put.clone() },
                        locked: *sharing == Sharing::Locked,
                        read_only: mount.read_only,
                    });
                    put
                }
                MountKind::Tmpfs { .. } => directory(&target, OPEN, (0, 0)),
                // Before this.
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
        let target = self.variables.expand(mount.target.as_ref()?, report)?;
        let target = absolute(&configuration.workdir(), &target);
        if target == "/" {
            let help = "name a directory below it";
            refuse(mount, report, "nothing can be mounted on `/`", help);
            return None;
        }
        Some(target)
    }

    /// A secret, and where it is to be seen if that is not where secrets are.
    fn secret(
        &self,
        mount: &Mount,
        configuration: &Configuration,
        report: &mut Report,
    ) -> Option<SecretUse> {
        let MountKind::Secret { id, variable, required, mode, .. } = &mount.kind else {
            return None;
        };
        let id = self.variables.expand(id, report)?;
        let is_name =
            |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if !id.chars().all(is_name) || id.is_empty() || id.starts_with('.') {
            let message = format!("{} cannot be the name of a secret", quoted(&id));
            refuse(mount, report, &message, "use letters, digits, `-`, `_` and `.`");
            return None;
        }
        let value = self.request.secrets.get(&id).cloned();
        if value.is_none() && *required {
            let message = format!("the build is not given the secret {}", quoted(&id));
            let help = format!(
                "`cofferdam image build --secret id={id},src=FILE`; in a pipeline, `secrets: [{id}]` \
                 of the image's `build`"
            );
            refuse(mount, report, &message, &help);
            return None;
        }
        let target = match &mount.target {
            Some(target) => {
                let target = self.variables.expand(target, report)?;
                Some(absolute(&configuration.workdir(), &target))
            }
            None => None,
        };
        let file = (target.is_some() || variable.is_none()).then_some(*mode);
        let mut used = SecretUse { id, value, file, variable: variable.clone(), link: None };
        used.link = target.filter(|target| *target != used.path());
        Some(used)
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

fn refuse(mount: &Mount, report: &mut Report, message: &str, help: &str) {
    let fault = Diagnostic::error(Code::DockerfileUnsupported, message);
    report.push(fault.at(mount.span, "").help(help));
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
