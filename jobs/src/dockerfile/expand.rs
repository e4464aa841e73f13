//! Variables and what words become with them.

use std::collections::BTreeMap;

use super::{
    bounds,
    pattern::{Length, Pattern},
    word::{Modifier, Piece, Variable, Word},
};
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted},
    source::Span,
    suggest::suggestion,
};

/// The variables that a place in a Dockerfile knows. `ENV` wins over `ARG`, whichever came first.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    arguments: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    bytes: usize,
    escape: Option<char>,
}

impl Scope {
    /// No variables; `escape` is the file's escape character.
    pub fn new(escape: char) -> Self {
        Self { escape: Some(escape), ..Self::default() }
    }

    /// Sets a value of `ARG`; `false` when there is no room for it.
    pub fn set_argument(&mut self, name: &str, value: &str) -> bool {
        Self::set(&mut self.arguments, &mut self.bytes, name, value)
    }

    /// Sets a value of `ENV`; `false` when there is no room for it.
    pub fn set_environment(&mut self, name: &str, value: &str) -> bool {
        Self::set(&mut self.environment, &mut self.bytes, name, value)
    }

    fn set(
        values: &mut BTreeMap<String, String>,
        bytes: &mut usize,
        name: &str,
        value: &str,
    ) -> bool {
        let before = values.get(name).map_or(0, |value| name.len() + value.len());
        let after = *bytes - before + name.len() + value.len();
        if after > bounds::VARIABLES {
            return false;
        }
        *bytes = after;
        values.insert(name.to_owned(), value.to_owned());
        true
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.environment.get(name).or_else(|| self.arguments.get(name)).map(String::as_str)
    }

    /// The values of `ARG` that no `ENV` hides.
    pub fn arguments(&self) -> impl Iterator<Item = (&str, &str)> {
        let hidden = |name: &String| self.environment.contains_key(name);
        let arguments = self.arguments.iter().filter(move |(name, _)| !hidden(name));
        arguments.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Puts the variables into a word; [`None`] when it has no value, with the reason in `report`.
    /// A variable that is not set is empty, with a warning.
    pub fn expand(&self, word: &Word, report: &mut Report) -> Option<String> {
        let mut expansion = Expansion { scope: self, left: bounds::EXPANDED, unset: Vec::new() };
        let expanded = expansion.pieces(&word.pieces, word.span);
        for variable in expansion.unset {
            let known = self.environment.keys().chain(self.arguments.keys());
            let near = suggestion(&variable.name, known.map(String::as_str));
            let name = quoted(&variable.name);
            let declare = format!("declare it with `ARG {0}` or `ENV {0}=…` before", variable.name);
            report.push(
                Diagnostic::warning(
                    Code::DockerfileUnset,
                    format!("the variable {name} is not set here, and becomes nothing"),
                )
                .at(variable.span, "")
                .help(near.unwrap_or(declare)),
            );
        }
        match expanded {
            Ok(text) => Some(text),
            Err(fault) => {
                report.push(*fault);
                None
            }
        }
    }
}

struct Expansion<'a> {
    scope: &'a Scope,
    left: usize,
    unset: Vec<&'a Variable>,
}

impl<'a> Expansion<'a> {
    fn pieces(&mut self, pieces: &'a [Piece], span: Span) -> Result<String, Box<Diagnostic>> {
        let mut out = String::new();
        for piece in pieces {
            let text = match piece {
                Piece::Text(text) => text.clone(),
                Piece::Variable(variable) => self.variable(variable)?,
            };
            self.left = self.left.checked_sub(text.len()).ok_or_else(|| {
                let limit = bounds::EXPANDED;
                Box::new(
                    Diagnostic::error(
                        Code::DockerfileTooLarge,
                        format!("with its variables this is longer than {limit} bytes"),
                    )
                    .at(span, "")
                    .help("put long text into a file of the context"),
                )
            })?;
            out.push_str(&text);
        }
        Ok(out)
    }

