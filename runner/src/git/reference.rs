//! References: names that stand for objects, loose in files of their own or packed in one.

use std::{collections::BTreeMap, io};

use super::{object::Id, repository::Repository};

/// The longest loose reference, in bytes.
const LOOSE_MAX: u64 = 4096;
/// The longest file of packed references, in bytes: some 800 000 of them.
const PACKED_MAX: u64 = 64 * 1024 * 1024;
/// How often a reference may name another one; git's own bound.
const SYMBOLIC_MAX: usize = 5;
/// The most loose tags, and how deep their names may go.
const LOOSE_TAGS_MAX: usize = 50_000;
const DEPTH_MAX: usize = 16;
/// What the names of tags begin with.
const TAGS: &str = "refs/tags/";

/// What `HEAD` or another reference says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// An object.
    Object(Id),
    /// Another reference.
    Reference(String),
}

/// A tag, and what is known of it without looking at any object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// It is only a name for this object.
    Light(Id),
    /// It is annotated, and stands for this object in the end.
    Annotated(Id),
    /// The object says which of both it is.
    Unknown(Id),
}

/// Reads `HEAD`.
pub(super) fn head(repository: &Repository) -> Option<Said> {
    said(&repository.own.text("HEAD", LOOSE_MAX).ok()?)
}

/// The object that a reference stands for; [`None`] where there is none yet.
pub(super) fn resolve(repository: &Repository, name: &str) -> Option<Id> {
    let mut name = name.to_owned();
    for _ in 0..SYMBOLIC_MAX {
        let loose = repository.common.text(&name, LOOSE_MAX);
        let Ok(loose) = loose else {
            let packed = packed(repository).ok()?;
            return packed.lines().find_map(|line| {
                let (id, own) = line.split_once(' ')?;
                if own == name { Id::parse(id) } else { None }
            });
        };
        match said(&loose)? {
            Said::Object(id) => return Some(id),
            Said::Reference(other) => name = other,
        }
    }
    None
}

/// All tags by name; a loose one hides a packed one.
pub(super) fn tags(repository: &Repository) -> io::Result<BTreeMap<String, Tag>> {
    let mut tags = BTreeMap::new();
    let mut last: Option<&str> = None;
    let packed = packed(repository).unwrap_or_default();
    // What annotated tags stand for follows them, where the first line says so.
    let is_peeled = packed.lines().next().is_some_and(|first| {
        first.starts_with('#') && first.split(' ').any(|word| word.ends_with("peeled"))
    });
    for line in packed.lines() {
        if let Some(peeled) = line.strip_prefix('^') {
            let tag = last.take().and_then(|name| tags.get_mut(name));
            if let (Some(tag), Some(id)) = (tag, Id::parse(peeled)) {
                *tag = Tag::Annotated(id);
            }
            continue;
        }
        last = None;
        let Some((id, name)) = line.split_once(' ') else { continue };
        if let (Some(object), Some(tag)) = (Id::parse(id), name.strip_prefix(TAGS))
            && is_valid(name)
        {
            let found = if is_peeled { Tag::Light(object) } else { Tag::Unknown(object) };
            tags.insert(tag.to_owned(), found);
            last = Some(tag);
        }
    }
    let mut directories = vec![(TAGS.trim_end_matches('/').to_owned(), 0)];
    let mut left = LOOSE_TAGS_MAX;
    while let Some((directory, depth)) = directories.pop() {
        let entries = match repository.common.entries(&directory, left) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        left = left.saturating_sub(entries.len());
        for (name, is_directory) in entries {
            let path = format!("{directory}/{name}");
            if is_directory && depth < DEPTH_MAX {
                directories.push((path, depth + 1));
            } else if !is_directory
                && is_valid(&path)
                && let Ok(text) = repository.common.text(&path, LOOSE_MAX)
                && let Some(Said::Object(object)) = said(&text)
                && let Some(tag) = path.strip_prefix(TAGS)
            {
                tags.insert(tag.to_owned(), Tag::Unknown(object));
            }
        }
    }
    Ok(tags)
}

fn packed(repository: &Repository) -> io::Result<String> {
    repository.common.text("packed-refs", PACKED_MAX)
}

fn said(text: &str) -> Option<Said> {
    let text = text.trim_end();
    match text.strip_prefix("ref:") {
        Some(name) => {
            let name = name.trim_start();
            is_valid(name).then(|| Said::Reference(name.to_owned()))
        }
        None => Id::parse(text).map(Said::Object),
    }
}

/// Whether git takes this for the full name of a reference (git-check-ref-format(1)).
pub(super) fn is_valid(name: &str) -> bool {
    let forbidden = |each: char| {
        each.is_control() || matches!(each, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\')
    };
    let is_part = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && !part.to_ascii_lowercase().ends_with(".lock")
    };
    name.starts_with("refs/")
        && name.len() <= 1024
        && !name.contains(forbidden)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_git_takes() {
        for good in ["refs/heads/main", "refs/tags/v1.0-rc.1", "refs/heads/a/b@c", "refs/heads/ä"]
        {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "HEAD",
            "refs/heads/",
            "refs/heads/.invalid",
            "refs//main",
            "refs/heads/../../x",
            "refs/heads/a..b",
            "refs/heads/a b",
            "refs/heads/a\u{1b}[31m",
            "refs/heads/x.lock",
            "refs/heads/@{1}",
            "refs/heads/end.",
            "../etc/passwd",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
