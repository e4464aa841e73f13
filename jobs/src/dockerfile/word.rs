//! Words with variables: read once, with every fault at its place, and expanded later.
//!
//! The grammar is that of the Dockerfile reference's "Environment replacement": single quotes take
//! everything as it stands, double quotes and bare text know `$NAME`, `${NAME}` and `${NAME…}`,
//! and the escape character takes the meaning from what follows it.

use super::{bounds, fragment::Fragment};
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted},
    source::Span,
};

/// Text with variables in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    pub(super) pieces: Vec<Piece>,
    /// Where it is written.
    pub span: Span,
}

impl Word {
    /// A word without variables.
    pub(super) fn text(text: &str, span: Span) -> Self {
        Self { pieces: vec![Piece::Text(text.to_owned())], span }
    }

    /// The text, where nothing in it is to be expanded.
    pub fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Variable(Variable),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) modifier: Option<Modifier>,
    pub(super) span: Span,
}

/// What `${NAME…}` makes of a variable. Where there is a colon, an empty value counts as none.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Modifier {
    Default { or_empty: bool, word: Vec<Piece> },
    Alternative { or_empty: bool, word: Vec<Piece> },
    Required { or_empty: bool, message: Vec<Piece> },
    WithoutPrefix { longest: bool, pattern: Vec<Piece> },
    WithoutSuffix { longest: bool, pattern: Vec<Piece> },
    Replaced { all: bool, pattern: Vec<Piece>, with: Vec<Piece> },
}

/// What quotes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They group, and are dropped.
    Group,
    /// They are text, as in a here-document.
    Text,
}

/// Reads a word; [`None`] when it has a fault, which is in `report`.
pub(super) fn read(
    fragment: Fragment<'_>,
    escape: char,
    quotes: Quotes,
    report: &mut Report,
) -> Option<Word> {
    let text = fragment.text();
    let mut reader = Reader { fragment, text, at: 0, escape, quotes, depth: 0, dropped: None };
    match reader.until(&[], false) {
        Ok(pieces) => {
            if let Some(at) = reader.dropped.filter(|_| quotes == Quotes::Text) {
                report.push(
                    Diagnostic::warning(
                        Code::DockerfileDropped,
                        "an escape character in a here-document is dropped",
                    )
                    .at(fragment.part(at..at + escape.len_utf8()).span(), "")
                    .help("quote the name after `<<` to keep the text as it stands: <<\"EOF\""),
                );
            }
            Some(Word { pieces, span: fragment.span() })
        }
        Err(fault) => {
            report.push(*fault);
            None
        }
    }
}

type Fault = Box<Diagnostic>;

