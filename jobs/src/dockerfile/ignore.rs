//! `.dockerignore`: which files of the context a build does not see.
//!
//! The last pattern that matches a file, or a directory that it is in, decides; `!` takes a file in
//! again. Crates for `.gitignore` do not fit: there a name matches in every directory and what is
//! in an ignored directory cannot be taken in again.

use super::{
    bounds,
    glob::{DoubleStar, Glob},
};
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted},
    source::{FileId, Sources, Span},
};

/// The bytes of all patterns together, and of one.
const MAX_BYTES: usize = 64 * 1024;

/// The patterns of an ignore file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    glob: Glob,
    /// Begins with `!`.
    takes_in: bool,
}

/// What becomes of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is seen.
    Seen,
    /// It is not seen; something in it may be.
    Ignored,
    /// It is not seen, and nothing in it is.
    IgnoredWhole,
}

impl Ignore {
    /// Reads an ignore file, with what is wrong with it.
    pub fn parse(sources: &Sources, id: FileId) -> (Self, Vec<Diagnostic>) {
        let mut report = Report::new();
        let mut ignore = Self::default();
        let text = sources.file(id).map_or("", |file| file.text());
        let mut bytes = 0;
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let span = span(id, start, line.trim_end().len());
            start += line.len();
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            bytes += line.len();
            if ignore.rules.len() >= bounds::PATTERNS || bytes > MAX_BYTES {
                let message = format!(
                    "there are more than {} patterns, or more than {MAX_BYTES} bytes of them",
                    bounds::PATTERNS
                );
                report.push(
                    Diagnostic::error(Code::DockerfileTooLarge, message)
                        .at(span, "this one is too many")
                        .help("ignore directories as a whole"),
                );
                break;
            }
            ignore.add(line.trim(), span, &mut report);
        }
        (ignore, report.finish())
    }

    /// Patterns from elsewhere, such as `COPY --exclude`; [`None`] when one cannot be read.
    pub fn new<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Option<Self> {
        let mut report = Report::new();
        let mut ignore = Self::default();
        for pattern in patterns {
            ignore.add(pattern.trim(), Span::default(), &mut report);
        }
        (report.errors() == 0).then_some(ignore)
    }

    fn add(&mut self, line: &str, span: Span, report: &mut Report) {
        let (pattern, takes_in) = match line.strip_prefix('!') {
            Some(pattern) => (pattern.trim(), true),
            None => (line, false),
        };
        let cleaned = clean(pattern);
        let glob = match cleaned.as_str() {
            // The root itself cannot be ignored.
            "" if !pattern.is_empty() => return,
            "" => None,
            cleaned => Glob::new(cleaned, DoubleStar::Crosses),
        };
        match glob {
            Some(glob) => self.rules.push(Rule { glob, takes_in }),
            None => report.push(
                Diagnostic::error(
                    Code::DockerfilePattern,
                    format!("{} is not a pattern", quoted(line)),
                )
                .at(span, "")
                .help("close the bracket, or write `\\` before a character that is meant as such"),
            ),
        }
    }

    /// What becomes of a file or directory, by its path relative to the context.
    pub fn verdict(&self, path: &str) -> Verdict {
        let matching = self.rules.iter().rev().find(|rule| rule.glob.matches_or_parent(path));
        if matching.is_none_or(|rule| rule.takes_in) {
            return Verdict::Seen;
        }
        let beneath = format!("{path}/");
        let reaches = |rule: &Rule| {
            let beginning = rule.glob.literal_beginning();
            rule.takes_in && (beginning.starts_with(&beneath) || beneath.starts_with(&beginning))
        };
        if self.rules.iter().any(reaches) { Verdict::Ignored } else { Verdict::IgnoredWhole }
    }
}

/// Without `.`, `..`, double slashes, and slashes at either end, as Go's `path.Clean` does below a
/// root; empty for the root.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn span(file: FileId, start: usize, length: usize) -> Span {
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { file, start: number(start), end: number(start + length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore(text: &str) -> (Ignore, Vec<Diagnostic>) {
        let mut sources = Sources::new();
        let id = sources.add(".dockerignore", text.as_bytes());
        Ignore::parse(&sources, id)
    }

    #[test]
    fn the_last_pattern_decides() {
        use Verdict::{Ignored, IgnoredWhole, Seen};
        for (text, path, expect) in [
            ("", "a", Seen),
            ("# a\n\n  \na", "a", IgnoredWhole),
            (" # a", "# a", IgnoredWhole),
            ("a", "b/a", Seen),
            ("**/a", "b/a", IgnoredWhole),
            ("a", "a/b/c", IgnoredWhole),
            ("/a/", "a", IgnoredWhole),
            ("./a//b/../c", "a/c", IgnoredWhole),
            ("../a", "a", IgnoredWhole),
            (".", "a", Seen),
            ("*", "a", IgnoredWhole),
            ("*\n!a", "a", Seen),
            ("*\n!a", "a/b", Seen),
            ("*\n!a", "b", IgnoredWhole),
            ("*\n!a/b", "a", Ignored),
            ("*\n!a/b", "a/b", Seen),
            ("*\n!a/b", "a/c", IgnoredWhole),
            ("*\n! a", "a", Seen),
            ("*.md\n!README*.md\nREADME-secret.md", "README.md", Seen),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", Ignored),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", Seen),
            ("*\n!**/*.go", "a", Ignored),
            ("*\n!**/*.go", "a/b.go", Seen),
            ("*\n!**/*.go", "a/b.c", Ignored),
            ("node_modules\n**/*.log\r\n", "a/b.log", IgnoredWhole),
            ("\u{feff}a", "a", IgnoredWhole),
        ] {
            let (ignore, faults) = ignore(text);
            assert_eq!(faults, []);
            assert_eq!(ignore.verdict(path), expect, "{text:?} {path}");
        }
    }

    #[test]
    fn faults_have_their_line() {
        let (_, faults) = ignore("a\n[b\n!\nc\\\n");
        let all: Vec<_> =
            faults.iter().map(|it| (it.message.as_str(), it.span().unwrap())).collect();
        let places: Vec<_> = all.iter().map(|(_, span)| (span.start, span.end)).collect();
        assert_eq!(places, [(2, 4), (5, 6), (7, 9)]);
        assert_eq!(all[0].0, "`[b` is not a pattern");
        let (_, faults) = ignore(&"a\n".repeat(10_000));
        assert_eq!(faults[0].code, Code::DockerfileTooLarge);
        assert!(Ignore::new(["[a"]).is_none());
    }
}
