//! From the command line of `exec` to what the sandbox shall do.

use std::{fs, path::PathBuf, sync::Arc};

use cofferdam_jobs::Configuration;
use cofferdam_sandbox::{ContainerSpec, Program, image::Image};
use globset::GlobSet;

use crate::{
    cli,
    execute::inputs::globs::globs,
    exit::Exit,
    limits,
    log::{needles::Needles, secret::Secret},
    network,
    problem::Problem,
    scratch,
    supervise::PATH,
    variables,
};

/// Everything that `exec` needs to know.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) container: ContainerSpec,
    pub(super) program: Program,
    pub(super) needles: Arc<Needles>,
    pub(super) artifacts: Option<Artifacts>,
    pub(super) terminal: bool,
    pub(super) interactive: bool,
    /// The command as the user wrote it, for messages.
    pub(super) command_line: String,
}

/// What comes out afterwards, and where to.
#[derive(Debug)]
pub(super) struct Artifacts {
    pub(super) globs: GlobSet,
    pub(super) written: String,
    pub(super) target: PathBuf,
}

impl Description {
    pub(super) fn new(
        arguments: cli::Exec,
        configuration: &Configuration,
        image: Arc<Image>,
    ) -> Result<Self, Problem> {
        let secrets = secrets(&arguments.secret)?;
        let needles = Needles::new(&secrets)
            .map_err(|error| Problem::new(Exit::Usage, error.to_string()))
            .map(Arc::new)?;
        let artifacts = artifacts(&arguments)?;
        let argv = command(arguments.command, &image)?;
        let mut env = image.config.env.clone();
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".to_owned(), PATH.to_owned()));
        }
        for file in &arguments.env_file {
            for (name, value) in variables::from_file(file)? {
                set(&mut env, name, value);
            }
        }
        for variable in &arguments.env {
            if let Some((name, value)) = variable_argument(variable)? {
                set(&mut env, name, value);
            }
        }
        for secret in &secrets {
            let value = String::from_utf8_lossy(secret.expose()).into_owned();
            set(&mut env, secret.name().to_owned(), value);
        }
        if arguments.tty
            && let Ok(terminal) = std::env::var("TERM")
            && !env.iter().any(|(name, _)| name == "TERM")
        {
            env.push(("TERM".to_owned(), terminal));
        }
        let program = Program {
            argv,
            env,
            workdir: workdir(arguments.workdir, &image)?,
            user: arguments.user.unwrap_or_else(|| image.config.user.clone()),
            files: Vec::new(),
        };
        let command_line = needles.mask_text(&program.argv.join(" "));
        let container = ContainerSpec {
            scratch: scratch::kind(arguments.limits.scratch, configuration),
            limits: limits::of_arguments(&arguments.limits, configuration)?,
            hostname: hostname(arguments.hostname)?,
            workspace: arguments.workspace,
            mounts: arguments.mount.into_iter().map(Into::into).collect(),
            network: network::with_bandwidth(arguments.network.0, arguments.limits.bandwidth)?
                .into(),
            ..ContainerSpec::new(image)
        };
        Ok(Self {
            container,
            program,
            needles,
            artifacts,
            terminal: arguments.tty,
            interactive: arguments.interactive,
            command_line,
        })
    }
}

/// The command line's command, or the image's.
fn command(said: Vec<String>, image: &Image) -> Result<Vec<String>, Problem> {
    let arguments = if said.is_empty() { image.config.command.clone() } else { said };
    let argv: Vec<String> = image.config.entrypoint.iter().cloned().chain(arguments).collect();
    if argv.is_empty() {
        return Err(Problem::new(Exit::Usage, "no command, and the image has none of its own")
            .remedy("add one at the end: `-- CMD ARGUMENTS`"));
    }
    Ok(argv)
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    env.retain(|(known, _)| *known != name);
    env.push((name, value));
}

/// `NAME=VALUE`, or `NAME` with the caller's value; `None` when the caller has none.
fn variable_argument(text: &str) -> Result<Option<(String, String)>, Problem> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, std::env::var(text).ok()),
    };
    if name.is_empty() || name.contains('\0') {
        let message = format!("`--env {text}` has no name before the `=`");
        return Err(Problem::new(Exit::Usage, message));
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

fn secrets(names: &[String]) -> Result<Vec<Secret>, Problem> {
    if !names.is_empty() {
        variables::hide_memory()?;
    }
    names
        .iter()
        .map(|name| variables::secret(name, variables::secret_from_environment(name)?))
        .collect()
}

fn artifacts(arguments: &cli::Exec) -> Result<Option<Artifacts>, Problem> {
    if arguments.artifact.is_empty() {
        return Ok(None);
    }
    let globs = globs(&arguments.artifact).map_err(|error| Problem::sandbox(Exit::Usage, error))?;
    fs::create_dir_all(&arguments.out).map_err(|error| {
        Problem::new(Exit::NoInput, format!("failed to make `{}`", arguments.out.display()))
            .because(error)
            .remedy("choose another directory with `--out`")
    })?;
    let written = arguments.artifact.join(" ");
    Ok(Some(Artifacts { globs, written, target: arguments.out.clone() }))
}

fn workdir(said: Option<String>, image: &Image) -> Result<String, Problem> {
    let workdir = match said {
        Some(said) => said,
        None if image.config.working_dir.is_empty() => cofferdam_sandbox::WORKSPACE.to_owned(),
        None => image.config.working_dir.clone(),
    };
    if workdir.starts_with('/') {
        Ok(workdir)
    } else {
        Err(Problem::new(Exit::Usage, format!("`--workdir {workdir}` is not an absolute path")))
    }
}

fn hostname(said: String) -> Result<String, Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if (1..=63).contains(&said.len()) && said.bytes().all(plain) {
        return Ok(said);
    }
    Err(Problem::new(Exit::Usage, format!("`--hostname {said}` is not a host name"))
        .remedy("use 1 to 63 letters, digits, `-` and `.`"))
}
