//! The path of an archive entry, made safe: relative, normal components only, bounded.
//!
//! A leading `/` is taken as the layer's root, as every image tool does; `..` is refused and not
//! folded, because no honest archive has it.

use crate::image::{limits::ImportLimits, problem::Problem};

/// A path below the root of a layer; empty for the root itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Makes the name of an entry safe, or says why it cannot be.
    pub(crate) fn parse(name: &[u8], limits: &ImportLimits) -> Result<Self, Problem> {
        let refused = |why: &str| Err(Problem::refused(name, why));
        if name.is_empty() {
            return refused("it has no name");
        }
        if name.len() >= limits.path {
            return refused(&format!("its name has {} bytes or more", limits.path));
        }
        if name.contains(&0) {
            return refused("its name holds a NUL byte");
        }
        let mut path = Vec::with_capacity(name.len());
        let mut depth = 0;
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return refused("its name leaves the archive by `..`"),
                _ => {}
            }
            if component.len() > limits.name {
                return refused(&format!("a file name has more than {} bytes", limits.name));
            }
            depth += 1;
            if depth > limits.depth {
                return refused(&format!("it lies more than {} directories deep", limits.depth));
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        Ok(Self(path))
    }

    /// The bytes, without a slash at either end.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root of the layer.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that holds this entry, and its name there; `None` for the root.
    pub(crate) fn split(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => {
                let (parent, name) = self.0.split_at(slash);
                (Self(parent.to_vec()), name.get(1..).unwrap_or_default())
            }
            None => (Self(Vec::new()), self.0.as_slice()),
        })
    }

    /// The components from the root down.
    pub(crate) fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// This path with one more component, which must be a normal one.
    pub(crate) fn join(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_safe_or_are_refused() {
        for (name, expected) in [
            (&b"etc/passwd"[..], Some(&b"etc/passwd"[..])),
            (b"./etc//passwd/", Some(b"etc/passwd")),
            (b"/etc/passwd", Some(b"etc/passwd")),
            (b"./", Some(b"")),
            (b"/", Some(b"")),
            (b"a/./b", Some(b"a/b")),
            (b"...", Some(b"...")),
            (b"", None),
            (b"..", None),
            (b"../x", None),
            (b"a/../../x", None),
            (b"a/..", None),
            (b"a\0b", None),
        ] {
            let path = EntryPath::parse(name, &ImportLimits::default()).ok();
            assert_eq!(path.as_ref().map(EntryPath::as_bytes), expected, "{name:?}");
        }
        let limits = ImportLimits::default();
        assert!(EntryPath::parse(&[b'a'; 255], &limits).is_ok());
        assert!(EntryPath::parse(&[b'a'; 256], &limits).is_err());
        assert!(EntryPath::parse(&b"a/".repeat(256), &limits).is_ok());
        assert!(EntryPath::parse(&b"a/".repeat(257), &limits).is_err());
        assert!(EntryPath::parse(&b"a/".repeat(2048), &limits).is_err());
    }
}
