//! Faults of a pipeline as SARIF 2.1.0, which services for code scanning read.

use cofferdam_jobs::{Code, Diagnostic, Severity, Sources, diagnostic::Label};
use serde_json::{Value, json};

/// A log of one run of the check.
pub(super) fn log(diagnostics: &[Diagnostic], sources: &Sources) -> Value {
    let rules = Code::ALL
        .iter()
        .map(|code| json!({ "id": code.as_str(), "shortDescription": { "text": code.summary() } }));
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "cofferdam",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": diagnostics.iter().map(|it| result(it, sources)).collect::<Vec<_>>(),
        }],
    })
}

fn result(diagnostic: &Diagnostic, sources: &Sources) -> Value {
    let help = diagnostic.help.iter().map(|help| format!("; {help}"));
    let text: String = std::iter::once(diagnostic.message.clone()).chain(help).collect();
    let mut places = diagnostic.labels.iter().filter_map(|label| place(label, sources));
    let mut result = json!({
        "ruleId": diagnostic.code.as_str(),
        "level": if diagnostic.severity == Severity::Error { "error" } else { "warning" },
        "message": { "text": text },
        "locations": places.next().into_iter().collect::<Vec<_>>(),
    });
    let related: Vec<Value> = places.collect();
    if let (false, Value::Object(result)) = (related.is_empty(), &mut result) {
        result.insert("relatedLocations".to_owned(), related.into());
    }
    result
}

fn place(label: &Label, sources: &Sources) -> Option<Value> {
    let file = sources.file(label.span.file)?;
    let (start, end) = (file.position(label.span.start), file.position(label.span.end));
    let mut place = json!({
        "physicalLocation": {
            "artifactLocation": { "uri": uri(file.name()) },
            "region": {
                "startLine": start.line,
                "startColumn": start.column,
                "endLine": end.line,
                "endColumn": end.column,
            },
        },
    });
    if let (false, Value::Object(place)) = (label.text.is_empty(), &mut place) {
        place.insert("message".to_owned(), json!({ "text": label.text }));
    }
    Some(place)
}

/// A path as a reference (RFC 3986): what is not plain is written as `%XX`.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
