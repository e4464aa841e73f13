//! A file to its stages, or to all of its faults.

use std::rc::Rc;

use super::{
    arguments, bounds,
    fragment::Fragment,
    heredoc,
    instruction::{self, KnownFlags, Reading, flags, usage, value},
    model::{Argument, Dockerfile, Instruction, Stage},
    text::Lines,
    words,
};
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted},
    source::{FileId, SourceFile, Sources, Spanned},
    suggest::suggestion,
};

/// What became of a Dockerfile.
#[derive(Clone, Debug)]
pub struct Read {
    /// The file, unless there was an error.
    pub dockerfile: Option<Dockerfile>,
    /// All errors and warnings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a Dockerfile.
///
/// Bounded in time and memory whatever the bytes are.
pub fn parse(sources: &Sources, id: FileId) -> Read {
    let mut report = Report::new();
    let dockerfile = sources.file(id).and_then(|file| read(file, id, &mut report));
    let dockerfile = dockerfile.filter(|_| report.errors() == 0);
    Read { dockerfile, diagnostics: report.finish() }
}

/// Reads an instruction that an image holds for those that are built on it (`ONBUILD`). Stages are
/// none of its business.
pub fn parse_trigger(sources: &Sources, id: FileId) -> (Option<Instruction>, Vec<Diagnostic>) {
    let mut report = Report::new();
    let instruction = sources.file(id).and_then(|file| {
        let lines = Lines::new(file, id, &mut report)?;
        let line = lines.line(file.text(), 0);
        let (escape, stages, heredocs) = ('\\', Rc::default(), Vec::new());
        let mut reading = Reading { escape, report: &mut report, stages, heredocs };
        instruction::read(line.whole().trim(), &mut reading)
    });
    let instruction = instruction.filter(|_| report.errors() == 0);
    (instruction, report.finish())
}

/// The file so far.
struct Building {
    arguments: Vec<Argument>,
    stages: Vec<Stage>,
    /// Names of all stages but the last.
    before: Rc<Vec<Option<String>>>,
    /// Whether there was a `FROM`, sound or not.
    begun: bool,
    instructions: usize,
}

fn read(file: &SourceFile, id: FileId, report: &mut Report) -> Option<Dockerfile> {
    let mut lines = Lines::new(file, id, report)?;
    let mut building = Building {
        arguments: Vec::new(),
        stages: Vec::new(),
        before: Rc::default(),
        begun: false,
        instructions: 0,
    };
    while let Some(line) = lines.instruction() {
        if report.is_full() {
            return None;
        }
        let whole = line.whole().trim();
        building.instructions += 1;
        if building.instructions > bounds::INSTRUCTIONS {
            let message = format!("the file has more than {} instructions", bounds::INSTRUCTIONS);
            report.push(
                Diagnostic::error(Code::DockerfileTooLarge, message)
                    .at(whole.span(), "this one is too many")
                    .help("put commands into scripts of the context"),
            );
            return None;
        }
        let heredocs = match takes_heredocs(whole) {
            true => heredoc::read(whole, &mut lines, report),
            false => Vec::new(),
        };
        let stages = Rc::clone(&building.before);
        let mut reading = Reading { escape: lines.escape, report, stages, heredocs };
        match building.add(whole, &mut reading) {
            Ok(()) => {}
            Err(TooManyStages) => return None,
        }
    }
    if !building.begun {
        let nothing = building.instructions == 0;
        let code = if nothing { Code::Empty } else { Code::DockerfileOrder };
        let message =
            if nothing { "the file has no instructions" } else { "the file has no `FROM`" };
        report.push(
            Diagnostic::error(code, message)
                .at(lines.end(), "")
                .help("begin with the image to start from: `FROM debian:12`"),
        );
    }
    let Building { arguments, stages, .. } = building;
    Some(Dockerfile { escape: lines.escape, arguments, stages })
}

/// A bound that ends the reading.
struct TooManyStages;

fn takes_heredocs(line: Fragment<'_>) -> bool {
    let (mut name, rest) = line.split_word();
    if name.text().eq_ignore_ascii_case("ONBUILD") {
        name = rest.split_word().0;
    }
    ["RUN", "COPY", "ADD"].iter().any(|taker| name.text().eq_ignore_ascii_case(taker))
}

impl Building {
    fn add(&mut self, line: Fragment<'_>, reading: &mut Reading<'_>) -> Result<(), TooManyStages> {
        let (name, rest) = line.split_word();
        if name.text().eq_ignore_ascii_case("FROM") {
            if self.begun {
                let name = self.stages.last().and_then(|stage| stage.name.as_ref());
                Rc::make_mut(&mut self.before).push(name.map(|name| name.value.clone()));
            }
            self.begun = true;
            if self.before.len() >= bounds::STAGES {
                let message = format!("the file has more than {} stages", bounds::STAGES);
                let help = "split it into several files";
                reading.fault(Code::DockerfileTooLarge, line.span(), message, help);
                return Err(TooManyStages);
            }
            self.stage(line, rest, reading);
            return Ok(());
        }
        if !self.begun {
            if name.text().eq_ignore_ascii_case("ARG") && !rest.is_empty() {
                self.arguments.extend(arguments::arguments(rest, reading).unwrap_or_default());
                return Ok(());
            }
            let known = instruction::NAMES.iter().any(|it| name.text().eq_ignore_ascii_case(it));
            if known && !rest.is_empty() {
                let message = format!("{} comes before the first `FROM`", quoted(name.text()));
                let help = "only `ARG` may; begin with `FROM IMAGE`";
                reading.fault(Code::DockerfileOrder, line.span(), message, help);
            }
        }
        let instruction = instruction::read(line, reading);
        if let Some((stage, instruction)) = self.stages.last_mut().zip(instruction) {
            stage.instructions.push(instruction);
        }
        Ok(())
    }
}

const FROM: KnownFlags = KnownFlags {
    instruction: "FROM",
    values: &["platform"],
    lists: &[],
    switches: &[],
    unsupported: &[],
};

impl Building {
    /// Begins a stage, also a faulty one, so that what follows belongs to something.
    fn stage(&mut self, line: Fragment<'_>, rest: Fragment<'_>, reading: &mut Reading<'_>) {
        let (flags, rest) = flags(rest, FROM, reading);
        let platform = value(&flags, "platform").and_then(|text| reading.word(text));
        let words = words::by_space(rest, reading.report);
        let (image, name) = match words.as_slice() {
            [image] => (Some(*image), None),
            [image, keyword, name] if keyword.text().eq_ignore_ascii_case("AS") => {
                (Some(*image), Some(*name))
            }
            [] => {
                reading.wrong(line.span(), "`FROM` names no image", usage("FROM"));
                (None, None)
            }
            [image, second, ..] => {
                let near = suggestion(second.text(), ["AS"]);
                let help = near.filter(|_| words.len() == 3);
                let help = help.unwrap_or_else(|| usage("FROM").to_owned());
                reading.wrong(second.span(), "`FROM` takes one image, and `AS` with a name", &help);
                (Some(*image), None)
            }
        };
        let name = name.and_then(|name| self.name(name, reading));
        let from = image.and_then(|image| reading.word(image));
        // It only stands for what could not be read: with an error nothing is built.
        let from = from.unwrap_or_else(|| super::word::Word::text("scratch", line.span()));
        let span = line.span();
        self.stages.push(Stage { from, platform, name, instructions: Vec::new(), span });
    }

    fn name(&self, name: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Spanned<String>> {
        let lower = name.text().to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let begins = lower.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins || !lower.chars().all(allowed) || lower.len() > 128 || lower == "scratch" {
            let message = format!("{} cannot be the name of a stage", quoted(name.text()));
            let help = "names begin with a letter; letters, digits, `-`, `_` and `.` follow";
            reading.fault(Code::DockerfileStage, name.span(), message, help);
            return None;
        }
        let same = |stage: &&Stage| stage.name.as_ref().is_some_and(|other| other.value == lower);
        if let Some(first) = self.stages.iter().find(same) {
            let first = first.name.as_ref().map_or(first.span, |name| name.span);
            reading.report.push(
                Diagnostic::error(
                    Code::DockerfileStage,
                    format!("two stages are called {}", quoted(&lower)),
                )
                .at(name.span(), "the second time")
                .at(first, "the first time")
                .help("rename one of them"),
            );
            return None;
        }
        Some(Spanned::new(lower, name.span()))
    }
}
