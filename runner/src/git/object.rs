//! Objects, as far as it takes to know which commit an annotated tag stands for.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::{pack, repository::Repository};

/// The longest tag object that is read, in bytes.
pub(super) const TAG_MAX: u64 = 64 * 1024;
/// How many tags of tags are followed.
const NESTED_MAX: usize = 8;

/// The name of an object: 40 hexadecimal digits, or 64 in repositories with SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(String);

impl Id {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_id = matches!(text.len(), 40 | 64) && text.bytes().all(digit);
        is_id.then(|| Self(text.to_owned()))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::parse(&crate::hexadecimal::lower(bytes))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let pairs = self.0.as_bytes().chunks_exact(2);
        let digits = pairs.filter_map(|pair| std::str::from_utf8(pair).ok());
        digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
    }
}

/// What a tag object stands for in the end; [`None`] where `id` is no tag object.
pub(super) fn peel(repository: &Repository, id: &Id) -> Option<Id> {
    let mut target = None;
    let mut id = id.clone();
    for _ in 0..NESTED_MAX {
        let Some(text) = loose_tag(repository, &id).or_else(|| pack::tag(repository, &id)) else {
            break;
        };
        let text = String::from_utf8_lossy(&text);
        // git-mktag(1): the first line names the object.
        id = Id::parse(text.lines().next()?.strip_prefix("object ")?)?;
        target = Some(id.clone());
    }
    target
}

/// The content of a tag object that is in a file of its own.
fn loose_tag(repository: &Repository, id: &Id) -> Option<Vec<u8>> {
    let (directory, file) = id.as_str().split_at_checked(2)?;
    let file = repository.common.file(&format!("objects/{directory}/{file}")).ok()?;
    let text = inflated(file, TAG_MAX)?;
    let end = text.iter().position(|byte| *byte == 0)?;
    let (header, content) = text.split_at_checked(end)?;
    header.starts_with(b"tag ").then(|| content.get(1..).unwrap_or_default().to_owned())
}

/// Up to `most` bytes of what a zlib stream holds.
pub(super) fn inflated(compressed: impl Read, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(compressed).take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