struct Reader<'f> {
    fragment: Fragment<'f>,
    text: &'f str,
    at: usize,
    escape: char,
    quotes: Quotes,
    depth: usize,
    /// The first escape character that did not stand before a `$` or another one.
    dropped: Option<usize>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn fault(&self, start: usize, message: String, help: &str) -> Fault {
        let span = self.fragment.part(start..self.at.max(start)).span();
        Box::new(Diagnostic::error(Code::DockerfileSubstitution, message).at(span, "").help(help))
    }

    /// Reads up to one of `stops`, which stays; without any, to the end. `raw` keeps the escape
    /// characters, for patterns.
    fn until(&mut self, stops: &[char], raw: bool) -> Result<Vec<Piece>, Fault> {
        let mut pieces = Pieces::default();
        while let Some(character) = self.peek() {
            if stops.contains(&character) {
                return Ok(pieces.finish());
            }
            let start = self.at;
            self.next();
            match character {
                '\'' if self.quotes == Quotes::Group => self.single(start, &mut pieces)?,
                '"' if self.quotes == Quotes::Group => self.double(start, &mut pieces)?,
                '$' => self.dollar(start, &mut pieces)?,
                _ if character == self.escape => self.escaped(raw, &mut pieces),
                _ => pieces.push(character),
            }
        }
        Ok(pieces.finish())
    }

    /// After the escape character, outside of quotes.
    fn escaped(&mut self, raw: bool, pieces: &mut Pieces) {
        let escape = self.escape;
        match self.peek() {
            Some(character) if raw => {
                self.next();
                pieces.push(escape);
                pieces.push(character);
            }
            Some(character) => {
                if character != '$' && character != escape && self.dropped.is_none() {
                    self.dropped = Some(self.at - escape.len_utf8());
                }
                self.next();
                pieces.push(character);
            }
            None => {}
        }
    }

    fn single(&mut self, start: usize, pieces: &mut Pieces) -> Result<(), Fault> {
        pieces.open();
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(character) => pieces.push(character),
                None => {
                    let message = "a single quote is not closed".to_owned();
                    let help = "close it, or write the escape character before it";
                    return Err(self.fault(start, message, help));
                }
            }
        }
    }

    fn double(&mut self, start: usize, pieces: &mut Pieces) -> Result<(), Fault> {
        pieces.open();
        loop {
            let at = self.at;
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => self.dollar(at, pieces)?,
                Some(character) if character == self.escape => match self.peek() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        self.next();
                        pieces.push(next);
                    }
                    _ => pieces.push(character),
                },
                Some(character) => pieces.push(character),
                None => {
                    let message = "a double quote is not closed".to_owned();
                    let help = "close it, or write the escape character before it";
                    return Err(self.fault(start, message, help));
                }
            }
        }
    }

    /// After a `$` that was at `start`.
    fn dollar(&mut self, start: usize, pieces: &mut Pieces) -> Result<(), Fault> {
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                pieces.push('$');
            } else {
                let span = self.fragment.part(start..self.at).span();
                pieces.variable(Variable { name, modifier: None, span });
            }
            return Ok(());
        }
        self.next();
        let name = self.name();
        if name.is_empty() {
            self.next();
            let message = "a substitution has no variable name".to_owned();
            return Err(self.fault(start, message, "write `${NAME}`, or `\\${` for the text"));
        }
        if self.depth >= bounds::DEPTH {
            let message = format!("substitutions are nested deeper than {}", bounds::DEPTH);
            return Err(self.fault(start, message, "give parts of it names with `ARG`"));
        }
        self.depth += 1;
        let modifier = self.modifier(start)?;
        self.depth -= 1;
        if self.next() != Some('}') {
            let message = format!("the substitution of {} is not closed", quoted(&name));
            return Err(self.fault(start, message, "add the `}`"));
        }
        let span = self.fragment.part(start..self.at).span();
        pieces.variable(Variable { name, modifier, span });
        Ok(())
    }

    /// Letters, digits and underscores, or one of the shell's own parameters.
    fn name(&mut self) -> String {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        self.at += name.len();
        name.to_owned()
    }

    fn modifier(&mut self, start: usize) -> Result<Option<Modifier>, Fault> {
        let mut or_empty = false;
        if self.peek() == Some(':') {
            self.next();
            or_empty = true;
        }
        let operator = match self.peek() {
            None | Some('}') if !or_empty => return Ok(None),
            other => other,
        };
        self.next();
        let twice = |reader: &mut Self| {
            let twice = reader.peek() == operator;
            if twice {
                reader.next();
            }
            twice
        };
        Ok(Some(match operator {
            Some('-') => Modifier::Default { or_empty, word: self.until(&['}'], false)? },
            Some('+') => Modifier::Alternative { or_empty, word: self.until(&['}'], false)? },
            Some('?') => Modifier::Required { or_empty, message: self.until(&['}'], false)? },
            Some('#') if !or_empty => {
                let longest = twice(self);
                Modifier::WithoutPrefix { longest, pattern: self.until(&['}'], true)? }
            }
            Some('%') if !or_empty => {
                let longest = twice(self);
                Modifier::WithoutSuffix { longest, pattern: self.until(&['}'], true)? }
            }
            Some('/') if !or_empty => {
                let all = twice(self);
                let pattern = self.until(&['/', '}'], true)?;
                let mut with = Vec::new();
                if self.peek() == Some('/') {
                    self.next();
                    with = self.until(&['}'], false)?;
                }
                Modifier::Replaced { all, pattern, with }
            }
            _ => {
                let message = "a substitution has an operator that is not known".to_owned();
                let help = "there are `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` and `//`";
                return Err(self.fault(start, message, help));
            }
        }))
    }
}

/// Pieces so far; text that is next to text is joined.
#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    fn push(&mut self, character: char) {
        match self.0.last_mut() {
            Some(Piece::Text(text)) => text.push(character),
            _ => self.0.push(Piece::Text(character.to_string())),
        }
    }

    /// Quotes with nothing in them are still a word.
    fn open(&mut self) {
        if self.0.is_empty() {
            self.0.push(Piece::Text(String::new()));
        }
    }

    fn variable(&mut self, variable: Variable) {
        self.0.push(Piece::Variable(variable));
    }

    fn finish(self) -> Vec<Piece> {
        self.0
    }
}
