//! What a run takes from its command line and its surroundings: parameters, secrets, the
//! project's state under git, digests of its files.

pub(super) mod committed;
pub(super) mod digest;
pub(super) mod foresight;
pub(crate) mod globs;

use std::{collections::BTreeMap, fs, path::Path};

use cofferdam_jobs::{Inputs, Pipeline, Plan};
use globset::GlobSet;

use crate::{cli, exit::Exit, git, log::secret::Secret, problem::Problem, variables};
use globs::globs;

/// Reads `--param`, `--job` and the project.
pub(crate) fn inputs(
    chosen: &[String],
    jobs: &[String],
    run: &str,
    workspace: &Path,
) -> Result<Inputs, Problem> {
    let mut params = BTreeMap::new();
    for param in chosen {
        let (name, value) = param.split_once('=').ok_or_else(|| {
            Problem::new(Exit::Usage, format!("`--param {param}` is not NAME=VALUE"))
        })?;
        params.insert(name.to_owned(), value.to_owned());
    }
    Ok(Inputs {
        params,
        jobs: jobs.to_vec(),
        run: BTreeMap::from([("id".to_owned(), run.to_owned())]),
        git: git::context(workspace),
        ..Inputs::default()
    })
}

/// Reads all that hands over secrets: files first, then directories, commands, and `--secret`; later
/// ones win.
pub(super) fn secrets(
    arguments: &cli::Run,
    pipeline: &Pipeline,
) -> Result<BTreeMap<String, Secret>, Problem> {
    let cli::Run { secret, secret_file, secret_dir, secret_command, .. } = arguments;
    let (files, commands) = (secret_file.len() + secret_dir.len(), secret_command.len());
    if files + commands + secret.len() > 0 {
        variables::hide_memory()?;
    }
    let mut values = BTreeMap::new();
    for path in &arguments.secret_file {
        values.extend(variables::from_file(path)?);
    }
    let declared: Vec<&str> = pipeline.secrets.iter().map(|it| it.value.as_str()).collect();
    let is_declared = |name: &str| {
        if declared.contains(&name) {
            return Ok(());
        }
        let known = if declared.is_empty() {
            "it declares none: add `secrets: [NAME]` at its top".to_owned()
        } else {
            format!("it declares `{}`", declared.join("`, `"))
        };
        let message = format!("the pipeline declares no secret `{name}`");
        Err(Problem::new(Exit::Usage, message).remedy(known))
    };
    for directory in &arguments.secret_dir {
        for name in &declared {
            let value = variables::secret_from_directory(directory, name)?;
            values.extend(value.map(|value| ((*name).to_owned(), value)));
        }
    }
    for said in &arguments.secret_command {
        let (name, command) = said.split_once('=').ok_or_else(|| {
            Problem::new(Exit::Usage, format!("`--secret-command {said}` is not NAME=COMMAND"))
        })?;
        is_declared(name)?;
        values.insert(name.to_owned(), variables::secret_from_command(name, command)?);
    }
    for said in &arguments.secret {
        let (name, value) = match said.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (said.as_str(), variables::secret_from_environment(said)?),
        };
        is_declared(name)?;
        values.insert(name.to_owned(), value);
    }
    values
        .into_iter()
        .map(|(name, value)| {
            let secret = variables::secret(&name, value)?;
            Ok((name, secret))
        })
        .collect()
}

/// Digests of the project's files for each `hash(…)` of the plan: names and contents, in order.
pub(super) fn hashes(
    plan: &Plan,
    workspace: &Path,
) -> Result<BTreeMap<Vec<String>, String>, Problem> {
    plan.hashes()
        .into_iter()
        .map(|globs| {
            let digest = hash_files(&globs, workspace).map_err(|error| {
                Problem::new(Exit::NoInput, format!("failed to hash `{}`", globs.join("`, `")))
                    .because(error)
            })?;
            Ok((globs, digest))
        })
        .collect()
}

fn hash_files(
    globs_of: &[String],
    workspace: &Path,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let mut files = Vec::new();
    find(workspace, &globs(globs_of)?, &mut files)?;
    files.sort();
    let mut list = String::new();
    for name in files {
        let content = digest::of_file(&workspace.join(&name))?;
        list.extend([name.as_str(), "\0", &content, "\n"]);
    }
    let whole = digest::of_bytes(list.as_bytes());
    Ok(whole.trim_start_matches("sha256:").to_owned())
}

/// Regular files below `root` that match, as relative paths; links are not followed.
fn find(root: &Path, globs: &GlobSet, files: &mut Vec<String>) -> std::io::Result<()> {
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() && path != ".git" {
                directories.push(path);
            } else if kind.is_file() && globs.is_match(&path) {
                files.push(path);
            }
        }
    }
    Ok(())
}
