//! What `COPY` and `ADD` take: paths and wildcards in the context, a stage or an image.
//!
//! A source that is a symbolic link is followed, within the place that it is taken from; links in a
//! directory that is copied stay links.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_jobs::dockerfile::{DoubleStar, Glob, Ignore, Verdict, Word, remote};
use cofferdam_sandbox::image::{CopyFrom, Image, Store};

use super::Project;
use crate::{
    build::{Selects, Source},
    exit::Exit,
    problem::Problem,
};

/// Files of one place, in the order in which they are copied.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) from: Source,
    pub(super) paths: Vec<PathBuf>,
    /// They are what an archive holds.
    pub(super) unpacked: bool,
}

/// An instruction that takes files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking<'a> {
    pub(super) project: &'a Project,
    /// The sources, with their variables put in.
    pub(super) words: &'a [(String, Word)],
    /// Patterns of what is left out.
    pub(super) exclude: &'a [String],
}

impl Taking<'_> {
    /// Sources in the context; with a store, archives among them are unpacked.
    pub(super) fn of_context(self, unpack: Option<&Store>) -> Result<Vec<Copied>, Problem> {
        let exclude = Arc::new(self.excluded()?);
        let selects = selects(&self.project.ignore, &exclude);
        let context = &self.project.context;
        let from = CopyFrom::Directory(context, &*selects);
        let mut all: Vec<Copied> = Vec::new();
        for (word, place) in self.words {
            if let Some(what) = remote(word) {
                let why = format!("a source that is {what} is not supported");
                let help = "fetch it before the build and `COPY` it, or fetch it in a `RUN`";
                return Err(self.fault(place, why).remedy(help));
            }
            let Some(path) = beneath(word) else {
                let why = format!("the source `{word}` is outside of the context");
                let help = "name a directory above as the context, and `COPY` from there";
                return Err(self.fault(place, why).remedy(help));
            };
            for path in self.found(from, &path, (word, place))? {
                let archive = match unpack {
                    Some(store) => store
                        .unpacked(context, &path)
                        .map_err(|error| self.project.failed(place.span, error))?,
                    None => None,
                };
                match (archive, all.last_mut()) {
                    (Some(image), _) => all.push(Copied {
                        from: Source::Image(Arc::new(image)),
                        paths: vec![PathBuf::new()],
                        unpacked: true,
                    }),
                    (None, Some(last)) if !last.unpacked => last.paths.push(path),
                    (None, _) => {
                        let from = Source::Directory(context.clone(), Arc::clone(&selects));
                        all.push(Copied { from, paths: vec![path], unpacked: false });
                    }
                }
            }
        }
        Ok(all)
    }

    /// Sources in a stage or an image.
    pub(super) fn of_image(self, image: Arc<Image>) -> Result<Vec<Copied>, Problem> {
        if let (Some((_, place)), false) = (self.words.first(), self.exclude.is_empty()) {
            let why = "`--exclude` has no meaning with `--from`".to_owned();
            return Err(self.fault(place, why).remedy("name what is to be copied"));
        }
        let mut paths = Vec::new();
        for (word, place) in self.words {
            // Above the root of an image is its root.
            let path = PathBuf::from(super::metadata::absolute("/", word).trim_start_matches('/'));
            paths.extend(self.found(CopyFrom::Image(&image), &path, (word, place))?);
        }
        Ok(vec![Copied { from: Source::Image(image), paths, unpacked: false }])
    }

    /// The paths that a source stands for.
    fn found(
        self,
        from: CopyFrom<'_>,
        path: &Path,
        (word, place): (&str, &Word),
    ) -> Result<Vec<PathBuf>, Problem> {
        let ignores = matches!(from, CopyFrom::Directory(..));
        let seen = |path: &Path, is_directory: bool| {
            let verdict = self.project.ignore.verdict(&path.to_string_lossy());
            !ignores
                || path.as_os_str().is_empty()
                || match verdict {
                    Verdict::Seen => true,
                    Verdict::Ignored => is_directory,
                    Verdict::IgnoredWhole => false,
                }
        };
        if !has_wildcards(word) {
            let found = from.find(path);
            let found = found.map_err(|error| self.project.failed(place.span, error))?;
            return match found {
                None => {
                    let why = format!("there is no `{word}` {}", self.place(from));
                    let help = "paths are relative to the context, which is the last argument of \
                                `cofferdam image build`";
                    let problem = self.fault(place, why);
                    Err(if ignores { problem.remedy(help) } else { problem })
                }
                Some(found)
                    if !seen(path, found.is_directory)
                        || !seen(&found.path, found.is_directory) =>
                {
                    let name = self.project.ignore_name.as_deref().unwrap_or(".dockerignore");
                    let why = format!("`{word}` is left out of the context by `{name}`");
                    let help = format!("take it in again with a line `!{word}` in `{name}`");
                    Err(self.fault(place, why).remedy(help))
                }
                Some(_) => Ok(vec![path.to_owned()]),
            };
        }
        let pattern = path.to_string_lossy();
        let Some(glob) = Glob::new(&pattern, DoubleStar::Star) else {
            let why = format!("`{word}` is not a pattern");
            let help = "close the bracket, or write `\\` before a character that is meant as such";
            return Err(self.fault(place, why).remedy(help));
        };
        let depth = path.components().count();
        let fixed: PathBuf = path
            .components()
            .take_while(|part| !has_wildcards(&part.as_os_str().to_string_lossy()))
            .collect();
        let mut all: Vec<PathBuf> = from
            .list(&fixed, depth)
            .map_err(|error| self.project.failed(place.span, error))?
            .into_iter()
            .filter(|found| glob.matches(&found.path.to_string_lossy()))
            .filter(|found| seen(&found.path, found.is_directory))
            .map(|found| found.path)
            .collect();
        all.sort_unstable();
        if all.is_empty() {
            let why = format!("nothing matches `{word}` {}", self.place(from));
            return Err(self.fault(place, why));
        }
        Ok(all)
    }

    fn place(self, from: CopyFrom<'_>) -> String {
        match from {
            CopyFrom::Directory(..) => format!("in `{}`", self.project.context.display()),
            CopyFrom::Image(_) | CopyFrom::Files(_) | CopyFrom::Link(_) => {
                "in what it is copied from".to_owned()
            }
        }
    }

    fn excluded(self) -> Result<Ignore, Problem> {
        let patterns = self.exclude.iter().map(String::as_str);
        Ignore::new(patterns).ok_or_else(|| {
            let why = format!("`{}` is not a pattern", self.exclude.join("`, `"));
            match self.words.first() {
                Some((_, place)) => self.fault(place, why),
                None => Problem::new(Exit::Data, why),
            }
        })
    }

    fn fault(self, place: &Word, why: String) -> Problem {
        let at = self.project.at(place.span);
        Problem::new(Exit::Failed, format!("{at}: failed to copy: {why}"))
    }
}

/// What of the context is to be seen.
fn selects(ignore: &Arc<Ignore>, exclude: &Arc<Ignore>) -> Selects {
    let (ignore, exclude) = (Arc::clone(ignore), Arc::clone(exclude));
    Arc::new(move |path: &Path, _| {
        let path = path.to_string_lossy();
        [&ignore, &exclude].iter().all(|ignore| ignore.verdict(&path) == Verdict::Seen)
    })
}

/// A path relative to the context; [`None`] where it leads out of it.
fn beneath(word: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in word.split('/') {
        match part {
            "" | "." => {}
            ".." if !path.pop() => return None,
            ".." => {}
            other => path.push(other),
        }
    }
    Some(path)
}

fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_beneath_the_context() {
        for (word, expect) in [
            ("a", Some("a")),
            ("/a//b/", Some("a/b")),
            (".", Some("")),
            ("a/../b", Some("b")),
            ("..", None),
            ("a/../../b", None),
            ("/..", None),
        ] {
            assert_eq!(beneath(word), expect.map(PathBuf::from), "{word}");
        }
    }
}
