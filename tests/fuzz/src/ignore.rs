//! An ignore file and a path: any fault has its place; what is ignored as a whole stays so below,
//! unless a pattern says otherwise.

use cofferdam_jobs::{
    Sources,
    dockerfile::{Ignore, Verdict},
};

use crate::diagnostics;

/// The last line is the path, the others are the file.
pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (patterns, path) = text.rsplit_once('\n').unwrap_or((&text, "a/b"));
    let mut sources = Sources::new();
    let file = sources.add(".dockerignore", patterns.as_bytes());
    let (ignore, faults) = Ignore::parse(&sources, file);
    diagnostics::check(&faults, &sources);
    let path = path.trim_matches('/');
    if path.is_empty() {
        return;
    }
    if ignore.verdict(path) == Verdict::IgnoredWhole {
        for below in ["x", "x/y.go", "README.md"] {
            let below = format!("{path}/{below}");
            assert_ne!(ignore.verdict(&below), Verdict::Seen, "{below:?} by {patterns:?}");
        }
    }
}
