//! Patterns of `${NAME#…}`, `${NAME%…}` and `${NAME/…}`: `*`, `?`, and the escape character.
//!
//! Matching is done over all lengths at once, so its time is bounded by pattern times text.

/// A pattern in parts.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Character(char),
}

/// Which of several lengths is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Shortest,
    Longest,
}

impl Pattern {
    pub(super) fn new(text: &str, escape: char) -> Self {
        let mut parts = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let part = match character {
                '*' => Part::Any,
                '?' => Part::One,
                _ if character == escape => Part::Character(characters.next().unwrap_or(escape)),
                _ => Part::Character(character),
            };
            // Two stars say no more than one.
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        Self(parts)
    }

    /// The length in bytes of what matches at the beginning of `text`.
    fn at_start(&self, text: &str, length: Length) -> Option<usize> {
        // Which beginnings of the pattern match what was read so far.
        let mut reached = vec![false; self.0.len() + 1];
        if let Some(first) = reached.first_mut() {
            *first = true;
        }
        self.skip_stars(&mut reached);
        let whole = |reached: &[bool]| reached.last().copied().unwrap_or_default();
        let mut found = whole(&reached).then_some(0);
        for (at, character) in text.char_indices() {
            if found.is_some() && length == Length::Shortest {
                return found;
            }
            reached = self.step(&reached, character);
            if !reached.contains(&true) {
                return found;
            }
            if whole(&reached) {
                found = Some(at + character.len_utf8());
            }
        }
        found
    }

    fn step(&self, reached: &[bool], character: char) -> Vec<bool> {
        let mut next = vec![false; reached.len()];
        for (at, part) in self.0.iter().enumerate() {
            if !reached.get(at).copied().unwrap_or_default() {
                continue;
            }
            let goes_to = match part {
                Part::Any => at,
                Part::One => at + 1,
                Part::Character(own) if *own == character => at + 1,
                Part::Character(_) => continue,
            };
            if let Some(slot) = next.get_mut(goes_to) {
                *slot = true;
            }
        }
        self.skip_stars(&mut next);
        next
    }

    /// A star also matches nothing.
    fn skip_stars(&self, reached: &mut [bool]) {
        for (at, part) in self.0.iter().enumerate() {
            if *part == Part::Any
                && reached.get(at).copied().unwrap_or_default()
                && let Some(slot) = reached.get_mut(at + 1)
            {
                *slot = true;
            }
        }
    }

    /// The text without what matches at its beginning.
    pub(super) fn without_prefix<'t>(&self, text: &'t str, length: Length) -> &'t str {
        let cut = self.at_start(text, length).unwrap_or(0);
        text.get(cut..).unwrap_or_default()
    }

    /// The text without what matches at its end.
    pub(super) fn without_suffix(&self, text: &str, length: Length) -> String {
        let backwards = Self(self.0.iter().rev().copied().collect());
        let reversed: String = text.chars().rev().collect();
        backwards.without_prefix(&reversed, length).chars().rev().collect()
    }

    /// The text with the first match, or all, replaced.
    pub(super) fn replace(&self, text: &str, with: &str, all: bool) -> String {
        let mut out = String::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            match self.at_start(rest, Length::Longest) {
                Some(length) if length > 0 => {
                    out.push_str(with);
                    at += length;
                    if !all {
                        break;
                    }
                }
                _ => {
                    let character = rest.chars().next().unwrap_or_default();
                    out.push(character);
                    at += character.len_utf8();
                }
            }
        }
        out.push_str(text.get(at..).unwrap_or_default());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cut_and_replace() {
        let pattern = |text: &str| Pattern::new(text, '\\');
        let path = "/usr/local/bin";
        for (text, shortest, longest) in [
            ("*/", "usr/local/bin", "bin"),
            ("/???", "/local/bin", "/local/bin"),
            ("*", "/usr/local/bin", ""),
            ("x", path, path),
            ("\\*", path, path),
            ("", path, path),
        ] {
            assert_eq!(pattern(text).without_prefix(path, Length::Shortest), shortest, "{text}");
            assert_eq!(pattern(text).without_prefix(path, Length::Longest), longest, "{text}");
        }
        for (text, shortest, longest) in
            [("/*", "/usr/local", ""), ("b?n", "/usr/local/", "/usr/local/"), ("x*", path, path)]
        {
            assert_eq!(pattern(text).without_suffix(path, Length::Shortest), shortest, "{text}");
            assert_eq!(pattern(text).without_suffix(path, Length::Longest), longest, "{text}");
        }
        assert_eq!(pattern(".").replace("a.b.c", "-", false), "a-b.c");
        assert_eq!(pattern(".").replace("a.b.c", "-", true), "a-b-c");
        assert_eq!(pattern("b*").replace("a.b.c", "", true), "a.");
        assert_eq!(pattern("ä?").replace("äöä", "x", true), "xä");
    }

    #[test]
    fn many_stars_take_no_longer() {
        let text = "a".repeat(20_000);
        let pattern = Pattern::new(&"*a".repeat(100), '\\');
        assert_eq!(pattern.without_prefix(&format!("{text}b"), Length::Longest), "b");
    }
}