    fn variable(&mut self, variable: &'a Variable) -> Result<String, Box<Diagnostic>> {
        let (name, span) = (&variable.name, variable.span);
        let value = self.scope.get(name);
        let escape = self.scope.escape.unwrap_or('\\');
        let length = |longest: bool| if longest { Length::Longest } else { Length::Shortest };
        // Without a value, or with one that does not count.
        let missing = |or_empty: bool| value.is_none_or(|value| or_empty && value.is_empty());
        let Some(modifier) = &variable.modifier else {
            if value.is_none() {
                self.unset.push(variable);
            }
            return Ok(value.unwrap_or_default().to_owned());
        };
        Ok(match modifier {
            Modifier::Default { or_empty, word } if missing(*or_empty) => {
                self.pieces(word, span)?
            }
            Modifier::Alternative { or_empty, word } if !missing(*or_empty) => {
                self.pieces(word, span)?
            }
            Modifier::Alternative { .. } => String::new(),
            Modifier::Required { or_empty, message } if missing(*or_empty) => {
                let why = self.pieces(message, span)?;
                let why = if why.is_empty() { "it must be set".to_owned() } else { why };
                return Err(Box::new(
                    Diagnostic::error(
                        Code::DockerfileUnsetRequired,
                        format!("the variable {} is not set: {}", quoted(name), quoted(&why)),
                    )
                    .at(span, "")
                    .help(format!(
                        "give it with `--build-arg {name}=…`, or give the `ARG` a default"
                    )),
                ));
            }
            Modifier::Default { .. } | Modifier::Required { .. } => {
                value.unwrap_or_default().to_owned()
            }
            Modifier::WithoutPrefix { longest, pattern } => {
                let pattern = Pattern::new(&self.pieces(pattern, span)?, escape);
                pattern.without_prefix(value.unwrap_or_default(), length(*longest)).to_owned()
            }
            Modifier::WithoutSuffix { longest, pattern } => {
                let pattern = Pattern::new(&self.pieces(pattern, span)?, escape);
                pattern.without_suffix(value.unwrap_or_default(), length(*longest))
            }
            Modifier::Replaced { all, pattern, with } => {
                let pattern = Pattern::new(&self.pieces(pattern, span)?, escape);
                let with = self.pieces(with, span)?;
                pattern.replace(value.unwrap_or_default(), &with, *all)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dockerfile::{
            fragment::Line,
            word::{Quotes, read},
        },
        source::FileId,
    };

    fn expanded(text: &str, escape: char, quotes: Quotes) -> String {
        let mut line = Line::new(FileId::default());
        line.push(text, 0);
        let mut scope = Scope::new(escape);
        for (name, value) in [("foo", "bar"), ("empty", ""), ("path", "/usr/local/bin")] {
            assert!(scope.set_argument(name, value));
        }
        assert!(scope.set_argument("both", "argument"));
        assert!(scope.set_environment("both", "environment"));
        let mut report = Report::new();
        let word = read(line.whole(), escape, quotes, &mut report);
        let expanded = word.and_then(|word| scope.expand(&word, &mut report));
        let faults: Vec<_> = report.finish().iter().map(ToString::to_string).collect();
        match expanded {
            Some(text) if faults.is_empty() => text,
            Some(text) => format!("{text} | {}", faults.join(" | ")),
            None => faults.join(" | "),
        }
    }

    #[test]
    fn variables_are_put_in() {
        for (text, expect) in [
            ("plain", "plain"),
            ("$foo", "bar"),
            ("${foo}", "bar"),
            ("a$foo/b", "abar/b"),
            (
                "$foo_x",
                " | warning[W0722]: the variable `foo_x` is not set here, and becomes nothing",
            ),
            ("${foo}_x", "bar_x"),
            ("$", "$"),
            ("$$", "$$"),
            ("$/x", "$/x"),
            ("\\$foo", "$foo"),
            ("\\${foo}", "${foo}"),
            ("\\\\$foo", "\\bar"),
            ("'$foo'", "$foo"),
            ("\"$foo\"", "bar"),
            ("\"\\$foo \\\" \\n\"", "$foo \" \\n"),
            ("a\\ b", "a b"),
            ("''", ""),
            ("${foo:-x}", "bar"),
            ("${none:-x}", "x"),
            ("${empty:-x}", "x"),
            ("${empty-x}", ""),
            ("${none-x}", "x"),
            ("${none:-${foo}/$foo}", "bar/bar"),
            ("${none:-}", ""),
            ("${foo:+x}", "x"),
            ("${none:+x}", ""),
            ("${empty:+x}", ""),
            ("${empty+x}", "x"),
            ("${foo:?needed}", "bar"),
            ("${none:?needed here}", "error[E0712]: the variable `none` is not set: `needed here`"),
            ("${empty:?}", "error[E0712]: the variable `empty` is not set: `it must be set`"),
            ("${empty?}", ""),
            ("${path#*/}", "usr/local/bin"),
            ("${path##*/}", "bin"),
            ("${path%/*}", "/usr/local"),
            ("${path%%/*}", ""),
            ("${path/\\//-}", "-usr/local/bin"),
            ("${path//\\//-}", "-usr-local-bin"),
            ("${path//local}", "/usr//bin"),
            ("$both", "environment"),
            ("${}", "error[E0706]: a substitution has no variable name"),
            ("${foo", "error[E0706]: the substitution of `foo` is not closed"),
            ("${foo:-x", "error[E0706]: the substitution of `foo` is not closed"),
            ("${foo!x}", "error[E0706]: a substitution has an operator that is not known"),
            ("${foo:#x}", "error[E0706]: a substitution has an operator that is not known"),
            ("'a", "error[E0706]: a single quote is not closed"),
            ("\"a", "error[E0706]: a double quote is not closed"),
        ] {
            assert_eq!(expanded(text, '\\', Quotes::Group), expect, "{text}");
        }
        assert_eq!(expanded("`$foo \\$foo", '`', Quotes::Group), "$foo \\bar");
        assert_eq!(expanded("\"a\" '$foo' \\$foo", '\\', Quotes::Text), "\"a\" 'bar' $foo");
    }

    #[test]
    fn nothing_grows_without_end() {
        let deep = format!("{}x{}", "${none:-".repeat(100_000), "}".repeat(100_000));
        assert!(expanded(&deep, '\\', Quotes::Group).contains("nested deeper"));
        let mut scope = Scope::new('\\');
        let mut value = "x".to_owned();
        let mut report = Report::new();
        let mut line = Line::new(FileId::default());
        line.push("$a$a", 0);
        let word = read(line.whole(), '\\', Quotes::Group, &mut report).unwrap();
        for doubled in 0.. {
            assert!(scope.set_environment("a", &value) && doubled < 17);
            match scope.expand(&word, &mut report) {
                Some(next) => value = next,
                None => break,
            }
        }
        let codes: Vec<_> = report.finish().iter().map(|fault| fault.code).collect();
        assert_eq!(codes, [Code::DockerfileTooLarge]);
        let many = (0..100).take_while(|name| scope.set_environment(&name.to_string(), &value));
        assert!(many.count() < 20);
    }
}
