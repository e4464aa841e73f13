//! Here-documents: `<<NAME` in an instruction, and the lines after it up to `NAME`.

use super::{
    bounds,
    fragment::{Fragment, Line},
    text::Lines,
    words::word_end,
};
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted},
    source::Span,
};

/// A here-document with its text.
#[derive(Debug)]
pub(super) struct Heredoc {
    /// What ends it, and what the file is called that `COPY` makes of it.
    pub(super) name: String,
    /// Whether variables are put in: not where the name is quoted.
    pub(super) expand: bool,
    /// Where `<<NAME` is.
    pub(super) span: Span,
    /// The text; with `<<-` without the tabs at the beginning of its lines.
    pub(super) content: Line,
    /// The text as it stands.
    pub(super) raw: String,
}

/// What `<<` begins.
struct Opener {
    name: String,
    expand: bool,
    chomp: bool,
    /// There was a space before the name, so it may be an operator of shell arithmetic.
    doubtful: bool,
    span: Span,
}

/// Reads the here-documents that an instruction opens, off the lines after it.
pub(super) fn read(
    instruction: Fragment<'_>,
    lines: &mut Lines<'_>,
    report: &mut Report,
) -> Vec<Heredoc> {
    let mut heredocs = Vec::new();
    for opener in openers(instruction, lines.escape) {
        if heredocs.len() >= bounds::HEREDOCS {
            let message =
                format!("more than {} here-documents in one instruction", bounds::HEREDOCS);
            report.push(
                Diagnostic::error(Code::DockerfileTooLarge, message)
                    .at(opener.span, "")
                    .help("put the text into files of the context"),
            );
            break;
        }
        match body(&opener, lines) {
            Some((content, raw)) => {
                if raw.len() > bounds::HEREDOC {
                    let message =
                        format!("a here-document is longer than {} bytes", bounds::HEREDOC);
                    report.push(
                        Diagnostic::error(Code::DockerfileTooLarge, message)
                            .at(opener.span, "")
                            .help("put the text into a file of the context"),
                    );
                }
                let Opener { name, expand, span, .. } = opener;
                heredocs.push(Heredoc { name, expand, span, content, raw });
            }
            None if opener.doubtful => {}
            None => {
                report.push(
                    Diagnostic::error(
                        Code::DockerfileHeredoc,
                        format!("the here-document {} has no end", quoted(&opener.name)),
                    )
                    .at(opener.span, "")
                    .help(format!("add a line that is exactly {}", quoted(&opener.name))),
                );
                // All that follows is its text.
                while lines.physical().is_some() {}
                break;
            }
        }
    }
    heredocs
}

/// The opener that a word is, with the number of its descriptor left out.
pub(super) fn opens(word: &str) -> bool {
    word.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with("<<")
}

fn openers(instruction: Fragment<'_>, escape: char) -> Vec<Opener> {
    let mut openers = Vec::new();
    let mut rest = instruction.trim();
    while !rest.is_empty() {
        let end = word_end(rest.text(), escape);
        let word = rest.part(0..end);
        rest = rest.after(end).trim_start();
        let text = word.text().trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(text) = text.strip_prefix("<<") else { continue };
        let (text, chomp) = text.strip_prefix('-').map_or((text, false), |text| (text, true));
        let doubtful = text.is_empty();
        let text = if doubtful { rest.part(0..word_end(rest.text(), escape)).text() } else { text };
        let plain: String =
            text.chars().filter(|c| !matches!(c, '"' | '\'') && *c != escape).collect();
        // `<<<` is something else, for the shell.
        if plain.is_empty() || text.contains('<') {
            continue;
        }
        let expand = plain.len() == text.len();
        openers.push(Opener { name: plain, expand, chomp, doubtful, span: word.span() });
    }
    openers
}

/// The lines up to the name; [`None`], with nothing read, when it does not come.
fn body(opener: &Opener, lines: &mut Lines<'_>) -> Option<(Line, String)> {
    let mut ahead = lines.clone();
    let mut content = lines.empty();
    let mut raw = String::new();
    while let Some(physical) = ahead.physical() {
        let line = physical.text;
        let cut = if opener.chomp { line.trim_start_matches('\t') } else { line };
        if cut == opener.name {
            *lines = ahead;
            return Some((content, raw));
        }
        let whole = lines.text(physical.start, physical.next);
        let tabs = line.len() - cut.len();
        content.push(whole.get(tabs..).unwrap_or_default(), physical.start + tabs);
        raw.push_str(whole);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    fn read_all(text: &str) -> Vec<(String, bool, String)> {
        let mut sources = Sources::new();
        let id = sources.add("Dockerfile", text.as_bytes());
        let mut report = Report::new();
        let mut lines = Lines::new(sources.file(id).unwrap(), id, &mut report).unwrap();
        let instruction = lines.instruction().unwrap();
        let heredocs = read(instruction.whole(), &mut lines, &mut report);
        let mut all: Vec<_> = heredocs
            .into_iter()
            .map(|heredoc| (heredoc.name, heredoc.expand, heredoc.content.text().to_owned()))
            .collect();
        all.extend(
            report.finish().iter().map(|fault| (fault.message.clone(), false, String::new())),
        );
        all
    }

    #[test]
    fn openers_take_the_lines_up_to_their_name() {
        let one = |name: &str, expand, text: &str| (name.to_owned(), expand, text.to_owned());
        for (text, expect) in [
            ("RUN <<EOF\na\nb\nEOF\nRUN c", vec![one("EOF", true, "a\nb\n")]),
            ("RUN <<EOF\r\na\r\nEOF\r\n", vec![one("EOF", true, "a\r\n")]),
            (
                "RUN cat <<'A' <<\"B\" 3<<C\n1\nA\n2\nB\n3\nC\n",
                vec![one("A", false, "1\n"), one("B", false, "2\n"), one("C", true, "3\n")],
            ),
            ("RUN <<-EOF\n\t\ta\n \tb\n\tEOF\n", vec![one("EOF", true, "a\n \tb\n")]),
            ("RUN <<EOF\n# a\n\nb \\\n EOF\nEOF", vec![one("EOF", true, "# a\n\nb \\\n EOF\n")]),
            ("RUN cat << EOF\na\nEOF\n", vec![one("EOF", true, "a\n")]),
            ("RUN echo $(( 1 << two ))\nRUN x", vec![]),
            ("RUN echo '<<EOF' a<<EOF <<<EOF\nEOF", vec![]),
            ("RUN <<EOF\na", vec![one("the here-document `EOF` has no end", false, "")]),
        ] {
            assert_eq!(read_all(text), expect, "{text:?}");
        }
    }
}
