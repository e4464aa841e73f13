//! Globs of files, wherever a pipeline or the command line has them.
//!
//! As in shells, `*` and `?` stay within a directory, and `**` are any directories. A pattern that
//! names a directory takes all that is in it.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// The set of files that any of `patterns` matches.
pub(crate) fn globs(patterns: &[String]) -> cofferdam_sandbox::Result<GlobSet> {
    let mut globs = GlobSetBuilder::new();
    for pattern in patterns {
        let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
        for pattern in [pattern.to_owned(), format!("{pattern}/**")] {
            let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
            globs.add(glob.map_err(|error| invalid(&pattern, error))?);
        }
    }
    globs.build().map_err(|error| invalid(&patterns.join(" "), error))
}

fn invalid(pattern: &str, error: globset::Error) -> cofferdam_sandbox::Error {
    cofferdam_sandbox::Error::pipeline(format!("read the glob `{pattern}`"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_a_directory() {
        for (pattern, path, matches) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "out/a.txt", false),
            ("**/*.txt", "a.txt", true),
            ("**/*.txt", "out/deep/a.txt", true),
            ("out", "out/deep/a.txt", true),
            ("./out/", "out/a.txt", true),
            ("out/*", "out/deep/a.txt", true),
            ("o?t/a", "o/t/a", false),
        ] {
            let set = globs(&[pattern.to_owned()]).unwrap();
            assert_eq!(set.is_match(path), matches, "{pattern} {path}");
        }
        globs(&["a{b".to_owned()]).unwrap_err();
    }
}
