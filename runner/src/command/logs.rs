//! `cofferdam logs`: what the steps of a run wrote, from its record.

use std::{
    fs,
    io::{self, BufWriter, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use jiff::Timestamp;

use crate::{
    cli::Logs,
    exit::Exit,
    log::{index::Stream, reader::LogReader, terminal::Sanitizer},
    problem::Problem,
    report::{
        record::{JobRecord, RunRecord},
        style::wants_colour,
    },
};

/// Prints the logs of a run.
pub(super) fn run(arguments: &Logs, state: &Path) -> Result<u8, Problem> {
    let directory = find(arguments.run.as_deref(), state)?;
    let record = RunRecord::read(&directory).map_err(|error| {
        Problem::new(Exit::NoInput, format!("no run in `{}`", directory.display()))
            .because(error)
            .remedy("name a run's id, or the directory that was given with `--out`")
    })?;
    if record.conclusion.is_none() {
        let logs = directory.join("logs");
        let message = format!("run `{}` has not ended, or was killed", record.id);
        return Err(Problem::new(Exit::NoInput, message).remedy(format!(
            "wait for its end; what was written so far is in `{}`",
            logs.display()
        )));
    }
    let wanted = |job: &&JobRecord| {
        arguments.job.as_ref().is_none_or(|name| *name == job.name || *name == job.id)
    };
    let jobs: Vec<&JobRecord> = record.jobs.iter().filter(wanted).collect();
    if jobs.is_empty() {
        let names: Vec<&str> = record.jobs.iter().map(|job| job.name.as_str()).collect();
        let message = format!("run `{}` has no such job", record.id);
        return Err(
            Problem::new(Exit::NoInput, message).remedy(format!("it has `{}`", names.join("`, `")))
        );
    }
    let mut printer = Printer::new(arguments.timestamps);
    match jobs.into_iter().try_for_each(|job| printer.job(job, &directory)) {
        // Whoever reads has seen enough.
        Err(PrintError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(PrintError::Output(error)) => {
            return Err(Problem::new(Exit::System, "failed to print").because(error));
        }
        Err(PrintError::Log(error)) => {
            return Err(Problem::new(Exit::NoInput, "failed to read a log").because(error));
        }
        Ok(()) => {}
    }
    Ok(Exit::Passed.code())
}

/// Stands for the newest run.
pub(super) const LAST: &str = "last";

/// The directory of a run, the newest where none is said, or [`LAST`]. Ids begin with the second of their run,
/// and in one second its directory's own time decides.
pub(super) fn find(said: Option<&Path>, state: &Path) -> Result<PathBuf, Problem> {
    let runs = state.join("runs");
    match said.filter(|said| *said != Path::new(LAST)) {
        Some(said) if said.is_dir() => Ok(said.to_owned()),
        Some(said) => Ok(runs.join(said)),
        None => fs::read_dir(&runs)
            .ok()
            .and_then(|list| list.filter_map(|entry| newest(&entry.ok()?)).max())
            .map(|(.., path)| path)
            .ok_or_else(|| {
                Problem::new(Exit::NoInput, format!("there is no run in `{}`", runs.display()))
                    .remedy("start one with `cofferdam run`")
            }),
    }
}

/// What orders runs by their beginning.
fn newest(run: &fs::DirEntry) -> Option<(String, Option<SystemTime>, PathBuf)> {
    let name = run.file_name().into_string().ok()?;
    let second = name.rsplit_once('-').map_or(name.as_str(), |(second, _)| second).to_owned();
    let made = run.metadata().and_then(|found| found.modified()).ok();
    Some((second, made, run.path()))
}

enum PrintError {
    Log(crate::log::recorder::LogError),
    Output(io::Error),
}

/// Prints lines: cleaned for a terminal, as they are otherwise.
struct Printer {
    output: BufWriter<io::Stdout>,
    timestamps: bool,
    colour: Option<bool>,
}

impl Printer {
    fn new(timestamps: bool) -> Self {
        let stdout = io::stdout();
        let colour = stdout.is_terminal().then(|| wants_colour(&stdout));
        Self { output: BufWriter::new(stdout), timestamps, colour }
    }

    fn job(&mut self, job: &JobRecord, directory: &Path) -> Result<(), PrintError> {
        for attempt in &job.attempts {
            for step in &attempt.steps {
                if let Some(log) = &step.log {
                    writeln!(self.output, "=== {}: {}", job.name, step.name)
                        .map_err(PrintError::Output)?;
                    self.log(&directory.join(&log.path))?;
                }
            }
        }
        self.output.flush().map_err(PrintError::Output)
    }

    fn log(&mut self, path: &Path) -> Result<(), PrintError> {
        let mut reader = LogReader::open(path).map_err(PrintError::Log)?;
        while let Some(line) = reader.next_line().map_err(PrintError::Log)? {
            let mut text = Vec::new();
            if self.timestamps {
                let at = Timestamp::try_from(line.at).unwrap_or(Timestamp::UNIX_EPOCH);
                let mark = if line.stream == Stream::Stderr { "!" } else { " " };
                write!(text, "{at:.3} {mark} ").map_err(PrintError::Output)?;
            }
            match self.colour {
                None => text.extend_from_slice(&line.text),
                Some(colour) => {
                    let mut sanitizer = Sanitizer::new(colour);
                    let mut take = |shown: &str| text.extend_from_slice(shown.as_bytes());
                    sanitizer.push(&line.text, &mut take);
                    sanitizer.flush(&mut take);
                }
            }
            text.push(b'\n');
            self.output.write_all(&text).map_err(PrintError::Output)?;
        }
        Ok(())
    }
}
