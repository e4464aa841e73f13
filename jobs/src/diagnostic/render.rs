//! Draws diagnostics in the manner of rustc: message, place in the file, help.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, Label, Severity};
use crate::source::{SourceFile, Sources};

/// How many bytes of a file are handed to the drawing at most: a place in a line of a megabyte
/// is shown without that line.
const MAX_WINDOW: usize = 16 * 1024;

/// Draws one diagnostic, without a newline at the end.
///
/// `color` adds terminal colours; text from the file can never do so by itself.
pub fn render(diagnostic: &Diagnostic, sources: &Sources, color: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Warning => Level::WARNING,
        Severity::Error => Level::ERROR,
    };
    let mut group = Group::with_title(
        level.primary_title(diagnostic.message.as_str()).id(diagnostic.code.as_str()),
    );
    for snippet in snippets(&diagnostic.labels, sources) {
        group = group.element(snippet);
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// Draws all diagnostics, an empty line between two.
pub fn render_all(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let drawn: Vec<String> =
        diagnostics.iter().map(|diagnostic| render(diagnostic, sources, color)).collect();
    drawn.join("\n\n")
}

type Picture<'a> = Snippet<'a, annotate_snippets::Annotation<'a>>;

/// One picture per file, in the order in which the labels name them, or one per label where the
/// labels are too far apart for one picture.
fn snippets<'a>(labels: &'a [Label], sources: &'a Sources) -> Vec<Picture<'a>> {
    let mut snippets = Vec::new();
    let mut rest: Vec<(usize, &Label)> = labels.iter().enumerate().collect();
    while let Some((_, first)) = rest.first() {
        let id = first.span.file;
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|(_, label)| label.span.file == id);
        rest = elsewhere;
        let Some(file) = sources.file(id) else { continue };
        match picture(file, &here) {
            Some(snippet) => snippets.push(snippet),
            None => snippets.extend(here.iter().map(|label| {
                picture(file, std::slice::from_ref(label)).unwrap_or_else(|| bare(file, label.1))
            })),
        }
    }
    snippets
}

fn picture<'a>(file: &'a SourceFile, labels: &[(usize, &'a Label)]) -> Option<Picture<'a>> {
    let first = labels.iter().map(|(_, label)| label.span.start).min()?;
    let last = labels.iter().map(|(_, label)| label.span.end).max()?;
    let line = file.position(first).line;
    let start = file.line_start(line);
    let end = file.line_start(file.position(last).line + 1);
    if end.saturating_sub(start) > MAX_WINDOW {
        return None;
    }
    let window = file.slice(start, end);
    let shown = window.replace(is_c1, "\u{b7}");
    let mut snippet = Snippet::source(shown).path(file.name()).line_start(line);
    for (index, label) in labels {
        let kind = if *index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let from = (label.span.start as usize).saturating_sub(start).min(window.len());
        let to = (label.span.end as usize).saturating_sub(start).clamp(from, window.len());
        let mut annotation = kind.span(from..to);
        if !label.text.is_empty() {
            annotation = annotation.label(label.text.as_str());
        }
        snippet = snippet.annotation(annotation);
    }
    Some(snippet)
}

/// Terminal commands of one character (ECMA-48) that the drawing lets through; like the dot that
/// replaces them, they take two bytes, so that places hold.
fn is_c1(character: char) -> bool {
    matches!(character, '\u{80}'..='\u{9f}')
}

/// The place by line and column alone, for lines that are too long to show.
fn bare<'a>(file: &'a SourceFile, label: &'a Label) -> Picture<'a> {
    let position = file.position(label.span.start);
    let text = if label.text.is_empty() {
        format!("column {}", position.column)
    } else {
        format!("column {}: {}", position.column, label.text)
    };
    Snippet::source("…")
        .path(file.name())
        .line_start(position.line)
        .annotation(AnnotationKind::Primary.span(0.."…".len()).label(text))
}
