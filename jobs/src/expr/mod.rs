//! Expressions, `${{ … }}`: read with places, checked, and evaluated with secrets kept marked.
//!
//! Everything is bounded: the text, the depth, and what a value may grow to. The reader recurses
//! only over what its depth bound counts, because chains of `&&`, `||` and `.name` are lists.

mod ast;
mod condition;
mod context;
mod evaluate;
mod function;
mod functions;
mod json;
mod lex;
mod parse;
mod template;
mod value;

pub use ast::{Comparison, Expr, ExprKind, Segment};
pub use condition::{Condition, Judged};
pub use context::Context;
pub use evaluate::{EvaluationError, Scope, Status, evaluate};
pub use function::Function;
pub use template::{Part, Template};
pub use value::{Data, Number, Value};
