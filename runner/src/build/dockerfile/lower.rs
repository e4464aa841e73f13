//! One instruction to the steps of the engine.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_jobs::{
    diagnostic::Report,
    dockerfile::{
        Command, Copy, CopyFrom, Instruction as Line, Kind, Run as RunLine, RunNetwork, Word,
    },
};
use cofferdam_sandbox::{
    ProgramFile,
    image::{Image, Store},
    network::Network,
};

use super::{
    Project, Request,
    drive::Given,
    metadata::{absolute, argv, health, ports, signal},
    sources::{Copied, Taking},
    variables::Variables,
};
use crate::{
    build::{Change, Configuration, Instruction, Put, Run, Source, Step},
    exit::Exit,
    problem::Problem,
};

/// Where a script lies that is not for the shell: in memory, and in no layer.
const SCRIPT: &str = "/run/cofferdam/script";
/// What runs commands that are written as text.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Bytes of an instruction that the image's history keeps.
const TOLD: usize = 4 * 1024;

/// A stage while its instructions are turned into steps.
#[derive(Debug)]
pub(super) struct Lowering {
    pub(super) project: Arc<Project>,
    pub(super) request: Arc<Request>,
    pub(super) variables: Variables,
    /// What earlier stages came to.
    stages: HashMap<usize, Arc<Image>>,
    /// Other images.
    images: Arc<HashMap<String, Arc<Image>>>,
    /// The state directory, where archives are unpacked.
    state: PathBuf,
    shell: Vec<String>,
    /// What `CMD` said in this stage; one of the base image goes with its entry point.
    command: Option<Vec<String>>,
}

impl Lowering {
    pub(super) fn new(
        given: &Given,
        state: &Path,
        variables: Variables,
        configuration: &Configuration,
        stages: HashMap<usize, Arc<Image>>,
    ) -> Self {
        let shell = configuration.shell();
        Self {
            project: Arc::clone(&given.project),
            request: Arc::clone(&given.request),
            variables,
            stages,
            images: Arc::clone(&given.images),
            state: state.to_owned(),
            shell: shell.unwrap_or_else(|| SHELL.map(str::to_owned).to_vec()),
            command: None,
        }
    }

    /// The steps of an instruction; none where it only changes variables.
    pub(super) fn steps(
        &mut self,
        line: &Line,
        configuration: &Configuration,
    ) -> Result<Vec<Step>, Problem> {
        let mut report = Report::new();
        let instructions = match &line.kind {
            Kind::Copy(copy) => return self.copy(line, copy, configuration),
            Kind::Run(run) => {
                let lowered = self.run(run);
                let lowered = self.mount(run, lowered, configuration)?;
                Some(vec![Instruction::Run(Box::new(lowered))])
            }
            _ => self.instructions(line, configuration, &mut report),
        };
        let instructions = self.project.told(report, instructions)?;
        let created_by = told(line);
        let step = |instruction| Step { created_by: created_by.clone(), instruction };
        Ok(instructions.into_iter().map(step).collect())
    }

    fn instructions(
        &mut self,
        line: &Line,
        configuration: &Configuration,
        report: &mut Report,
    ) -> Option<Vec<Instruction>> {
        let variables = &self.variables;
        let changes = match &line.kind {
            Kind::Argument(arguments) => {
                self.variables.declare(arguments, report)?;
                return Some(Vec::new());
            }
            // Before this.
            Kind::Run(_) | Kind::Copy(_) => return Some(Vec::new()),
            Kind::Workdir(path) => {
                let path = variables.expand(path, report)?;
                return Some(vec![Instruction::Enter(absolute(&configuration.workdir(), &path))]);
            }
            Kind::Environment(assignments) => {
                let mut pairs = Vec::new();
                // All values are of the time before this instruction.
                for assignment in assignments {
                    let key = variables.expand(&assignment.key, report)?;
                    let value = variables.expand(&assignment.value, report)?;
                    pairs.push((key, value, &assignment.value));
                }
                for (key, value, word) in &pairs {
                    self.variables.set(key, value, word, report)?;
                }
                pairs.into_iter().map(|(key, value, _)| Change::Env(key, value)).collect()
            }
            Kind::Label(assignments) => {
                let mut changes = Vec::new();
                for assignment in assignments {
                    let key = variables.expand(&assignment.key, report)?;
                    let value = variables.expand(&assignment.value, report)?;
                    changes.push(Change::Label(key, value));
                }
                changes
            }
            Kind::User(user) => vec![Change::User(variables.expand(user, report)?)],
            Kind::Entrypoint(entrypoint) => {
                let entrypoint = argv(entrypoint, &self.shell);
                let command = self.command.clone().map(Change::Cmd);
                [Change::Entrypoint(entrypoint)].into_iter().chain(command).collect()
            }
            Kind::Command(command) => {
                let command = argv(command, &self.shell);
                self.command = Some(command.clone());
                vec![Change::Cmd(command)]
            }
            Kind::Shell(shell) => {
                self.shell.clone_from(shell);
                vec![Change::Shell(shell.clone())]
            }
            Kind::Expose(words) => {
                let mut changes = Vec::new();
                for word in words {
                    let text = variables.expand(word, report)?;
                    // A variable may stand for several, or for none.
                    for port in text.split_whitespace() {
                        changes.extend(ports(port, word, report)?);
                    }
                }
                changes
            }
            Kind::Volume(paths) => {
                let paths = variables.all(paths, report)?;
                paths.into_iter().map(Change::Volume).collect()
            }
            Kind::StopSignal(word) => {
                vec![signal(&variables.expand(word, report)?, word, report)?]
            }
            Kind::Maintainer(author) => vec![Change::Author(author.clone())],
            Kind::Health(check) => vec![Change::Health(health(check))],
            Kind::Trigger(trigger) => vec![Change::Trigger(trigger.text.clone())],
        };
        Some(vec![Instruction::Configure(changes)])
    }

