//! The files of a build: the Dockerfile, what it ignores, and the context's directory.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_jobs::{
    Diagnostic, Severity, Sources, Span,
    diagnostic::{Report, render},
    dockerfile::{self, Dockerfile, Ignore, Selection},
};

use cofferdam_sandbox::Fault;

use crate::{
    exit::Exit, print, problem::Problem, report::quantity::count, report::style::wants_colour,
};

/// One byte more than is read of a file, so that one that is too long is seen to be.
const BYTES_MAX: u64 = 1024 * 1024 + 1;

/// A Dockerfile that makes sense, with its context.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// What messages call the Dockerfile.
    pub(crate) name: String,
    /// The texts, for places in messages.
    pub(crate) sources: Sources,
    /// What it says.
    pub(crate) dockerfile: Dockerfile,
    /// What of the context is not seen.
    pub(crate) ignore: Arc<Ignore>,
    /// What the ignore file is called, where there is one.
    pub(crate) ignore_name: Option<String>,
    /// The directory whose files `COPY` takes.
    pub(crate) context: PathBuf,
}

impl Project {
    /// Reads a Dockerfile, and `NAME.dockerignore` beside it or `.dockerignore` of the context.
    /// What is wrong with them is drawn.
    pub(crate) fn read(file: &Path, context: &Path) -> Result<Self, Problem> {
        let missing = |what: &str, path: &Path| {
            Problem::new(Exit::NoInput, format!("failed to read {what} `{}`", path.display()))
        };
        let context = fs::canonicalize(context).map_err(|error| {
            let problem = missing("the context", context).because(error);
            problem.remedy("name a directory, such as `.`")
        })?;
        if !context.is_dir() {
            let problem = missing("the context", &context).because("it is not a directory");
            return Err(problem.remedy("name a directory, such as `.`"));
        }
        let bytes = bounded(file).map_err(|error| {
            let problem = missing("the Dockerfile", file).because(error);
            problem.remedy("name it with `--file`")
        })?;
        let name = file.display().to_string();
        let mut sources = Sources::new();
        let id = sources.add(name.clone(), &bytes);
        let read = dockerfile::parse(&sources, id);
        let mut diagnostics = read.diagnostics;
        let mut beside = file.as_os_str().to_owned();
        beside.push(".dockerignore");
        let mut ignore = Ignore::default();
        let mut ignore_name = None;
        for path in [PathBuf::from(beside), context.join(".dockerignore")] {
            let unread = |error| missing("the ignore file", &path).because(error);
            let bytes = match bounded(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(unread)?,
            };
            // Who wrote the context is not always who builds it, and what is in the file is shown
            // where it has faults.
            let (real, own) = (fs::canonicalize(&path), path.parent().map(fs::canonicalize));
            let (real, own) = (real.map_err(unread)?, own.transpose().map_err(unread)?);
            if !real.starts_with(&context) && !own.is_some_and(|own| real.starts_with(own)) {
                let problem =
                    missing("the ignore file", &path).because("it is a link to elsewhere");
                return Err(problem.remedy("copy what it leads to into the context"));
            }
            let id = sources.add(path.display().to_string(), &bytes);
            let (patterns, faults) = Ignore::parse(&sources, id);
            diagnostics.extend(faults);
            ignore = patterns;
            ignore_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            break;
        }
        draw(&sources, &diagnostics);
        match read.dockerfile.filter(|_| errors(&diagnostics) == 0) {
            Some(dockerfile) => {
                let ignore = Arc::new(ignore);
                Ok(Self { name, sources, dockerfile, ignore, ignore_name, context })
            }
            None => Err(faults(&name, &diagnostics)),
        }
    }

    /// The stages to build.
    pub(crate) fn select(&self, request: &dockerfile::Request) -> Result<Selection, Problem> {
        let mut report = Report::new();
        let selection = dockerfile::select(&self.dockerfile, request, &mut report);
        self.told(report, selection)
    }

    /// Where something is, for messages: `Dockerfile:7`.
    pub(super) fn at(&self, span: Span) -> String {
        let position = self.sources.file(span.file).map(|file| file.position(span.start));
        match position {
            Some(position) => format!("`{}`, line {}", self.name, position.line),
            None => format!("`{}`", self.name),
        }
    }

    /// Something that went wrong in the sandbox, with its place.
    pub(super) fn failed(&self, span: Span, error: cofferdam_sandbox::Error) -> Problem {
        let exit = match error.fault() {
            Fault::Pipeline => Exit::Failed,
            Fault::System => Exit::System,
        };
        let remedy = error.remedy_text().map(str::to_owned);
        let problem = Problem::new(exit, self.at(span)).because(error);
        match remedy {
            Some(remedy) => problem.remedy(remedy),
            None => problem,
        }
    }

    /// What came of something, unless it had faults; these and warnings are drawn.
    pub(super) fn told<T>(&self, report: Report, result: Option<T>) -> Result<T, Problem> {
        let diagnostics = report.finish();
        draw(&self.sources, &diagnostics);
        result.filter(|_| errors(&diagnostics) == 0).ok_or_else(|| faults(&self.name, &diagnostics))
    }
}

/// Draws warnings and errors.
pub(super) fn draw(sources: &Sources, diagnostics: &[Diagnostic]) {
    if !diagnostics.is_empty() {
        let colour = wants_colour(&io::stderr());
        let drawn = render::render_all(diagnostics, sources, colour);
        print::standard_error(format_args!("{drawn}\n"));
    }
}

fn errors(diagnostics: &[Diagnostic]) -> usize {
    diagnostics.iter().filter(|fault| fault.severity == Severity::Error).count()
}

fn faults(name: &str, diagnostics: &[Diagnostic]) -> Problem {
    let faults = count(errors(diagnostics) as u64, "fault");
    Problem::new(Exit::Data, format!("`{name}` has {faults}; no image was made"))
}

/// The bytes of a regular file.
fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // A FIFO must not hold anyone up.
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
