//! Names and values from files and from the caller's environment, for `exec` and `run` alike.

use std::{fs::File, io::Read as _, path::Path};

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

/// The value of a secret that is named on the command line and set in the environment.
pub(crate) fn secret_from_environment(name: &str) -> Result<String, Problem> {
    std::env::var(name).map_err(|_| {
        Problem::new(Exit::Usage, format!("the secret `{name}` is not set"))
            .remedy(format!("set the variable `{name}` for this command"))
    })
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
