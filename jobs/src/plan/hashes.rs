//! The digests of files that a run will ask for.
//!
//! `hash(…)` reads files, which nothing here does: the runner makes the digests ready before the
//! run begins, and hands them over in [`crate::state::Settings::hashes`].

use std::collections::BTreeSet;

use super::Plan;
use crate::{
    expr::{Expr, ExprKind, Function},
    model::visit,
};

impl Plan {
    /// The lists of globs that the jobs of this plan ask the digest of, each once.
    pub fn hashes(&self) -> BTreeSet<Vec<String>> {
        let mut hashes = BTreeSet::new();
        let mut add = |expr: &Expr| {
            expr.walk(&mut |each| {
                if let ExprKind::Call { function: Function::Hash, arguments } = &each.kind {
                    hashes.extend(literals(arguments));
                }
            });
        };
        for template in visit::values(&self.env) {
            template.expressions().for_each(&mut add);
        }
        for group in &self.groups {
            visit::expressions(&group.source, &mut |_, expr| add(expr));
        }
        hashes
    }
}

/// The arguments, where all of them are plain text, which the check demands.
fn literals(arguments: &[Expr]) -> Option<Vec<String>> {
    let text = |argument: &Expr| match &argument.kind {
        ExprKind::Literal(value) => value.as_text().map(str::to_owned),
        _ => None,
    };
    arguments.iter().map(text).collect()
}
