//! Reads a pipeline file, and shows what is wrong with it.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Component, Path, PathBuf},
};

use cofferdam_jobs::{
    Code, Diagnostic, Included, NotIncluded, Pipeline, Severity, Sources, diagnostic::render,
};

use crate::{exit::Exit, print, problem::Problem, report::style::wants_colour};

/// Stands for standard input.
pub(crate) const INPUT: &str = "-";

/// Bytes that are read: one more than may be, so that a file that is too long is seen to be.
const BYTES_MAX: u64 = 1024 * 1024 + 1;

/// A pipeline file that was read.
#[derive(Debug)]
pub(crate) struct PipelineFile {
    pub(crate) sources: Sources,
    /// Absent where there is an error.
    pub(crate) pipeline: Option<Pipeline>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// `sha256:` and the digest of its bytes.
    pub(crate) digest: String,
}

/// Reads and checks `path`, with what it includes of the project `root`; `-` is standard input.
pub(crate) fn read(path: &Path, root: &Path) -> Result<PipelineFile, Problem> {
    let is_input = path == Path::new(INPUT);
    let read = || match is_input {
        true => bounded(io::stdin()),
        false => bounded(File::open(path)?),
    };
    let bytes = read().map_err(|error| {
        let problem = Problem::new(Exit::NoInput, format!("failed to read `{}`", path.display()));
        let another = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory);
        let problem = problem.because(error);
        if another {
            problem.remedy("name the file of a pipeline, which is written in YAML")
        } else {
            problem
        }
    })?;
    let name = if is_input { "standard input".to_owned() } else { path.display().to_string() };
    let mut sources = Sources::new();
    let id = sources.add(name.clone(), &bytes);
    let directory = if is_input { root } else { path.parent().unwrap_or_else(|| Path::new("")) };
    let mut files = Files::new(root, &name, directory);
    let parsed =
        cofferdam_jobs::parse_with(&mut sources, id, &mut |from, path| files.find(from, path));
    let digest = super::inputs::digest::of_bytes(&bytes);
    Ok(PipelineFile { sources, pipeline: parsed.pipeline, diagnostics: parsed.diagnostics, digest })
}

/// The project: what was said; or the current directory, when the pipeline lies in or below it; or
/// the directory of the pipeline.
pub(crate) fn project(file: &Path, said: Option<&Path>) -> PathBuf {
    said.map_or_else(
        || {
            let current = std::env::current_dir().and_then(fs::canonicalize).unwrap_or_default();
            match fs::canonicalize(file) {
                Ok(file) if !file.starts_with(&current) => {
                    file.parent().map_or(current, Path::to_owned)
                }
                _ => current,
            }
        },
        Path::to_owned,
    )
}

fn bounded(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files of a project that can be included.
struct Files {
    root: PathBuf,
    /// The name of each file and its directory, by where it really is.
    names: HashMap<PathBuf, String>,
    directories: HashMap<String, PathBuf>,
}

impl Files {
    fn new(root: &Path, name: &str, directory: &Path) -> Self {
        let root = fs::canonicalize(root).unwrap_or_default();
        let names = fs::canonicalize(name).map(|path| (path, name.to_owned()));
        Self {
            root,
            names: names.into_iter().collect(),
            directories: HashMap::from([(name.to_owned(), directory.to_owned())]),
        }
    }

    fn find(&mut self, from: &str, path: &str) -> Result<Included, NotIncluded> {
        let unreadable = |error: io::Error| NotIncluded::Unreadable(error.to_string());
        if Path::new(path).is_absolute() {
            return Err(NotIncluded::Outside);
        }
        let written = self.directories.get(from).cloned().unwrap_or_default().join(path);
        // Where it really is: a link may lead anywhere.
        let real = fs::canonicalize(&written).map_err(|error| {
            // What lies outside is not even told to be there or not.
            if leaves(&self.root, &written) { NotIncluded::Outside } else { unreadable(error) }
        })?;
        if !real.starts_with(&self.root) {
            return Err(NotIncluded::Outside);
        }
        // A FIFO must not hold anyone up.
        let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&real);
        let file = file.map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(NotIncluded::Unreadable("it is not a file".to_owned()));
        }
        let bytes = bounded(file).map_err(unreadable)?;
        let name = written.display().to_string();
        let name = self.names.entry(real).or_insert(name).clone();
        let directory = written.parent().map(Path::to_owned).unwrap_or_default();
        self.directories.entry(name.clone()).or_insert(directory);
        Ok(Included { name, bytes })
    }
}

/// Whether a path climbs above `root`, as it is written.
fn leaves(root: &Path, written: &Path) -> bool {
    let from = std::env::current_dir().unwrap_or_default().join(written);
    let mut reached = PathBuf::new();
    for component in from.components() {
        match component {
            Component::ParentDir => drop(reached.pop()),
            other => reached.push(other),
        }
    }
    !reached.starts_with(root)
}

impl PipelineFile {
    /// Draws `diagnostics` on standard error.
    pub(crate) fn draw(&self, diagnostics: &[Diagnostic]) {
        if !diagnostics.is_empty() {
            let colour = wants_colour(&io::stderr());
            let text = render::render_all(diagnostics, &self.sources, colour);
            print::standard_error(format_args!("{text}\n"));
        }
    }

    /// Says how many faults there are.
    pub(crate) fn faults(&self, path: &Path, diagnostics: &[Diagnostic]) -> Problem {
        let of_the_caller = [
            Code::UnknownParameter,
            Code::MissingParameter,
            Code::BadParameter,
            Code::UnknownJobSelected,
        ];
        // The file is well-formed, and what was asked of it is not in it.
        if self.pipeline.is_some() && diagnostics.iter().all(|it| of_the_caller.contains(&it.code))
        {
            return Problem::new(Exit::Usage, "nothing was run");
        }
        let errors = diagnostics.iter().filter(|it| it.severity == Severity::Error).count();
        let faults = crate::report::quantity::count(errors as u64, "fault");
        Problem::new(Exit::Data, format!("`{}` has {faults}; nothing was run", path.display()))
    }
}
