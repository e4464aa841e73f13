//! Names and values from files and from the caller's environment, for `exec` and `run` alike.

use std::{fs::File, io::Read as _, path::Path, process::Stdio};

use crate::{exit::Exit, log::secret::Secret, problem::Problem};

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// Reads a file with lines `NAME=VALUE`; empty lines and those that begin with `#` are nothing.
/// Neither the message nor anything else shows a value: the file may hold secrets.
pub(crate) fn from_file(path: &Path) -> Result<Vec<(String, String)>, Problem> {
    let problem = |what: String| {
        Problem::new(Exit::NoInput, format!("failed to read `{}`: {what}", path.display()))
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text))
        .map_err(|error| problem(error.to_string()))?;
    if text.len() as u64 > FILE_MAX {
        return Err(problem(format!("it is larger than {FILE_MAX} bytes")));
    }
    (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.trim_start()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| match line.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok((name.trim_end().to_owned(), value.to_owned()))
            }
            _ => Err(problem(format!("line {number} is not NAME=VALUE"))),
        })
        .collect()
}

/// Keeps the memory of this process out of core files, from now on: it is going to hold secrets.
pub(crate) fn hide_memory() -> Result<(), Problem> {
    nix::sys::prctl::set_dumpable(false).map_err(|error| {
        Problem::new(Exit::System, "failed to keep secrets out of core files").because(error)
    })
}

/// The value of a secret that is named on the command line and set in the environment.
pub(crate) fn secret_from_environment(name: &str) -> Result<String, Problem> {
    std::env::var(name).map_err(|_| {
        Problem::new(Exit::Usage, format!("the secret `{name}` is not set"))
            .remedy(format!("set the variable `{name}` for this command"))
    })
}

/// The secret that is the file `name` of a directory; [`None`] where there is none.
pub(crate) fn secret_from_directory(path: &Path, name: &str) -> Result<Option<String>, Problem> {
    let problem = |what: String| {
        let file = path.join(name);
        let message = format!("failed to read the secret `{}`: {what}", file.display());
        Problem::new(Exit::NoInput, message)
    };
    if !path.is_dir() {
        let message = format!("there is no directory `{}`", path.display());
        return Err(Problem::new(Exit::NoInput, message));
    }
    let mut text = String::new();
    match File::open(path.join(name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(problem(error.to_string())),
        Ok(file) => file
            .take(FILE_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|error| problem(error.to_string()))?,
    };
    Ok(Some(without_line_end(text)))
}

/// The secret that is a file, to the last byte: programs may want it as it is.
pub(crate) fn secret_from_file(name: &str, path: &Path) -> Result<Secret, Problem> {
    let unread = |error: std::io::Error| {
        let message = format!("failed to read the secret `{}`", path.display());
        Problem::new(Exit::NoInput, message).because(error)
    };
    let mut value = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut value))
        .map_err(unread)?;
    Secret::new(name, value).map_err(|error| Problem::new(Exit::Usage, error.to_string()))
}

/// The secret that a command of the host prints; it may ask the user for a password.
pub(crate) fn secret_from_command(name: &str, command: &str) -> Result<String, Problem> {
    let problem = |what: String| {
        let message = format!("the command for the secret `{name}` {what}");
        Problem::new(Exit::NoInput, message)
            .remedy("run it by hand: it has to print the secret and end with exit code 0")
    };
    #[expect(clippy::disallowed_methods, reason = "the caller names a program of the host")]
    let mut shell = std::process::Command::new("/bin/sh");
    cofferdam_sandbox::as_caller(&mut shell);
    shell.args(["-c", command]).stdin(Stdio::inherit()).stderr(Stdio::inherit());
    let output = shell.output().map_err(|error| problem(format!("cannot be run: {error}")))?;
    if !output.status.success() {
        // What it printed may be half of a secret.
        return Err(problem(format!("failed: {}", output.status)));
    }
    let text = String::from_utf8(output.stdout);
    text.map(without_line_end)
        .map_err(|_| problem("printed something that is not UTF-8".to_owned()))
}

/// Files and commands end their last line; the secret is what stands in it.
fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// A secret that can be masked, or why it cannot be.
pub(crate) fn secret(name: &str, value: String) -> Result<Secret, Problem> {
    Secret::new(name, value).map_err(|error| Problem::new(Exit::Usage, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, &str)], &str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let read = from_file(file.path());
        match (read, expected) {
            (Ok(read), Ok(expected)) => {
                let read: Vec<(&str, &str)> =
                    read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                assert_eq!(read, expected, "{text:?}");
            }
            (Err(problem), Err(expected)) => {
                assert!(problem.to_string().contains(expected), "{problem}");
            }
            (read, expected) => panic!("{text:?}: {read:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn files_of_variables_are_read_or_refused_with_their_line() {
        check("", Ok(&[]));
        check("A=1\n# note\n\n  B = x=y \n", Ok(&[("A", "1"), ("B", " x=y ")]));
        check("A=1\nhunter22\n", Err("line 2 is not NAME=VALUE"));
        check("=hunter22", Err("line 1 is not NAME=VALUE"));
        check(&"#".repeat(1024 * 1024 + 1), Err("larger than"));
    }

    #[test]
    fn a_refused_line_is_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter22").unwrap();
        assert!(!from_file(file.path()).unwrap_err().to_string().contains("hunter22"));
    }
}
