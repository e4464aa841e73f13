//! The stages that a target needs, in the order in which they can be built.

use std::collections::BTreeMap;

use super::{
    expand::Scope,
    model::{CopyFrom, Dockerfile, Kind, MountKind, Stage},
};
use crate::{
    check::is_image_reference,
    diagnostic::{Code, Diagnostic, Report, quoted},
    suggest::suggestion,
};

/// What a stage starts from, now that variables are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// No files at all.
    Scratch,
    /// An earlier stage, by its number.
    Stage(usize),
    /// An image.
    Image(String),
}

/// A stage that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Its number in the file.
    pub stage: usize,
    /// What it starts from.
    pub base: Base,
    /// The stages whose end it needs, the base among them.
    pub needs: Vec<usize>,
}

/// What is to be built.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Each after those that it needs; the last is the target.
    pub stages: Vec<Selected>,
    /// The values of the arguments before the first `FROM`, for `ARG` without a default in stages.
    pub arguments: BTreeMap<String, String>,
}

/// What the caller says.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The stage to build; the last one where it says nothing.
    pub target: Option<String>,
    /// Values of `ARG`.
    pub arguments: BTreeMap<String, String>,
    /// `os/architecture[/variant]` of this host.
    pub platform: String,
}

impl Request {
    /// The arguments that every file knows about the platforms.
    pub fn platform_arguments(&self) -> Vec<(String, String)> {
        let mut parts = self.platform.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default();
        let (os, architecture, variant) = (part(), part(), part());
        let each = |side: &str| {
            [
                (format!("{side}PLATFORM"), self.platform.clone()),
                (format!("{side}OS"), os.to_owned()),
                (format!("{side}ARCH"), architecture.to_owned()),
                (format!("{side}VARIANT"), variant.to_owned()),
            ]
        };
        [each("BUILD"), each("TARGET")].concat()
    }
}

/// Finds what is to be built; [`None`] when it makes no sense, with the reasons in `report`.
pub fn select(file: &Dockerfile, request: &Request, report: &mut Report) -> Option<Selection> {
    let mut scope = Scope::new(file.escape);
    for (name, value) in request.platform_arguments() {
        scope.set_argument(&name, &value);
    }
    let mut arguments = BTreeMap::new();
    for argument in &file.arguments {
        let name = &argument.name.value;
        let value = match (request.arguments.get(name), &argument.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => scope.expand(default, report),
            (None, None) => None,
        };
        if let Some(value) = value {
            if !scope.set_argument(name, &value) {
                report.push(too_many_variables(argument.name.span));
                return None;
            }
            arguments.insert(name.clone(), value);
        }
    }
    unused(file, request, report);
    let target = target(file, request, report)?;
    let mut selection = Vec::new();
    let mut wanted = vec![target];
    let mut seen = vec![false; file.stages.len()];
    while let Some(number) = wanted.pop() {
        let Some(stage) = file.stages.get(number) else { continue };
        if std::mem::replace(seen.get_mut(number)?, true) {
            continue;
        }
        let Some(base) = base(file, number, stage, request, &scope, report) else { continue };
        let mut needs = sources(stage);
        if let Base::Stage(before) = base {
            needs.push(before);
        }
        needs.sort_unstable();
        needs.dedup();
        wanted.extend(&needs);
        selection.push(Selected { stage: number, base, needs });
    }
    // Stages only need earlier ones.
    selection.sort_unstable_by_key(|selected| selected.stage);
    (report.errors() == 0).then_some(Selection { stages: selection, arguments })
}

/// The fault of a place with more variables than are kept.
pub fn too_many_variables(span: crate::source::Span) -> Diagnostic {
    Diagnostic::error(Code::DockerfileTooLarge, "the variables take more than 1 MiB in all")
        .at(span, "this one is too many")
        .help("put long text into a file of the context")
}

fn target(file: &Dockerfile, request: &Request, report: &mut Report) -> Option<usize> {
    let Some(target) = &request.target else { return file.stages.len().checked_sub(1) };
    let lower = target.to_ascii_lowercase();
    let names = || file.stages.iter().map(|stage| stage.name.as_ref().map(|it| it.value.as_str()));
    let named = names().position(|name| name == Some(&lower));
    let numbered = target.parse().ok().filter(|number| *number < file.stages.len());
    let found = named.or(numbered);
    if found.is_none() {
        let names: Vec<_> = names().flatten().collect();
        let help = suggestion(&lower, names.iter().copied()).unwrap_or_else(|| match names.len() {
            0 => "name a stage: `FROM … AS name`".to_owned(),
            _ => format!("the stages are `{}`", names.join("`, `")),
        });
        let message = format!("there is no stage {}", quoted(target));
        report.push(Diagnostic::error(Code::DockerfileStage, message).help(help));
    }
    found
}

