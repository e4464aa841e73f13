//! `COPY` and `ADD`.

use super::{
    file_from,
    fragment::Fragment,
    heredoc::{self, Heredoc},
    instruction::{Flag, KnownFlags, Reading, flags, usage, value},
    json_form,
    mode::ModeChange,
    model::{Copy, Inline, Kind},
    word::{self, Piece, Quotes, Word},
    words,
};
use crate::{
    diagnostic::{Code, quoted},
    source::Spanned,
};

const COPY: KnownFlags = KnownFlags {
    instruction: "COPY",
    values: &["from", "chown", "chmod"],
    lists: &["exclude"],
    switches: &["link"],
    unsupported: &[("parents", "copy each directory to its own destination")],
};

const ADD: KnownFlags = KnownFlags {
    instruction: "ADD",
    values: &["chown", "chmod"],
    lists: &["exclude"],
    switches: &["link"],
    unsupported: &[
        ("checksum", "it is for downloads, which builds do not make: fetch the file before"),
        ("keep-git-dir", "builds fetch no repositories: clone it before, or in a `RUN`"),
        ("unpack", "`ADD` unpacks local archives, `COPY` never does"),
    ],
};

/// Reads what follows `COPY`, or `ADD` with `unpack`.
pub(super) fn read(rest: Fragment<'_>, unpack: bool, reading: &mut Reading<'_>) -> Option<Kind> {
    let known = if unpack { ADD } else { COPY };
    let (flags, rest) = flags(rest, known, reading);
    let from = value(&flags, "from").map(|text| file_from::read(text, reading));
    let owner = value(&flags, "chown").map(|text| reading.word(text));
    let mode = value(&flags, "chmod").map(|text| mode(text, reading));
    let excluded = flags.iter().filter(|flag| flag.name.text() == "exclude");
    let exclude: Option<Vec<_>> =
        reading.words(excluded.filter_map(|flag: &Flag<'_>| flag.value).collect::<Vec<_>>());
    let heredocs = std::mem::take(&mut reading.heredocs);
    let (sources, inline, destination) = paths(known.instruction, rest, heredocs, reading)?;
    let is_context = from.is_none();
    let sound: Vec<_> =
        sources.iter().map(|source| source_is_sound(source, unpack, is_context, reading)).collect();
    if sound.contains(&false) {
        return None;
    }
    let optional = |flag: Option<Option<Word>>| flag.map_or(Some(None), |word| word.map(Some));
    Some(Kind::Copy(Copy {
        unpack,
        from: from.map_or(Some(None), |from| from.map(Some))?,
        owner: optional(owner)?,
        mode: mode.map_or(Some(None), |mode| mode.map(Some))?,
        exclude: exclude?,
        sources,
        inline,
        destination,
    }))
}

/// Sources and destination.
fn paths(
    instruction: &'static str,
    rest: Fragment<'_>,
    heredocs: Vec<Heredoc>,
    reading: &mut Reading<'_>,
) -> Option<(Vec<Word>, Vec<Inline>, Word)> {
    let list = json_form::read(rest, reading.report);
    let words = match &list {
        Some(list) => list.iter().map(json_form::Element::fragment).collect(),
        None => words::by_space(rest, reading.report),
    };
    let Some((destination, sources)) = words.split_last().filter(|(_, all)| !all.is_empty()) else {
        let message = format!("`{instruction}` has no destination");
        reading.wrong(rest.span(), message, usage(instruction));
        return None;
    };
    let is_heredoc = |word: &&Fragment<'_>| list.is_none() && heredoc::opens(word.text());
    let sources: Vec<_> = sources.iter().filter(|word| !is_heredoc(word)).copied().collect();
    let words = reading.words(sources);
    let destination = reading.word(*destination)?;
    let inline: Option<Vec<_>> =
        heredocs.into_iter().map(|heredoc| inline(heredoc, reading)).collect();
    let (words, inline) = (words?, inline?);
    let many = words.len() + inline.len() > 1;
    if many && destination.literal().is_some_and(|path| !is_directory(path)) {
        let message =
            format!("with several sources the destination of `{instruction}` is a directory");
        reading.wrong(destination.span, message, "end it with a `/`");
        return None;
    }
    Some((words, inline, destination))
}

/// Whether a destination can only be a directory.
fn is_directory(path: &str) -> bool {
    path.ends_with('/')
        || matches!(path, "." | "..")
        || path.ends_with("/.")
        || path.ends_with("/..")
}

fn inline(heredoc: Heredoc, reading: &mut Reading<'_>) -> Option<Inline> {
    let content = heredoc.content.whole();
    let content = if heredoc.expand {
        word::read(content, reading.escape, Quotes::Text, reading.report)?
    } else {
        Word::text(content.text(), content.span())
    };
    Some(Inline { name: heredoc.name, content })
}

/// What can be known of a source before it is looked for.
fn source_is_sound(
    source: &Word,
    unpack: bool,
    is_context: bool,
    reading: &mut Reading<'_>,
) -> bool {
    // What begins with a variable may still become a name; it is looked at again then.
    let Some(Piece::Text(beginning)) = source.pieces.first() else { return true };
    if let Some(remote) = remote(beginning) {
        let instead = if unpack {
            "fetch it before the build and `COPY` it, or fetch it in a `RUN` with a network"
        } else {
            "`COPY` takes files of the context; fetch it before the build"
        };
        let message = format!("a source that is {remote} is not supported");
        reading.fault(Code::DockerfileUnsupported, source.span, message, instead);
        return false;
    }
    let leaves = source.literal().is_some_and(leaves);
    if is_context && leaves {
        let path = quoted(source.literal().unwrap_or_default());
        let message = format!("the source {path} is outside of the context");
        let help = "name a directory above as the context, and `COPY` from there";
        reading.fault(Code::DockerfilePath, source.span, message, help);
        return false;
    }
    true
}

/// What a source is that lies on another machine.
pub fn remote(source: &str) -> Option<&'static str> {
    let lower = source.to_ascii_lowercase();
    let scheme = |schemes: &[&str]| schemes.iter().any(|scheme| lower.starts_with(scheme));
    if scheme(&["git://", "git@", "ssh://", "github.com/"]) || lower.contains(".git#") {
        return Some("a git repository");
    }
    if scheme(&["http://", "https://"]) {
        return Some(if lower.ends_with(".git") { "a git repository" } else { "a URL" });
    }
    None
}

/// Whether a path goes above where it begins.
pub(super) fn leaves(path: &str) -> bool {
    let mut depth = 0_i64;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

fn mode(text: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Spanned<ModeChange>> {
    let mode = ModeChange::parse(text.text().trim_matches(['"', '\'']));
    if mode.is_none() {
        let message = format!("{} is not a mode", quoted(text.text()));
        let help = "modes look like `755` or `u+x,go-w`";
        reading.fault(Code::DockerfileFlag, text.span(), message, help);
    }
    mode.map(|mode| Spanned::new(mode, text.span()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_other_places() {
        for (source, expect) in [
            ("a", None),
            ("https://example.org/a.tar.gz", Some("a URL")),
            ("HTTP://example.org/", Some("a URL")),
            ("https://example.org/a.git", Some("a git repository")),
            ("https://example.org/a.git#main", Some("a git repository")),
            ("git@example.org:a/b.git", Some("a git repository")),
        ] {
            assert_eq!(remote(source), expect, "{source}");
        }
        for (path, expect) in [
            ("..", true),
            ("../a", true),
            ("a/../..", true),
            ("/../a", true),
            ("a/..", false),
            ("a/../b", false),
            ("...", false),
            ("..a", false),
        ] {
            assert_eq!(leaves(path), expect, "{path}");
        }
    }
}
