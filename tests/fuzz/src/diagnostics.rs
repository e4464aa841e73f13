//! What holds for every list of faults: each has a place inside its file, and can be drawn.

use cofferdam_jobs::{Diagnostic, Sources, diagnostic::render::render_all};

/// The most bytes that all faults of some files come to when they are drawn.
const DRAWN_MAX: usize = 4 << 20;

/// Checks and draws them.
pub(crate) fn check(diagnostics: &[Diagnostic], sources: &Sources) {
    for label in diagnostics.iter().flat_map(|diagnostic| &diagnostic.labels) {
        let file = sources.file(label.span.file);
        let (start, end) = (label.span.start as usize, label.span.end as usize);
        let marked = file.and_then(|file| file.text().get(start..end));
        assert!(marked.is_some(), "{label:?} is not a place in a file");
    }
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.contains(char::is_control), "{:?}", diagnostic.message);
    }
    let drawn = render_all(diagnostics, sources, false);
    assert!(drawn.len() <= DRAWN_MAX, "{} bytes of messages", drawn.len());
    let escapes = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    assert!(!drawn.contains(escapes), "a message takes over the terminal: {drawn:?}");
    assert_eq!(drawn.is_empty(), diagnostics.is_empty());
}
