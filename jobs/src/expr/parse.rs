//! The reader of expressions: words to a tree, with names resolved as they are met.
//!
//! From loose to tight: `||`, `&&`, one comparison, `!`, `.name` and `[index]`. Comparisons do not
//! chain: `a < b < c` is refused, because it never means what it looks like.

use super::{
    ast::{Comparison, Expr, ExprKind, Segment},
    context::Context,
    function::Function,
    lex::{SyntaxError, Token, TokenKind, lex},
    value::{Data, Number, Value},
};
use crate::{
    diagnostic::{Code, Diagnostic, quoted},
    source::Span,
    suggest::suggestion,
};

/// How deep parentheses, calls, indexes and `!` may be nested.
const MAX_DEPTH: usize = 32;

/// Where the text of an expression is in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// The text, or the value that holds it.
    pub(crate) span: Span,
    /// Whether the bytes of the text are the bytes of the span, from its start.
    pub(crate) exact: bool,
}

impl Origin {
    pub(super) fn span(self, range: &std::ops::Range<usize>) -> Span {
        if self.exact { self.span.within(range.start, range.end) } else { self.span }
    }
}

/// Reads the expression at the start of `text`, to its end or, with `braces`, to `}}`.
///
/// Returns it and where the text goes on.
pub(super) fn parse(
    text: &str,
    braces: bool,
    origin: Origin,
) -> Result<(Expr, usize), Box<Diagnostic>> {
    let syntax = |error: SyntaxError| {
        let code = if error.too_large { Code::ExpressionTooLarge } else { Code::ExpressionSyntax };
        Box::new(Diagnostic::error(code, error.message).at(origin.span(&error.range), ""))
    };
    let (tokens, end) = lex(text, braces).map_err(syntax)?;
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, origin, end };
    let expr = parser.any()?;
    match parser.next() {
        None => Ok((expr, end)),
        Some(token) => {
            let help = match &token.kind {
                TokenKind::Sign("==" | "!=" | "<" | "<=" | ">" | ">=") => {
                    "comparisons do not chain: use `&&` and parentheses"
                }
                TokenKind::Sign("${{") => "the expression has begun already: leave out `${{`",
                _ => "join values with an operator such as `==` or `&&`",
            };
            Err(Box::new(
                Diagnostic::error(
                    Code::ExpressionSyntax,
                    "the expression goes on where it should end",
                )
                .at(origin.span(&token.range), "")
                .help(help),
            ))
        }
    }
}

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
    origin: Origin,
    /// Where the text of the expression ends.
    end: usize,
}

