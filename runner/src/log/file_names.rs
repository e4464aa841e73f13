//! File names for jobs and steps.
//!
//! Ids in a pipeline are safe as they are, but the names of matrix jobs and of steps are free
//! text. A name is kept readable, and made unique by a number after `~`, which stands in no safe
//! name: two names never share a file, whatever their author chose.

use std::collections::HashSet;

/// File systems take 255 bytes; the number, the extension and a temporary name need some.
const LENGTH_MAX: usize = 80;

/// The names that were given in one directory.
#[derive(Debug, Default)]
pub(crate) struct FileNames {
    /// In lower case: the run's directory may be copied to where case makes no difference.
    taken: HashSet<String>,
}

impl FileNames {
    /// A file name for `name`: of `[A-Za-z0-9._-]` and `~`, not hidden, and never given before.
    pub(crate) fn assign(&mut self, name: &str) -> String {
        let safe = safe(name);
        let mut candidate = safe.clone();
        let mut number = 1_u64;
        while !self.taken.insert(candidate.to_ascii_lowercase()) {
            number += 1;
            candidate = format!("{safe}~{number}");
        }
        candidate
    }
}

fn safe(name: &str) -> String {
    let mut safe = String::new();
    for character in name.chars() {
        if safe.len() >= LENGTH_MAX {
            break;
        }
        match character {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' => safe.push(character),
            '.' if !safe.is_empty() => safe.push('.'),
            _ if safe.is_empty() || safe.ends_with('-') => {}
            _ => safe.push('-'),
        }
    }
    safe.truncate(safe.trim_end_matches(['-', '.']).len());
    if safe.is_empty() { "unnamed".to_owned() } else { safe }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_readable() {
        let check = |name: &str, expected: &str| {
            assert_eq!(FileNames::default().assign(name), expected);
        };
        check("build", "build");
        check("test (shard: 1, mode: fast)", "test-shard-1-mode-fast");
        check("../../etc/passwd", "etc-passwd");
        check(".hidden", "hidden");
        check("a\0b\nc", "a-b-c");
        check("", "unnamed");
        check("..", "unnamed");
        check("überprüfen", "berpr-fen");
        check(&"x".repeat(300), &"x".repeat(80));
    }

    #[test]
    fn equal_names_are_numbered() {
        let mut names = FileNames::default();
        let given: Vec<String> =
            ["a b", "a/b", "a-b", "A-B", "a-b~2"].map(|name| names.assign(name)).into();
        assert_eq!(given, ["a-b", "a-b~2", "a-b~3", "A-B~4", "a-b-2"]);
    }

    proptest! {
        #[test]
        fn names_are_safe_and_unique(names: Vec<String>) {
            let mut files = FileNames::default();
            let given: Vec<String> = names.iter().map(|name| files.assign(name)).collect();
            let unique: HashSet<&String> = given.iter().collect();
            prop_assert_eq!(unique.len(), given.len());
            for name in &given {
                prop_assert!(name.len() <= LENGTH_MAX + 21 && !name.starts_with('.'));
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-~".contains(&b)));
            }
        }
    }
}
