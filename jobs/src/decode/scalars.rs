//! Single values: text, booleans, numbers, quantities, templates, conditions.

use std::{fmt::Display, time::Duration};

use super::decoder::{Decoder, is_null};
use crate::{
    diagnostic::{Code, Diagnostic, quoted},
    expr::{Condition, Data, Number, Template, Value},
    model::{
        Env,
        quantity::{self, QuantityError},
    },
    source::{Span, Spanned},
    suggest::suggestion,
    yaml::{Kind, Node, Scalar, resolve},
};

impl<'t> Decoder<'t> {
    /// Any scalar but null, as it is written: `8080` and `true` are fine where text is wanted.
    pub(super) fn text(&mut self, node: &'t Node<'t>) -> Option<Spanned<String>> {
        match &node.kind {
            Kind::Scalar { text, .. } if text.contains('\0') => {
                let help = "programs and the kernel end text at this character";
                self.bad_value(node.span, "the text holds a NUL character", Some(help.to_owned()));
                None
            }
            Kind::Scalar { text, .. } if !is_null(node) => {
                Some(Spanned::new(text.clone().into_owned(), node.span))
            }
            _ => {
                self.wrong_type(node, "text");
                None
            }
        }
    }

    /// Text that is not empty.
    pub(super) fn nonempty(&mut self, node: &'t Node<'t>, what: &str) -> Option<Spanned<String>> {
        let text = self.text(node)?;
        if text.trim().is_empty() {
            self.bad_value(node.span, format!("{what} is empty"), None);
            return None;
        }
        Some(text)
    }

    pub(super) fn texts(&mut self, node: &'t Node<'t>) -> Vec<Spanned<String>> {
        self.items(node).into_iter().filter_map(|item| self.nonempty(item, "this")).collect()
    }

    pub(super) fn template(&mut self, node: &'t Node<'t>) -> Option<Template> {
        let text = self.text(node)?;
        let raw = self.file.slice(node.span.start as usize, node.span.end as usize);
        Some(Template::read(&text, raw, node.span, self.report))
    }

    pub(super) fn templates(&mut self, node: &'t Node<'t>) -> Vec<Template> {
        self.items(node).into_iter().filter_map(|item| self.template(item)).collect()
    }

    pub(super) fn condition(&mut self, node: &'t Node<'t>) -> Option<Condition> {
        let text = self.nonempty(node, "the condition")?;
        let raw = self.file.slice(node.span.start as usize, node.span.end as usize);
        Condition::read(&text, raw, node.span, self.report)
    }

    pub(super) fn boolean(&mut self, node: &'t Node<'t>) -> Option<Spanned<bool>> {
        if let Kind::Scalar { text, plain: true } = &node.kind
            && let Scalar::Bool(value) = resolve(text)
        {
            return Some(Spanned::new(value, node.span));
        }
        self.wrong_type(node, "`true` or `false`");
        None
    }

    pub(super) fn whole(
        &mut self,
        node: &'t Node<'t>,
        least: i64,
        most: i64,
    ) -> Option<Spanned<i64>> {
        let text = self.text(node)?;
        match text.value.parse::<i64>() {
            Ok(value) if (least..=most).contains(&value) => Some(Spanned::new(value, node.span)),
            _ => {
                let message = format!(
                    "expected a whole number from {least} to {most}, found {}",
                    quoted(&text.value)
                );
                self.bad_value(node.span, &message, None);
                None
            }
        }
    }

    pub(super) fn positive(&mut self, node: &'t Node<'t>, most: u32) -> Option<Spanned<u32>> {
        let value = self.whole(node, 1, i64::from(most))?;
        u32::try_from(value.value).ok().map(|whole| Spanned::new(whole, node.span))
    }

    /// A value that `read` understands.
    pub(super) fn quantity<T>(
        &mut self,
        node: &'t Node<'t>,
        read: impl FnOnce(&str) -> Result<T, QuantityError>,
    ) -> Option<Spanned<T>> {
        let text = self.text(node)?;
        match read(&text.value) {
            Ok(value) => Some(Spanned::new(value, node.span)),
            Err(error) => {
                self.report.push(
                    Diagnostic::error(
                        Code::BadQuantity,
                        format!("{} cannot be read", quoted(&text.value)),
                    )
                    .at(node.span, "")
                    .help(error.to_string()),
                );
                None
            }
        }
    }

    pub(super) fn duration(&mut self, node: &'t Node<'t>) -> Option<Spanned<Duration>> {
        self.quantity(node, quantity::duration)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        node: &'t Node<'t>,
        choices: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        let text = self.text(node)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(Spanned::new(*value, node.span));
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.unknown_word(&text, &words);
        None
    }

    pub(super) fn unknown_word(&mut self, text: &Spanned<String>, words: &[&str]) {
        let help = suggestion(&text.value, words.iter().copied())
            .unwrap_or_else(|| format!("write one of `{}`", words.join("`, `")));
        let message = format!("{} is not known here", quoted(&text.value));
        self.bad_value(text.span, &message, Some(help));
    }

    pub(super) fn bad_value(&mut self, span: Span, message: impl Display, help: Option<String>) {
        self.report.push(
            Diagnostic::error(Code::BadValue, message.to_string()).at(span, "").maybe_help(help),
        );
    }

    /// Names and templates.
    pub(super) fn env(&mut self, node: &'t Node<'t>) -> Env {
        let mut env = Env::new();
        for entry in self.entries(node, "a mapping of names to values") {
            if let Some(value) = self.template(self.tree.node(entry.value)) {
                env.push((Spanned::new(entry.key.clone().into_owned(), entry.key_span), value));
            }
        }
        env
    }

    /// A value of any kind. The scan bounds the depth, so this may recurse.
    pub(super) fn value(&mut self, node: &'t Node<'t>) -> Value {
        Value::plain(match &node.kind {
            Kind::Sequence(items) => {
                Data::List(items.iter().map(|item| self.value(self.tree.node(*item))).collect())
            }
            Kind::Mapping(entries) => Data::Map(
                entries
                    .iter()
                    .map(|entry| {
                        let value = self.value(self.tree.node(entry.value));
                        (entry.key.clone().into_owned(), value)
                    })
                    .collect(),
            ),
            Kind::Scalar { text, plain: false } => Data::Text(text.clone().into_owned()),
            Kind::Scalar { text, plain: true } => match resolve(text) {
                Scalar::Null => Data::Null,
                Scalar::Bool(value) => Data::Bool(value),
                Scalar::Number(value) => Data::Number(Number::new(value, text.as_ref())),
                Scalar::Text => Data::Text(text.clone().into_owned()),
            },
        })
    }

    /// A single value that is not null, list or map.
    pub(super) fn scalar(&mut self, node: &'t Node<'t>) -> Option<Spanned<Value>> {
        self.text(node)?;
        Some(Spanned::new(self.value(node), node.span))
    }
}