    fn run(&self, run: &RunLine) -> Run {
        let mut files = Vec::new();
        let argv = match (&run.script, &run.command) {
            (Some(script), _) => {
                let content = script.clone().into_bytes();
                files.push(ProgramFile { path: SCRIPT.to_owned(), mode: 0o755, content });
                vec![SCRIPT.to_owned()]
            }
            (None, Command::Exec(argv)) => argv.clone(),
            (None, Command::Shell(_)) => argv(&run.command, &self.shell),
        };
        let network = match run.network.as_ref().map(|network| network.value) {
            Some(RunNetwork::None) => Network::None,
            Some(RunNetwork::Default) | None => self.request.network.clone(),
        };
        Run {
            argv,
            files,
            env: self.variables.for_programs(),
            workdir: None,
            user: None,
            network,
            limits: self.request.limits.clone(),
            shown: Vec::new(),
            aside: Vec::new(),
            secrets: Vec::new(),
            caches: Vec::new(),
        }
    }

    fn copy(
        &self,
        line: &Line,
        copy: &Copy,
        configuration: &Configuration,
    ) -> Result<Vec<Step>, Problem> {
        let mut report = Report::new();
        let expanded = self.expand_copy(copy, &mut report);
        let (words, to, owner, exclude) = self.project.told(report, expanded)?;
        let to = destination(&configuration.workdir(), &to);
        let created_by = told(line);
        let mut steps = Vec::new();
        let mut step = |put: Put| {
            let instruction = Instruction::Put(put);
            steps.push(Step { created_by: created_by.clone(), instruction });
        };
        if !copy.sources.is_empty() {
            let project = &*self.project;
            let taking = Taking { project, words: &words, exclude: &exclude };
            let from = copy.from.as_ref().map(|from| &from.value);
            let copied = self.taken(taking, from, copy.unpack)?;
            let mode = copy.mode.as_ref().map(|mode| mode.value.clone());
            // Archives are unpacked by themselves, in the order of the sources.
            for Copied { from, paths, unpacked } in copied {
                let to = match unpacked || copy.sources.len() + copy.inline.len() > 1 {
                    true => format!("{}/", to.trim_end_matches('/')),
                    false => to.clone(),
                };
                let (owner, mode) = (owner.clone(), mode.clone());
                step(Put { from, paths, to, owner, mode, alone: false });
            }
        }
        if !copy.inline.is_empty() {
            let mut report = Report::new();
            let files: Option<Vec<_>> = copy
                .inline
                .iter()
                .map(|file| {
                    let content = self.variables.expand(&file.content, &mut report)?;
                    Some((file.name.clone(), content.into_bytes()))
                })
                .collect();
            let files = self.project.told(report, files)?;
            step(Put {
                paths: files.iter().map(|(name, _)| PathBuf::from(name)).collect(),
                from: Source::Files(files),
                to,
                owner,
                mode: copy.mode.as_ref().map(|mode| mode.value.clone()),
                alone: false,
            });
        }
        Ok(steps)
    }

    /// The files of a source.
    pub(super) fn taken(
        &self,
        taking: Taking<'_>,
        from: Option<&CopyFrom>,
        unpack: bool,
    ) -> Result<Vec<Copied>, Problem> {
        let image = match from {
            None if unpack => return taking.of_context(Some(&Store::open(&self.state)?)),
            None => return taking.of_context(None),
            Some(CopyFrom::Stage(number)) => self.stages.get(number),
            Some(CopyFrom::Image(name)) => self.images.get(name),
        };
        match image {
            Some(image) => taking.of_image(Arc::clone(image)),
            None => Err(Problem::new(Exit::System, "what files are copied from was not made")),
        }
    }

    #[expect(clippy::type_complexity, reason = "the parts of one instruction, used at once")]
    fn expand_copy(
        &self,
        copy: &Copy,
        report: &mut Report,
    ) -> Option<(Vec<(String, Word)>, String, Option<String>, Vec<String>)> {
        let mut words = Vec::new();
        for source in &copy.sources {
            words.push((self.variables.expand(source, report)?, source.clone()));
        }
        let to = self.variables.expand(&copy.destination, report)?;
        let owner = match &copy.owner {
            Some(owner) => Some(self.variables.expand(owner, report)?),
            None => None,
        };
        Some((words, to, owner, self.variables.all(&copy.exclude, report)?))
    }
}

/// Where files go; a slash at the end, or a `.`, says that it is a directory.
fn destination(workdir: &str, to: &str) -> String {
    let path = absolute(workdir, to);
    let is_directory = to.is_empty()
        || to.ends_with(['/'])
        || to.ends_with("/.")
        || to == "."
        || to.ends_with("..");
    if is_directory && path != "/" { format!("{path}/") } else { path }
}

/// What the history keeps of an instruction.
fn told(line: &Line) -> String {
    let mut end = line.text.len().min(TOLD);
    while !line.text.is_char_boundary(end) {
        end -= 1;
    }
    line.text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for (to, expect) in [
            ("a", "/w/a"),
            ("a/", "/w/a/"),
            (".", "/w/"),
            ("./", "/w/"),
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/..", "/"),
            ("..", "/"),
            ("/a/.", "/a/"),
        ] {
            assert_eq!(destination("/w", to), expect, "{to}");
        }
    }
}