/// Values that no `ARG` takes.
fn unused(file: &Dockerfile, request: &Request, report: &mut Report) {
    let in_stages = file.stages.iter().flat_map(|stage| &stage.instructions);
    let in_stages = in_stages.filter_map(|instruction| match &instruction.kind {
        Kind::Argument(arguments) => Some(arguments),
        _ => None,
    });
    let declared: Vec<&str> = std::iter::once(&file.arguments)
        .chain(in_stages)
        .flatten()
        .map(|argument| argument.name.value.as_str())
        .collect();
    for name in request.arguments.keys() {
        if declared.contains(&name.as_str()) || is_predefined(name) {
            continue;
        }
        let near = suggestion(name, declared.iter().copied());
        let message = format!("no `ARG` takes the value of {}", quoted(name));
        let help =
            near.unwrap_or_else(|| format!("declare it with `ARG {name}` where it is needed"));
        report.push(Diagnostic::warning(Code::DockerfileUnusedArgument, message).help(help));
    }
}

/// Arguments that need no `ARG`.
pub fn is_predefined(name: &str) -> bool {
    matches!(
        name.to_ascii_uppercase().as_str(),
        "HTTP_PROXY" | "HTTPS_PROXY" | "FTP_PROXY" | "NO_PROXY" | "ALL_PROXY"
    )
}

fn base(
    file: &Dockerfile,
    number: usize,
    stage: &Stage,
    request: &Request,
    scope: &Scope,
    report: &mut Report,
) -> Option<Base> {
    let before = report.errors();
    platform(stage, request, scope, report);
    let name = scope.expand(&stage.from, report)?;
    if report.errors() > before {
        return None;
    }
    let earlier = file.stages.get(..number).unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let named = |stage: &Stage| stage.name.as_ref().is_some_and(|it| it.value == lower);
    if let Some(found) = earlier.iter().rposition(named) {
        return Some(Base::Stage(found));
    }
    if name == "scratch" {
        return Some(Base::Scratch);
    }
    if is_image_reference(&name) {
        return Some(Base::Image(name));
    }
    let message = match name.is_empty() {
        true => "the image to start from is empty".to_owned(),
        false => format!("{} is not the name of an image", quoted(&name)),
    };
    report.push(
        Diagnostic::error(Code::DockerfileStage, message)
            .at(stage.from.span, "")
            .help("image names look like `debian:12` or `registry.example:5000/team/app`"),
    );
    None
}

fn platform(stage: &Stage, request: &Request, scope: &Scope, report: &mut Report) {
    let Some(word) = &stage.platform else { return };
    let Some(platform) = scope.expand(word, report) else { return };
    let known = |text: &str| {
        let text = text.strip_prefix("linux/").unwrap_or(text);
        match text.split('/').next().unwrap_or_default() {
            "x86_64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        }
    };
    if known(&platform) != known(&request.platform) {
        let message = format!("images for {} cannot be built here", quoted(&platform));
        report.push(
            Diagnostic::error(Code::DockerfileUnsupported, message)
                .at(word.span, "")
                .help(format!("this machine is `{}`; build on one of that kind", request.platform)),
        );
    }
}

/// The stages that `COPY` and mounts take files from.
fn sources(stage: &Stage) -> Vec<usize> {
    let mut sources = Vec::new();
    let mut add = |from: Option<&CopyFrom>| {
        if let Some(CopyFrom::Stage(number)) = from {
            sources.push(*number);
        }
    };
    for instruction in &stage.instructions {
        match &instruction.kind {
            Kind::Copy(copy) => add(copy.from.as_ref().map(|from| &from.value)),
            Kind::Run(run) => {
                for mount in &run.mounts {
                    if let MountKind::Bind { from, .. } = &mount.kind {
                        add(from.as_ref().map(|from| &from.value));
                    }
                }
            }
            _ => {}
        }
    }
    sources
}
