//! The words of an expression.

use std::ops::Range;

/// The longest expression, in bytes.
pub(super) const MAX_EXPRESSION: usize = 4096;

/// One word and where it is in the text that was given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) range: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    Name(String),
    Text(String),
    Number(f64),
    /// One of the fixed signs.
    Sign(&'static str),
}

/// A fault in the text of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) range: Range<usize>,
    pub(super) too_large: bool,
}

impl SyntaxError {
    pub(super) fn new(message: impl Into<String>, range: Range<usize>) -> Self {
        Self { message: message.into(), range, too_large: false }
    }

    pub(super) fn too_large(message: impl Into<String>, range: Range<usize>) -> Self {
        Self { message: message.into(), range, too_large: true }
    }
}

const SIGNS: [&str; 17] =
    ["==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", "[", "]", ",", ".", "${{", "}}"];

/// Splits text up to its end, or up to `}}` when `braces` says that one ends it.
///
/// Returns the words and where the text goes on after them.
pub(super) fn lex(text: &str, braces: bool) -> Result<(Vec<Token>, usize), SyntaxError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let Some(first) = rest.chars().next() else {
            if braces {
                return Err(SyntaxError::new("`${{` is not closed by `}}`", 0..at));
            }
            return Ok((tokens, at));
        };
        if at > MAX_EXPRESSION {
            let message = format!("the expression is longer than {MAX_EXPRESSION} bytes");
            return Err(SyntaxError::too_large(message, 0..at));
        }
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (kind, length) = if first == '\'' {
            string(rest, at)?
        } else if first.is_ascii_digit() || negative(rest, tokens.last()) {
            number(rest, at)?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = word(rest);
            (TokenKind::Name(rest.get(..length).unwrap_or_default().to_owned()), length)
        } else {
            let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) else {
                return Err(stray(rest, at));
            };
            if sign == "}}" && braces {
                return Ok((tokens, at + sign.len()));
            }
            (TokenKind::Sign(sign), sign.len())
        };
        tokens.push(Token { kind, range: at..at + length });
        at += length;
    }
}

/// The length of a name; it may hold `-`, as job and step names do.
fn word(rest: &str) -> usize {
    rest.bytes()
        .position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'))
        .unwrap_or(rest.len())
}

/// Whether a number with a minus starts here: there is no subtraction, so only after a value does
/// a minus make no sense.
fn negative(rest: &str, before: Option<&Token>) -> bool {
    let value_before = matches!(
        before.map(|token| &token.kind),
        Some(
            TokenKind::Name(_)
                | TokenKind::Text(_)
                | TokenKind::Number(_)
                | TokenKind::Sign(")" | "]")
        )
    );
    let mut bytes = rest.bytes();
    !value_before
        && bytes.next() == Some(b'-')
        && bytes.next().is_some_and(|byte| byte.is_ascii_digit())
}

fn number(rest: &str, at: usize) -> Result<(TokenKind, usize), SyntaxError> {
    let length = rest
        .bytes()
        .enumerate()
        .position(|(index, byte)| {
            !(byte.is_ascii_alphanumeric() || byte == b'.' || (index == 0 && byte == b'-'))
        })
        .unwrap_or(rest.len());
    let text = rest.get(..length).unwrap_or_default();
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((TokenKind::Number(value), length)),
        _ => Err(SyntaxError::new("this is not a number", at..at + length)),
    }
}

fn string(rest: &str, at: usize) -> Result<(TokenKind, usize), SyntaxError> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((index, character)) = characters.next() {
        if character != '\'' {
            text.push(character);
            continue;
        }
        // A quote is written twice within a text.
        if characters.next_if(|(_, next)| *next == '\'').is_none() {
            return Ok((TokenKind::Text(text), index + 1));
        }
        text.push('\'');
    }
    Err(SyntaxError::new("the text is not closed by `'`", at..at + 1))
}

fn stray(rest: &str, at: usize) -> SyntaxError {
    let first = rest.chars().next().unwrap_or_default();
    let range = at..at + first.len_utf8();
    match first {
        '"' => SyntaxError::new("text is written in single quotes", range),
        '=' => SyntaxError::new("equality is written `==`", range),
        '&' | '|' => SyntaxError::new("conditions are joined with `&&` and `||`", range),
        '+' | '-' | '*' | '/' | '%' => {
            SyntaxError::new("there is no arithmetic in expressions", range)
        }
        _ => SyntaxError::new(format!("unexpected character `{}`", first.escape_debug()), range),
    }
}
