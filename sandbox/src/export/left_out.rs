//! What was selected and did not come out: told, because a file that goes missing in silence is looked
//! for elsewhere.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// So many are named, the first by name; the others are counted.
const NAMED: usize = 4;

/// What was selected and did not come out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    count: usize,
    named: BTreeMap<PathBuf, Reason>,
}

/// Why something does not come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is a pipe, a socket or a device, or on another mount.
    NoFile,
    /// It is a link to what is outside of what comes out.
    LeadsOut,
    /// Its name is not UTF-8.
    Name,
    /// It is a directory below too many others.
    Depth,
}

impl LeftOut {
    pub(super) fn add(&mut self, path: PathBuf, reason: Reason) {
        self.count = self.count.saturating_add(1);
        self.named.insert(path, reason);
        while self.named.len() > NAMED {
            self.named.pop_last();
        }
    }

    /// Takes in what else was left out.
    pub fn merge(&mut self, other: Self) {
        let count = self.count.saturating_add(other.count);
        for (path, reason) in other.named {
            self.add(path, reason);
        }
        self.count = count;
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

/// The first of them with their reasons, and how many more there are. The names are the job's own, with
/// what is no text in them escaped.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (path, reason)) in self.named.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            let path = path.as_os_str().as_encoded_bytes().utf8_chunks();
            write!(f, "{comma}`")?;
            for chunk in path {
                write!(f, "{}{}", chunk.valid().escape_debug(), chunk.invalid().escape_ascii())?;
            }
            write!(f, "` {reason}")?;
        }
        match self.count - self.named.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFile => "is no file",
            Self::LeadsOut => "leads out",
            Self::Name => "has a name that is not UTF-8",
            Self::Depth => "is too deep",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_named_and_all_are_counted() {
        let mut all = LeftOut::default();
        for number in (0..6).rev() {
            all.add(PathBuf::from(number.to_string()), Reason::NoFile);
        }
        let mut merged = LeftOut::default();
        merged.add(PathBuf::from("\u{1b}[31m"), Reason::LeadsOut);
        merged.merge(all);
        assert_eq!(merged.count(), 7);
        let named =
            r"`\u{1b}[31m` leads out, `0` is no file, `1` is no file, `2` is no file and 3 more";
        assert_eq!(merged.to_string(), named);
    }
}
