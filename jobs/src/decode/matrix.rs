//! Matrices.

use super::decoder::Decoder;
use crate::{
    diagnostic::quoted,
    expr::Value,
    model::Matrix,
    source::Spanned,
    yaml::{Kind, Node},
};

impl<'t> Decoder<'t> {
    pub(super) fn matrix(&mut self, node: &'t Node<'t>) -> Option<Matrix> {
        if !matches!(node.kind, Kind::Mapping(_)) {
            self.wrong_type(node, "a mapping of axes to lists of values");
            return None;
        }
        let (mut include, mut exclude, mut axes) = (Vec::new(), Vec::new(), Vec::new());
        for entry in self.entries(node, "a mapping of axes to lists of values") {
            let value = self.tree.node(entry.value);
            match entry.key.as_ref() {
                "include" => include = self.combinations(value),
                "exclude" => exclude = self.combinations(value),
                _ => {
                    let values = self.axis(value);
                    if matches!(&value.kind, Kind::Sequence(items) if items.is_empty()) {
                        let message = format!("the axis {} has no values", quoted(&entry.key));
                        self.bad_value(
                            value.span,
                            message,
                            Some("remove it, or add a value".to_owned()),
                        );
                    }
                    let name = Spanned::new(entry.key.clone().into_owned(), entry.key_span);
                    axes.push((name, values));
                }
            }
        }
        Some(Matrix { axes, include, exclude, span: node.span })
    }

    fn axis(&mut self, node: &'t Node<'t>) -> Vec<Spanned<Value>> {
        let mut values = Vec::new();
        for item in self.list(node, "a list of values") {
            match item.kind {
                Kind::Mapping(_) => values.push(Spanned::new(self.value(item), item.span)),
                Kind::Sequence(_) => self.wrong_type(item, "a single value or a mapping"),
                Kind::Scalar { .. } => values.extend(self.scalar(item)),
            }
        }
        values
    }

    fn combinations(&mut self, node: &'t Node<'t>) -> Vec<Spanned<Value>> {
        let mut values = Vec::new();
        for item in self.list(node, "a list of mappings of axes to values") {
            match &item.kind {
                Kind::Mapping(entries) if !entries.is_empty() => {
                    values.push(Spanned::new(self.value(item), item.span));
                }
                _ => self.wrong_type(item, "a mapping of axes to values"),
            }
        }
        values
    }
}