type Parsed = Result<Expr, Box<Diagnostic>>;

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t TokenKind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn next(&mut self) -> Option<&'t Token> {
        let token = self.tokens.get(self.at);
        self.at += 1;
        token
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(TokenKind::Sign(found)) if *found == sign);
        if found {
            self.at += 1;
        }
        found
    }

    /// Where the next word begins.
    fn start(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |token| token.range.start)
    }

    /// From `start` to the end of the last word read.
    fn since(&self, start: usize) -> Span {
        let end = self.at.checked_sub(1).and_then(|last| self.tokens.get(last));
        self.origin.span(&(start..end.map_or(self.end, |token| token.range.end.max(start))))
    }

    fn expected(&self, what: &str) -> Box<Diagnostic> {
        let range =
            self.tokens.get(self.at).map_or(self.end..self.end, |token| token.range.clone());
        Box::new(
            Diagnostic::error(Code::ExpressionSyntax, format!("expected {what}"))
                .at(self.origin.span(&range), ""),
        )
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let start = self.start();
            return Err(Box::new(
                Diagnostic::error(
                    Code::ExpressionTooLarge,
                    format!("the expression is nested deeper than {MAX_DEPTH} levels"),
                )
                .at(self.origin.span(&(start..start + 1)), ""),
            ));
        }
        let expr = read(self);
        self.depth -= 1;
        expr
    }

    fn any(&mut self) -> Parsed {
        self.chain("||", Self::all, ExprKind::Any)
    }

    fn all(&mut self) -> Parsed {
        self.chain("&&", Self::comparison, ExprKind::All)
    }

    fn chain(
        &mut self,
        sign: &str,
        read: impl Fn(&mut Self) -> Parsed,
        join: impl FnOnce(Vec<Expr>) -> ExprKind,
    ) -> Parsed {
        let start = self.start();
        let first = read(self)?;
        if !matches!(self.peek(), Some(TokenKind::Sign(found)) if *found == sign) {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.accept(sign) {
            all.push(read(self)?);
        }
        Ok(Expr { kind: join(all), span: self.since(start) })
    }

    fn comparison(&mut self) -> Parsed {
        let start = self.start();
        let left = self.unary()?;
        let comparison = match self.peek() {
            Some(TokenKind::Sign("==")) => Comparison::Equal,
            Some(TokenKind::Sign("!=")) => Comparison::NotEqual,
            Some(TokenKind::Sign("<")) => Comparison::Less,
            Some(TokenKind::Sign("<=")) => Comparison::LessOrEqual,
            Some(TokenKind::Sign(">")) => Comparison::Greater,
            Some(TokenKind::Sign(">=")) => Comparison::GreaterOrEqual,
            _ => return Ok(left),
        };
        self.at += 1;
        let right = self.unary()?;
        let kind = ExprKind::Compare(comparison, Box::new((left, right)));
        Ok(Expr { kind, span: self.since(start) })
    }

    fn unary(&mut self) -> Parsed {
        let start = self.start();
        if self.accept("!") {
            let inner = self.nested(Self::unary)?;
            return Ok(Expr { kind: ExprKind::Not(Box::new(inner)), span: self.since(start) });
        }
        self.access()
    }

    fn access(&mut self) -> Parsed {
        let start = self.start();
        let base = self.primary()?;
        let mut segments = Vec::new();
        loop {
            if self.accept(".") {
                let Some(Token { kind: TokenKind::Name(name), range }) = self.tokens.get(self.at)
                else {
                    return Err(self.expected("a name after `.`"));
                };
                segments.push(Segment::Name(name.clone(), self.origin.span(range)));
                self.at += 1;
            } else if self.accept("[") {
                segments.push(Segment::Index(self.nested(Self::any)?));
                if !self.accept("]") {
                    return Err(self.expected("`]`"));
                }
            } else {
                break;
            }
        }
        if segments.is_empty() {
            return Ok(base);
        }
        let kind = ExprKind::Access { base: Box::new(base), segments };
        Ok(Expr { kind, span: self.since(start) })
    }

    fn primary(&mut self) -> Parsed {
        let start = self.start();
        if self.accept("(") {
            let inner = self.nested(Self::any)?;
            if !self.accept(")") {
                return Err(self.expected("`)`"));
            }
            return Ok(Expr { kind: inner.kind, span: self.since(start) });
        }
        if self.accept("[") {
            let items = self.items("]", "`,` or `]`")?;
            return Ok(Expr { kind: ExprKind::List(items), span: self.since(start) });
        }
        let kind = match self.peek() {
            Some(TokenKind::Text(text)) => ExprKind::Literal(Value::text(text.clone())),
            Some(TokenKind::Number(value)) => ExprKind::Literal(Value::plain(Data::Number(
                Number::new(*value, value.to_string()),
            ))),
            Some(TokenKind::Name(name)) => {
                self.at += 1;
                return self.named(name, start);
            }
            _ => return Err(self.expected("a value")),
        };
        self.at += 1;
        Ok(Expr { kind, span: self.since(start) })
    }

    /// Expressions with commas between them, up to a sign that ends them.
    fn items(&mut self, end: &str, expected: &str) -> Result<Vec<Expr>, Box<Diagnostic>> {
        let mut items = Vec::new();
        if self.accept(end) {
            return Ok(items);
        }
        loop {
            items.push(self.nested(Self::any)?);
            if self.accept(end) {
                return Ok(items);
            }
            if !self.accept(",") {
                return Err(self.expected(expected));
            }
        }
    }

    fn named(&mut self, name: &str, start: usize) -> Parsed {
        let span = self.since(start);
        if self.accept("(") {
            return self.call(name, span, start);
        }
        let kind = match name {
            "null" => ExprKind::Literal(Value::NULL),
            "true" => ExprKind::Literal(Value::bool(true)),
            "false" => ExprKind::Literal(Value::bool(false)),
            _ => match Context::from_name(name) {
                Some(context) => ExprKind::Context(context),
                None => return Err(unknown_context(name, span)),
            },
        };
        Ok(Expr { kind, span })
    }

    fn call(&mut self, name: &str, span: Span, start: usize) -> Parsed {
        let Some(function) = Function::from_name(name) else {
            let known = Function::ALL.map(Function::as_str);
            return Err(Box::new(
                Diagnostic::error(
                    Code::UnknownFunction,
                    format!("there is no function {}", quoted(name)),
                )
                .at(span, "")
                .help(
                    suggestion(name, known)
                        .unwrap_or_else(|| format!("the functions are `{}`", known.join("`, `"))),
                ),
            ));
        };
        let arguments = self.items(")", "`,` or `)`")?;
        let (least, most) = function.arity();
        if !(least..=most).contains(&arguments.len()) {
            let takes =
                if least == most { least.to_string() } else { format!("{least} to {most}") };
            return Err(Box::new(
                Diagnostic::error(
                    Code::WrongArguments,
                    format!("`{name}` takes {takes} arguments, not {}", arguments.len()),
                )
                .at(self.since(start), ""),
            ));
        }
        Ok(Expr { kind: ExprKind::Call { function, arguments }, span: self.since(start) })
    }
}

fn unknown_context(name: &str, span: Span) -> Box<Diagnostic> {
    let known = Context::ALL.map(Context::as_str);
    let help = match Function::from_name(name) {
        Some(function) => format!("functions are called: `{}()`", function.as_str()),
        None if matches!(name, "github" | "gitlab") => {
            "the commit is in `git`, the run in `run`".to_owned()
        }
        None if name == "inputs" => "what the caller chooses is in `params`".to_owned(),
        None if name == "vars" => "values of the pipeline are in `env`".to_owned(),
        None => suggestion(name, known).unwrap_or_else(|| {
            format!("text is written in single quotes; the contexts are `{}`", known.join("`, `"))
        }),
    };
    Box::new(
        Diagnostic::error(Code::UnknownContext, format!("there is no context {}", quoted(name)))
            .at(span, "")
            .help(help),
    )
}
