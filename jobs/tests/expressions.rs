//! Values of expressions, and what holds for all of them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests may panic as tests do"
)]

use std::borrow::Cow;

use cofferdam_jobs::{
    Sources,
    expr::{Context, Data, EvaluationError, Scope, Status, Value, evaluate},
    model::Command,
    parse,
};
use proptest::prelude::*;

/// A few values of each kind.
struct Here;

impl Scope for Here {
    fn context(&self, context: Context) -> Cow<'_, Value> {
        let list = Value::plain(Data::List(vec![Value::text("a"), Value::text("b")]));
        Cow::Owned(match context {
            Context::Params => Value::map([
                ("text", Value::text("hello")),
                ("number", Value::text("10")),
                ("empty", Value::text("")),
                ("list", list),
                ("json", Value::text(r#"{"n": 1.50, "l": [1, 2], "deep": {"x": "y"}}"#)),
            ]),
            Context::Secrets => Value::map([("TOKEN", Value::secret("hunter2"))]),
            _ => Value::NULL,
        })
    }

    fn status(&self) -> Status {
        Status { failed: true, ..Status::default() }
    }

    fn hash(&self, globs: &[String]) -> Result<String, String> {
        Ok(globs.join("+"))
    }
}

/// The value of an expression, read as part of a script.
fn value(text: &str) -> Result<Value, EvaluationError> {
    // In single quotes YAML changes nothing but the quotes.
    let yaml = format!(
        "params: {{ text: {{}}, number: {{}}, empty: {{}}, list: {{}}, json: {{}} }}\n\
         secrets: [TOKEN]\n\
         jobs: {{ a: {{ steps: [{{ env: {{ X: '${{{{ {} }}}}' }}, run: x }}] }} }}",
        text.replace('\'', "''")
    );
    let mut sources = Sources::new();
    let file = sources.add("a.yml", yaml.as_bytes());
    let parsed = parse(&sources, file);
    let pipeline = parsed.pipeline.unwrap_or_else(|| panic!("{text}: {:?}", parsed.diagnostics));
    let expr = pipeline.job("a").unwrap().steps[0].env[0].1.expressions().next().unwrap().clone();
    evaluate(&expr, &Here)
}

#[test]
fn values() {
    for (text, expect) in [
        ("'it''s'", "it's"),
        ("12", "12"),
        ("-1.5", "-1.5"),
        ("true && 'yes' || 'no'", "yes"),
        ("false && 'yes' || 'no'", "no"),
        ("!''", "true"),
        ("!params", "false"),
        ("params.text == 'hello'", "true"),
        ("params.number == 10", "true"),
        ("params.number < 9", "false"),
        ("'b' > 'a'", "true"),
        ("'a' == 'A'", "false"),
        ("null == ''", "false"),
        ("null == git.tag", "true"),
        ("params['te' == 'x' && 'a' || 'text']", "hello"),
        ("params.list[1]", "b"),
        ("params.list[7]", "null"),
        ("git.tag.deeper.still", "null"),
        ("contains(params.text, 'ell')", "true"),
        ("contains(params.list, 'b')", "true"),
        ("contains(['1', '2'], 2)", "true"),
        ("startsWith(params.text, 'he') && endsWith(params.text, 'lo')", "true"),
        ("format('{1}-{0}-{{}}', 'a', 2)", "2-a-{}"),
        ("join(params.list, ' ')", "a b"),
        ("join(params.list)", "a,b"),
        ("default(params.empty, 'x')", "x"),
        ("default(git.tag, params.text)", "hello"),
        ("hash('a', 'b/**')", "a+b/**"),
        ("fromJSON(params.json).n", "1.5"),
        ("fromJSON(params.json).l[1]", "2"),
        ("fromJSON(params.json)['deep'].x", "y"),
        ("toJSON(fromJSON(params.json).l)", "[1,2]"),
        ("toJSON(params.list)", r#"["a","b"]"#),
        ("toJSON('a\"b')", r#""a\"b""#),
    ] {
        assert_eq!(value(text).map(|value| value.to_string()), Ok(expect.to_owned()), "{text}");
    }
}

#[test]
fn what_has_no_value() {
    for (text, expect) in [
        ("params.text.x", "text has no value `x`"),
        ("params.list < 1", "a list and a number have no order"),
        ("format('{1}', 'a')", "`format`: there is no value for `{1}`"),
        ("format('{', 'a')", "`format`: a brace stands alone: write `{{` or `}}` for a brace"),
        (
            "fromJSON('[')",
            "`fromJSON`: this is not JSON: EOF while parsing a list at line 1 column 1",
        ),
        ("startsWith(params.list, 'a')", "`startsWith`: expected text, found a list"),
    ] {
        assert_eq!(
            value(text).map_err(|error| error.to_string()),
            Err(expect.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn texts_do_not_grow_without_bound() {
    let doubling =
        |inner: &str| format!("format('{{0}}{{0}}{{0}}{{0}}{{0}}{{0}}{{0}}{{0}}', {inner})");
    let bomb = (0..20).fold("'0123456789'".to_owned(), |inner, _| doubling(&inner));
    let error = value(&bomb).unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
}

#[test]
fn secrets_stay_marked_through_everything() {
    for text in [
        "secrets.TOKEN",
        "format('x{0}', secrets.TOKEN)",
        "join([1, secrets.TOKEN], '')",
        "toJSON([secrets.TOKEN])",
        "fromJSON(toJSON([secrets.TOKEN]))",
        "fromJSON(toJSON([secrets.TOKEN]))[0]",
        "default(secrets.TOKEN, 'x')",
        "default(params.empty, secrets.TOKEN)",
        "params.empty || secrets.TOKEN",
        "secrets.TOKEN && 'it is set'",
        "secrets.TOKEN == 'hunter2'",
        "!secrets.TOKEN",
        "contains(secrets.TOKEN, 'h')",
        "startsWith('hunter22', secrets.TOKEN)",
        "params[secrets.TOKEN]",
        "[secrets.TOKEN][0]",
        "hash('a') && secrets.TOKEN",
    ] {
        let value = value(text).unwrap();
        assert!(value.holds_secret(), "{text} is not marked");
        assert!(!value.to_string().contains("hunter2"), "{text} shows the secret");
    }
    assert!(!value("params.text").unwrap().holds_secret());
    assert!(!value("[params.text, secrets.TOKEN][0]").unwrap().holds_secret());
}

/// Pieces that make expressions, right and wrong.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "params",
        ".text",
        "secrets.TOKEN",
        "(",
        ")",
        "[",
        "]",
        ",",
        "'a'",
        "12",
        "-3",
        "==",
        "<=",
        "&&",
        "||",
        "!",
        "format(",
        "toJSON(",
        "fromJSON(",
        "contains(",
        "null",
        "}}",
        "${{",
        "\u{e4}",
        "'",
        "..",
        "always()",
        "hash('x')",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the text is: no panic, and no secret in what is not marked.
    #[test]
    fn any_text_is_read_or_refused(text in pieces()) {
        let yaml = format!(
            "params: {{ text: {{}} }}\nsecrets: [TOKEN]\njobs:\n  a:\n    steps:\n      - run: x\n        env:\n          X: |\n            ${{{{ {text} }}}}\n        if: |\n          {text}\n"
        );
        let mut sources = Sources::new();
        let file = sources.add("a.yml", yaml.as_bytes());
        let parsed = parse(&sources, file);
        cofferdam_jobs::diagnostic::render::render_all(&parsed.diagnostics, &sources, false);
        for diagnostic in &parsed.diagnostics {
            let span = diagnostic.span().unwrap();
            prop_assert!(sources.file(span.file).unwrap().text().get(span.start as usize..span.end as usize).is_some());
        }
        let Some(pipeline) = parsed.pipeline else { return Ok(()) };
        let step = &pipeline.job("a").unwrap().steps[0];
        prop_assert!(matches!(step.command, Command::Run(_)));
        if let Ok(value) = step.env[0].1.render(&Here) {
            let shown = value.to_text().unwrap();
            prop_assert!(value.secret || !shown.contains("hunter2"), "{shown}");
        }
    }
}
