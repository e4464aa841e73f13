//! Wildcards in paths, as Go's `filepath.Match` and Docker's ignore files have them.
//!
//! `*` and `?` stay within a directory, `[a-z]` is one of several characters, `\` takes the meaning
//! from the next one, and `**` crosses directories where it is asked for. A path is read once, with
//! all states of the pattern that it may be in, so the time is bounded by path times pattern.

/// A pattern for paths relative to some root, without a slash at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Character(char),
    /// `?`
    One,
    /// `*`
    Star,
    /// `**/`: either nothing, or what follows: [`Part::Directories`].
    Perhaps,
    /// Anything up to a slash, at least that.
    Directories,
    /// `**` at the end.
    Everything,
    /// `[…]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Whether `**` crosses directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubleStar {
    /// It does, as in ignore files.
    Crosses,
    /// It is the same as `*`.
    Star,
}

impl Glob {
    /// Reads a pattern; [`None`] when a bracket is not closed, a range is the wrong way round, or
    /// it ends with a backslash.
    pub fn new(pattern: &str, double_star: DoubleStar) -> Option<Self> {
        let mut parts = Vec::new();
        let mut characters = pattern.chars().peekable();
        while let Some(character) = characters.next() {
            let part = match character {
                '*' => {
                    let mut twice = false;
                    while characters.next_if_eq(&'*').is_some() {
                        twice = true;
                    }
                    match (twice && double_star == DoubleStar::Crosses, characters.peek()) {
                        (false, _) => Part::Star,
                        (true, None) => Part::Everything,
                        (true, Some(_)) => {
                            characters.next_if_eq(&'/');
                            if parts.last() == Some(&Part::Directories) {
                                continue;
                            }
                            parts.push(Part::Perhaps);
                            Part::Directories
                        }
                    }
                }
                '?' => Part::One,
                '[' => class(&mut characters)?,
                '\\' => Part::Character(characters.next()?),
                other => Part::Character(other),
            };
            // Repeated, they say no more than once.
            let repeats = matches!(part, Part::Star | Part::Everything);
            if !repeats || parts.last() != Some(&part) {
                parts.push(part);
            }
        }
        Some(Self { parts })
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &str) -> bool {
        self.run(path, false)
    }

    /// Whether the path matches, or a directory that it is in.
    pub fn matches_or_parent(&self, path: &str) -> bool {
        self.run(path, true)
    }

    /// The beginning of the pattern that has no wildcards.
    pub(super) fn literal_beginning(&self) -> String {
        let literal = self.parts.iter().map_while(|part| match part {
            Part::Character(character) => Some(*character),
            _ => None,
        });
        literal.collect()
    }

    fn run(&self, path: &str, or_parent: bool) -> bool {
        let end = self.parts.len();
        let mut states = vec![0];
        self.without_reading(&mut states);
        for character in path.chars() {
            if character == '/' && or_parent && states.contains(&end) {
                return true;
            }
            let mut next = Vec::with_capacity(states.len() + 1);
            for state in states {
                let Some(part) = self.parts.get(state) else { continue };
                let (stays, goes) = part.reads(character);
                if stays {
                    next.push(state);
                }
                if goes {
                    next.push(state + 1);
                }
            }
            self.without_reading(&mut next);
            states = next;
            if states.is_empty() {
                return false;
            }
        }
        states.contains(&end)
    }

    /// Adds the states that are reached where a part matches nothing; sorted, each once.
    fn without_reading(&self, states: &mut Vec<usize>) {
        let mut at = 0;
        while let Some(state) = states.get(at).copied() {
            let further: &[usize] = match self.parts.get(state) {
                Some(Part::Star | Part::Everything) => &[1],
                Some(Part::Perhaps) => &[1, 2],
                _ => &[],
            };
            for step in further {
                if !states.contains(&(state + step)) {
                    states.push(state + step);
                }
            }
            at += 1;
        }
        states.sort_unstable();
        states.dedup();
    }
}

impl Part {
    /// Whether it goes on with this character, and whether it can end with it.
    fn reads(&self, character: char) -> (bool, bool) {
        match self {
            Self::Character(own) => (false, *own == character),
            Self::One => (false, character != '/'),
            Self::Star => (character != '/', false),
            Self::Perhaps => (false, false),
            Self::Directories => (true, character == '/'),
            Self::Everything => (true, false),
            Self::Class { negated, ranges } => {
                let within = ranges.iter().any(|(a, z)| (*a..=*z).contains(&character));
                (false, character != '/' && within != *negated)
            }
        }
    }
}

fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Part> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match characters.next()? {
            ']' if !ranges.is_empty() => return Some(Part::Class { negated, ranges }),
            ']' | '-' => return None,
            '\\' => characters.next()?,
            other => other,
        };
        let mut last = first;
        if characters.next_if_eq(&'-').is_some() {
            last = match characters.next()? {
                ']' | '-' => return None,
                '\\' => characters.next()?,
                other => other,
            };
        }
        if last < first {
            return None;
        }
        ranges.push((first, last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match() {
        for (pattern, path, whole, or_parent) in [
            ("a", "a", true, true),
            ("a", "a/b", false, true),
            ("a", "ab", false, false),
            ("*", "a", true, true),
            ("*", "a/b", false, true),
            ("*.md", "a.md", true, true),
            ("*.md", "a/b.md", false, false),
            ("*/b*", "a/bc", true, true),
            ("*/b*", "a/bc/d", false, true),
            ("a/*/c", "a/b/c", true, true),
            ("a?c", "abc", true, true),
            ("a?c", "a/c", false, false),
            ("**", "a/b/c", true, true),
            ("**/c", "c", true, true),
            ("**/c", "a/b/c", true, true),
            ("**/c", "a/bc", false, false),
            ("a/**", "a/b/c", true, true),
            ("a/**/c", "a/c", true, true),
            ("a/**/c", "a/b/b/c", true, true),
            ("**/*.go", "a/b.go", true, true),
            ("[a-c]x", "bx", true, true),
            ("[^a-c]x", "bx", false, false),
            ("[^a-c]x", "/x", false, false),
            ("[\\]]", "]", true, true),
            ("a\\*", "a*", true, true),
            ("a\\*", "ab", false, false),
            ("ä?", "äö", true, true),
            ("a.b", "axb", false, false),
            ("a+(b|c)$", "a+(b|c)$", true, true),
        ] {
            let glob = Glob::new(pattern, DoubleStar::Crosses).unwrap();
            assert_eq!(glob.matches(path), whole, "{pattern} {path}");
            assert_eq!(glob.matches_or_parent(path), or_parent, "{pattern} {path}");
        }
        assert!(!Glob::new("**/c", DoubleStar::Star).unwrap().matches("a/b/c"));
        for pattern in ["[", "[]", "[a", "[a-", "[b-a]", "[]a]", "[-]", "a\\"] {
            assert_eq!(Glob::new(pattern, DoubleStar::Crosses), None, "{pattern}");
        }
    }

    #[test]
    fn many_wildcards_take_no_longer() {
        let path = "a/".repeat(2_000);
        let glob = Glob::new(&"*a*/**/".repeat(50), DoubleStar::Crosses).unwrap();
        assert!(!glob.matches(&format!("{path}b")));
    }
}
