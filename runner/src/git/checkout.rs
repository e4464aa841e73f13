//! The context `git`: commit, branch, reference and tag of what is checked out.

use std::{collections::BTreeMap, path::Path};

use super::{
    object::{self, Id},
    order,
    reference::{self, Said, Tag},
    repository::Repository,
};

/// The most tags whose objects are looked at; all others are known from the packed references.
const OBJECTS_MAX: usize = 10_000;

/// The values of the context; those that there are. What is damaged has none.
pub(crate) fn context(workspace: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Some(repository) = Repository::of(workspace) else { return found };
    let mut say = |name: &str, value: &str| found.insert(name.to_owned(), value.to_owned());
    let commit = match reference::head(&repository) {
        Some(Said::Object(commit)) => Some(commit),
        Some(Said::Reference(name)) => {
            say("ref", &name);
            if let Some(branch) = name.strip_prefix("refs/heads/") {
                say("branch", branch);
            }
            reference::resolve(&repository, &name)
        }
        None => None,
    };
    let Some(commit) = commit else { return found };
    say("commit", commit.as_str());
    if let Some(tag) = tag(&repository, &commit) {
        say("tag", &tag);
    }
    found
}

/// The commit that is checked out.
pub(crate) fn commit(workspace: &Path) -> Option<String> {
    let repository = Repository::of(workspace)?;
    let commit = match reference::head(&repository)? {
        Said::Object(commit) => commit,
        Said::Reference(name) => reference::resolve(&repository, &name)?,
    };
    Some(commit.as_str().to_owned())
}

/// The tag that points at a commit. Of several, annotated ones go before others, as releases are
/// made with them, and of these the last one in the order of versions.
fn tag(repository: &Repository, commit: &Id) -> Option<String> {
    let mut looked = 0;
    let tags = reference::tags(repository).ok()?;
    let pointing = tags.into_iter().filter_map(|(name, tag)| {
        let annotated = match tag {
            Tag::Light(object) => (object == *commit).then_some(false),
            Tag::Annotated(object) => (object == *commit).then_some(true),
            Tag::Unknown(object) if object == *commit => Some(false),
            Tag::Unknown(object) => {
                looked += 1;
                let peeled = || object::peel(repository, &object).filter(|it| it == commit);
                (looked <= OBJECTS_MAX).then(peeled).flatten().map(|_| true)
            }
        };
        annotated.map(|annotated| (annotated, name))
    });
    let last = pointing.max_by(|(annotated, name), (other_annotated, other)| {
        annotated.cmp(other_annotated).then_with(|| order::compare(name, other))
    });
    last.map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
