//! From a resolved step to the program that a container runs for it.

use cofferdam_jobs::state::{ResolvedCommand, ResolvedStep};
use cofferdam_sandbox::{Program, ProgramFile, WORKSPACE, image::ImageConfig};

use super::{
    JobContext,
    environment::{Facts, environment},
    files::StepFiles,
};
use crate::execute::job::ready::Probe;

/// Where secrets are placed as files.
const SECRETS: &str = "/run/secrets";

/// A step, and what decides how it is run.
#[derive(Debug)]
pub(in crate::execute) struct Template<'a> {
    pub(in crate::execute) context: &'a JobContext,
    pub(in crate::execute) step: &'a ResolvedStep,
    /// The configuration of the image that the step runs in.
    pub(in crate::execute) image: &'a ImageConfig,
    pub(in crate::execute) files: &'a StepFiles,
}

impl Template<'_> {
    /// The step's own program, and its command line for people.
    pub(in crate::execute) fn step(&self) -> (Program, String) {
        let mut program = self.program(&self.step.command, self.files.script());
        let empty = self.files.paths();
        program.files.extend(empty.map(|path| ProgramFile {
            path,
            mode: 0o600,
            content: Vec::new(),
        }));
        program.files.extend(self.step.secret_files.iter().map(|secret| ProgramFile {
            path: format!("{SECRETS}/{}", secret.name),
            mode: 0o400,
            content: secret.value.clone().into_bytes(),
        }));
        let command_line = match &self.step.command {
            ResolvedCommand::Exec(argv) => argv.join(" "),
            ResolvedCommand::Script { text, .. } => {
                text.lines().next().unwrap_or_default().to_owned()
            }
        };
        (program, command_line)
    }

    /// What finds out whether the step is ready, where it says.
    pub(in crate::execute) fn probe(&self) -> Option<Probe> {
        let ready = self.step.ready.as_ref()?;
        Some(Probe {
            program: self.program(&ready.command, self.files.probe()),
            timeout: ready.timeout,
            interval: ready.interval,
        })
    }

    fn program(&self, command: &ResolvedCommand, script: String) -> Program {
        let (context, step) = (self.context, self.step);
        let facts = Facts {
            run: &context.run,
            job: &context.job_id,
            step: step.id.as_deref().unwrap_or(&step.name),
            attempt: context.attempt,
            index: context.index.0,
            total: context.index.1,
        };
        let (argv, files) = self::command(command, script);
        let workdir = step.workdir.as_ref().or(context.workdir.as_ref());
        let user = step.user.as_ref().or(context.user.as_ref());
        Program {
            argv,
            env: environment(&self.image.env, &facts, self.files, &step.env),
            workdir: workdir.map_or_else(|| WORKSPACE.to_owned(), |it| below_workspace(it)),
            user: user.unwrap_or(&self.image.user).clone(),
            files,
        }
    }
}

/// The arguments of a command, and its script as a file at `path`.
pub(in crate::execute) fn command(
    command: &ResolvedCommand,
    path: String,
) -> (Vec<String>, Vec<ProgramFile>) {
    match command {
        ResolvedCommand::Exec(argv) => (argv.clone(), Vec::new()),
        ResolvedCommand::Script { shell, text } => {
            // A file and not an argument: arguments show in `/proc`, and scripts hold secrets.
            let argv = shell.iter().cloned().chain([path.clone()]).collect();
            let content = text.clone().into_bytes();
            (argv, vec![ProgramFile { path, mode: 0o500, content }])
        }
    }
}

/// Relative directories count from the workspace.
fn below_workspace(directory: &str) -> String {
    if directory.starts_with('/') {
        directory.to_owned()
    } else {
        format!("{WORKSPACE}/{directory}")
    }
}
