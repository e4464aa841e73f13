//! Text as an expression: read or refused, with a value or without; a secret never comes out of it
//! unmarked, the value is bounded, and it is the same the second time.

use std::borrow::Cow;

use cofferdam_jobs::{
    Sources,
    expr::{Context, Data, Scope, Status, Value},
    parse,
};

use crate::diagnostics;

/// Part of nothing else here, so that whoever shows it has it from the secret.
const SECRET: &str = "wrdlbrmpft";
/// The longest value, and a template around it.
const VALUE_MAX: usize = (1 << 20) + 8192;

struct Here;

impl Scope for Here {
    fn context(&self, context: Context) -> Cow<'_, Value> {
        let list = Value::plain(Data::List(vec![Value::text("a"), Value::text("b")]));
        let json = Value::text(r#"{"n": 1.50, "l": [1, 2, null, true], "deep": {"x": "y"}}"#);
        Cow::Owned(match context {
            Context::Params => Value::map([
                ("text", Value::text("hello")),
                ("number", Value::text("10")),
                ("empty", Value::text("")),
                ("list", list),
                ("json", json),
                ("long", Value::text("0123456789abcdef".repeat(4096))),
            ]),
            Context::Secrets => Value::map([("TOKEN", Value::secret(SECRET))]),
            _ => Value::NULL,
        })
    }

    fn status(&self) -> Status {
        Status { failed: true, ..Status::default() }
    }

    fn hash(&self, globs: &[String]) -> Result<String, String> {
        if globs.is_empty() { Err("no globs".to_owned()) } else { Ok(globs.join("+")) }
    }
}

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    // In its quotes YAML reads what JSON writes.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let yaml = format!(
        "params: {{ text: {{}}, number: {{}}, empty: {{}}, list: {{}}, json: {{}}, long: {{}} }}\n\
         secrets: [TOKEN]\njobs:\n  a:\n    secrets: [TOKEN]\n    steps:\n      - run: x\n\
         \x20       if: {}\n        env: {{ X: {} }}\n",
        quoted(text),
        quoted(&format!("${{{{ {text} }}}}")),
    );
    let mut sources = Sources::new();
    let file = sources.add("cofferdam.yml", yaml.as_bytes());
    let parsed = parse(&sources, file);
    diagnostics::check(&parsed.diagnostics, &sources);
    let Some(pipeline) = parsed.pipeline else { return };
    let steps = pipeline.jobs.iter().flat_map(|job| &job.steps);
    for (_, template) in steps.flat_map(|step| &step.env) {
        let value = template.render(&Here);
        assert_eq!(value, template.render(&Here), "another value the second time");
        let Ok(value) = value else { continue };
        let shown = value.to_text().unwrap_or_default();
        assert!(value.secret || !shown.contains(SECRET), "an unmarked secret: {shown}");
        assert!(shown.len() <= VALUE_MAX, "a value of {} bytes", shown.len());
    }
}
