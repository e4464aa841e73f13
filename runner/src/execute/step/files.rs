//! The files by which a step says something to the run: `COFFERDAM_OUTPUT`, `COFFERDAM_ENV` and
//! `COFFERDAM_SUMMARY`.
//!
//! A summary is text for people. In the other two, each line is `NAME=VALUE`; a value of several lines is written as `NAME<<END`, the lines, and
//! `END`. The files belong to the job and may hold anything, so everything is bounded and a line
//! that is neither is an error with its number, never a guess.

use std::path::Path;

use cofferdam_sandbox::{Container, export, with_causes};

/// Largest file that is read, in bytes.
const SIZE_MAX: u64 = 1024 * 1024;
/// Most names in one file.
const NAMES_MAX: usize = 1000;

/// Where the files of one step are.
#[derive(Clone, Debug)]
pub(crate) struct StepFiles {
    directory: String,
}

/// The names of the files and the variables that hold their paths.
const FILES: [(&str, &str); 3] =
    [("COFFERDAM_OUTPUT", "output"), ("COFFERDAM_ENV", "env"), ("COFFERDAM_SUMMARY", "summary")];

impl StepFiles {
    /// The files of the step with this number in its container.
    pub(crate) fn new(number: usize) -> Self {
        Self { directory: format!("/run/cofferdam/{number}") }
    }

    /// The variables that tell a step of them.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        FILES
            .iter()
            .map(|(variable, name)| ((*variable).to_owned(), format!("{}/{name}", self.directory)))
    }

    /// Paths of the files, to be made empty before the step starts.
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        FILES.iter().map(|(_, name)| format!("{}/{name}", self.directory))
    }

    /// Path of the step's script.
    pub(crate) fn script(&self) -> String {
        format!("{}/script", self.directory)
    }

    /// Path of the script that finds out whether the step is ready.
    pub(crate) fn probe(&self) -> String {
        format!("{}/ready", self.directory)
    }

    /// What the step wrote to its outputs.
    pub(crate) fn outputs(&self, container: &Container) -> Result<Vec<(String, String)>, String> {
        self.read(container, "COFFERDAM_OUTPUT", "output")
    }

    /// What the step wants in the environment of the steps after it.
    pub(crate) fn env(&self, container: &Container) -> Result<Vec<(String, String)>, String> {
        self.read(container, "COFFERDAM_ENV", "env")
    }

    /// What the step has to tell people.
    pub(crate) fn summary(&self, container: &Container) -> Result<String, String> {
        self.text(container, "COFFERDAM_SUMMARY", "summary")
    }

    fn text(&self, container: &Container, variable: &str, name: &str) -> Result<String, String> {
        let path = format!("{}/{name}", self.directory.trim_start_matches("/run/"));
        let content = export::read_file(container.control(), Path::new(&path), SIZE_MAX)
            .map_err(|error| with_causes(&error))?
            .unwrap_or_default();
        String::from_utf8(content)
            .map_err(|_| format!("what it wrote to `${variable}` is not UTF-8"))
    }

    fn read(
        &self,
        container: &Container,
        variable: &str,
        name: &str,
    ) -> Result<Vec<(String, String)>, String> {
        let text = self.text(container, variable, name)?;
        parse(&text).map_err(|what| format!("what it wrote to `${variable}`: {what}"))
    }
}

/// Reads names and values; a name that comes twice has its last value.
fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        let plain = line.split_once('=');
        let block = line.split_once("<<");
        let (name, value) = match (plain, block) {
            (Some((name, value)), None) => (name, value.to_owned()),
            (Some((name, value)), Some((before, _))) if name.len() < before.len() => {
                (name, value.to_owned())
            }
            (_, Some((name, end))) if !end.is_empty() => {
                let mut value: Vec<&str> = Vec::new();
                loop {
                    match lines.next() {
                        Some((_, line)) if line == end => break,
                        Some((_, line)) => value.push(line),
                        None => return Err(format!("line {number}: there is no line `{end}`")),
                    }
                }
                (name, value.join("\n"))
            }
            _ => return Err(format!("line {number} is neither NAME=VALUE nor NAME<<END")),
        };
        if !is_name(name) {
            return Err(format!("line {number}: `{}` is not a name", name.escape_debug()));
        }
        found.retain(|(known, _)| known != name);
        if found.len() >= NAMES_MAX {
            return Err(format!("there are more than {NAMES_MAX} names"));
        }
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=128).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(|first: char| first.is_ascii_digit() || first == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, &str)], &str>) {
        let expected = expected
            .map(|pairs| {
                pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
            })
            .map_err(str::to_owned);
        assert_eq!(parse(text), expected, "{text:?}");
    }

    #[test]
    fn lines_and_blocks_are_read() {
        check("", Ok(&[]));
        check("a=1\nb=x=y\n\n", Ok(&[("a", "1"), ("b", "x=y")]));
        check("a=1\na=2\n", Ok(&[("a", "2")]));
        check("a=\n", Ok(&[("a", "")]));
        check("a<<EOF\none\ntwo=2\nEOF\nb=1", Ok(&[("a", "one\ntwo=2"), ("b", "1")]));
        check("a=<<EOF\n", Ok(&[("a", "<<EOF")]));
    }

    #[test]
    fn anything_else_is_an_error_with_its_line() {
        check("nothing", Err("line 1 is neither NAME=VALUE nor NAME<<END"));
        check("a=1\n=2", Err("line 2: `` is not a name"));
        check("a b=1", Err("line 1: `a b` is not a name"));
        check("1a=1", Err("line 1: `1a` is not a name"));
        check("a<<EOF\nx", Err("line 1: there is no line `EOF`"));
        let many: String = (0..=NAMES_MAX).map(|number| format!("n{number}=1\n")).collect();
        check(&many, Err("there are more than 1000 names"));
    }
}
