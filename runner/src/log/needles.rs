//! All byte sequences that must not come out of a job, compiled for searching.
//!
//! Two parts work together. A table of shifts over three-byte blocks (Wu and Manber, "A fast
//! algorithm for multi-pattern searching", 1994) leaps over text in which no needle can begin;
//! from the first place where one does, an Aho-Corasick automaton looks at every byte, until no
//! needle is under way any more. The table makes ordinary output cheap; the automaton keeps the
//! cost linear however hostile the output is.

use std::fmt;

use aho_corasick::{
    Anchored, MatchKind,
    automaton::{Automaton as _, StateID},
    nfa::contiguous::NFA,
};

use super::{
    encodings::forms,
    masker::{Ending, Masker},
    secret::{SECRET_MAX, Secret},
};

/// Together the secrets of one job may have this many bytes: what the automaton takes in memory
/// is some 30 times as much.
const TOTAL_MAX: usize = 2 * SECRET_MAX;

const BLOCK: usize = 3;
const TABLE_BITS: u32 = 15;
/// Blocks that may stand in the table: an eighth of its slots.
const TABLE_FILL: usize = 1 << (TABLE_BITS - 3);
/// The longest window in which the table looks for the beginning of a needle: shifts fit a byte.
const WINDOW_MAX: usize = 64;
/// The first bytes by which a place that the table could not exclude is looked at closely.
const CLOSE: usize = 8;
/// How often the automaton is asked whether it could stop, in bytes.
const STRIDE: usize = 64;
/// It stops where fewer bytes than this are under way; they are looked at again.
const SHALLOW: usize = 16;

/// How far back a chunk's end is searched for the exact beginning of a needle; the bound that is
/// known anyway does beyond that, so that a job that writes byte by byte cannot make the search
/// expensive.
const DEPTH_MAX: usize = 1024;

/// Why the secrets of a job cannot be masked together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NeedlesError {
    /// The automaton would be too large.
    #[error(
        "the secrets of one job have {length} bytes together, more than the {TOTAL_MAX} that can \
         be masked; pass fewer or shorter secrets to this job"
    )]
    TooMany {
        /// Bytes in all values.
        length: usize,
    },
    /// The automaton could not be built.
    #[error("failed to prepare the masking of secrets")]
    Automaton(#[from] aho_corasick::BuildError),
    /// The automaton lacks one of the two kinds of search.
    #[error("failed to prepare the masking of secrets")]
    Search(#[from] aho_corasick::MatchError),
}

/// What to hide, ready for searching. One per job, shared by the maskers of its streams.
pub(crate) struct Needles {
    search: Option<Search>,
}

struct Search {
    automaton: NFA,
    start: StateID,
    start_anchored: StateID,
    shifts: Vec<u8>,
    window: usize,
}

impl Needles {
    /// Nothing to hide: the masker passes everything through.
    pub(crate) fn none() -> Self {
        Self { search: None }
    }

    /// Compiles every form of every secret.
    pub(crate) fn new<'a>(
        secrets: impl IntoIterator<Item = &'a Secret>,
    ) -> Result<Self, NeedlesError> {
        let mut patterns = std::collections::BTreeSet::new();
        let mut length = 0;
        for secret in secrets {
            length += secret.core().len();
            if length > TOTAL_MAX {
                return Err(NeedlesError::TooMany { length });
            }
            patterns.extend(forms(secret.core()));
        }
        if patterns.is_empty() {
            return Ok(Self::none());
        }
        let automaton = NFA::builder()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .build(patterns.iter())?;
        let start = automaton.start_state(Anchored::No)?;
        let start_anchored = automaton.start_state(Anchored::Yes)?;
        // A longer window leaps further and fills the table more.
        let window = (BLOCK + 1 + TABLE_FILL / patterns.len()).min(WINDOW_MAX);
        let window = automaton.min_pattern_len().min(window);
        let shifts = shift_table(patterns.iter().map(Vec::as_slice), window);
        Ok(Self { search: Some(Search { automaton, start, start_anchored, shifts, window }) })
    }

    /// Whether there is nothing to hide.
    pub(crate) fn is_empty(&self) -> bool {
        self.search.is_none()
    }

    /// Hides the secrets in a text that is whole: a name, a reason, a test's message.
    pub(crate) fn mask_text(self: &std::sync::Arc<Self>, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let mut masked = Vec::with_capacity(text.len());
        let mut masker = Masker::new(std::sync::Arc::clone(self));
        masker.push(text.as_bytes(), &mut masked);
        masker.finish(Ending::Closed, &mut masked);
        String::from_utf8_lossy(&masked).into_owned()
    }
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Needles").finish_non_exhaustive()
    }
}

/// How far a search has come between two chunks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    state: Option<StateID>,
    /// Bytes since no needle was under way: an upper bound of how many bytes at the end may be
    /// the beginning of a needle.
    pub(super) under_way: usize,
}

impl Needles {
    /// Searches `text` from `from` on and calls `found(start, end)` for each occurrence, in the
    /// order of their ends; `start` saturates at 0 when it lies before `text`.
    pub(super) fn search(
        &self,
        text: &[u8],
        from: usize,
        progress: &mut Progress,
        mut found: impl FnMut(usize, usize),
    ) {
        let Some(search) = &self.search else { return };
        let mut position = from;
        let mut state = progress.state.unwrap_or(search.start);
        let mut since = progress.under_way;
        // Some bytes are looked at twice; what ends in them has been told.
        let mut told = position;
        if since == 0 {
            position = search.leap(text, position);
        }
        while let Some(byte) = text.get(position) {
            state = search.automaton.next_state(Anchored::No, state, *byte);
            position += 1;
            since += 1;
            if search.automaton.is_start(state) {
                since = 0;
                position = search.leap(text, position);
                continue;
            }
            let first_look = position > told;
            told = told.max(position);
            if first_look && search.automaton.is_match(state) {
                let longest = (0..search.automaton.match_len(state))
                    .map(|index| search.automaton.match_pattern(state, index))
                    .map(|pattern| search.automaton.pattern_len(pattern))
                    .max()
                    .unwrap_or_default();
                found(position.saturating_sub(longest), position);
            }
            // In text where nearly every byte could begin a needle, such as base64, the automaton
            // is never back at its start although nothing that matters is under way.
            if since.is_multiple_of(STRIDE) {
                let seen = text.get(..position).unwrap_or_default();
                let depth = search.depth(seen, state, since.min(SHALLOW));
                if depth < SHALLOW {
                    (state, since) = (search.start, 0);
                    position = search.leap(text, position - depth);
                }
            }
        }
        progress.under_way =
            if since > DEPTH_MAX { since } else { search.depth(text, state, since) };
        // No needle is longer, so what lies further back cannot be the beginning of one.
        progress.under_way =
            progress.under_way.min(search.automaton.max_pattern_len().saturating_sub(1));
        progress.state = Some(state);
    }

    /// How many bytes at the end of `text` are the beginning of a needle, after a search of it.
    pub(super) fn depth(&self, text: &[u8], progress: Progress) -> usize {
        match (&self.search, progress.state) {
            (Some(search), Some(state)) => search.depth(text, state, progress.under_way),
            _ => 0,
        }
    }
}

impl Search {
    /// The depth of `state` in the automaton: the length of the longest end of `text` that is the
    /// beginning of a needle; `bound` where that is not less.
    ///
    /// The automaton does not tell depths, but it is in the same state after every end of the
    /// text that is at least so long, and in another after every shorter one.
    fn depth(&self, text: &[u8], state: StateID, bound: usize) -> usize {
        let same = |length: usize| {
            let tail = text.len().checked_sub(length).and_then(|start| text.get(start..));
            tail.is_some_and(|tail| {
                let step = |state, byte: &u8| self.automaton.next_state(Anchored::No, state, *byte);
                tail.iter().fold(self.start, step) == state
            })
        };
        let (mut shorter, mut enough) = (0, 0);
        while !same(enough) {
            if enough >= bound {
                return bound;
            }
            (shorter, enough) = (enough, (enough * 2).clamp(1, bound));
        }
        while shorter + 1 < enough {
            let middle = shorter.midpoint(enough);
            if same(middle) {
                enough = middle;
            } else {
                shorter = middle;
            }
        }
        enough
    }

    /// The first place at or after `position` where a needle may begin: one where its first bytes
    /// stand, or one of the last, whose window reaches beyond the text.
    fn leap(&self, text: &[u8], position: usize) -> usize {
        let furthest = self.window - BLOCK + 1;
        let mut end = position + self.window;
        while let Some(block) = text.get(end - BLOCK..end).and_then(<[u8]>::first_chunk) {
            let shift = usize::from(self.shifts.get(slot(*block)).copied().unwrap_or_default());
            // The usual case adds a constant, so that the processor, having guessed it, need not
            // wait for the table before it reads on: that doubles the speed.
            if shift == furthest {
                end += furthest;
            } else if shift > 0 {
                end += shift;
            } else if self.begins(text, end - self.window) {
                break;
            } else {
                end += 1;
            }
        }
        end - self.window
    }

    /// Whether the [`CLOSE`] bytes at `position` begin a needle.
    fn begins(&self, text: &[u8], position: usize) -> bool {
        let close = text.get(position..position + self.window.min(CLOSE)).unwrap_or_default();
        let mut state = self.start_anchored;
        close.iter().all(|byte| {
            state = self.automaton.next_state(Anchored::Yes, state, *byte);
            !self.automaton.is_dead(state)
        })
    }
}

fn slot([first, second, third]: [u8; BLOCK]) -> usize {
    let block = u32::from_le_bytes([first, second, third, 0]);
    // Fibonacci hashing: the high bits of a product with 2^32 divided by the golden ratio.
    let hash = block.wrapping_mul(0x9E37_79B9) >> (32 - TABLE_BITS);
    usize::try_from(hash).unwrap_or_default()
}

/// For each block the least distance from it to the end of a window that begins a needle.
fn shift_table<'a>(patterns: impl Iterator<Item = &'a [u8]>, window: usize) -> Vec<u8> {
    let distance = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
    let mut shifts = vec![distance(window - BLOCK + 1); 1 << TABLE_BITS];
    for pattern in patterns {
        let Some(prefix) = pattern.get(..window) else { continue };
        for (offset, block) in prefix.windows(BLOCK).enumerate() {
            let Some(block) = block.first_chunk() else { continue };
            if let Some(shift) = shifts.get_mut(slot(*block)) {
                *shift = (*shift).min(distance(window - BLOCK - offset));
            }
        }
    }
    shifts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_secrets_are_refused() {
        let secrets: Vec<Secret> = (0..3)
            .map(|number| Secret::new(format!("S{number}"), vec![b'x'; 30_000]).unwrap())
            .collect();
        assert_eq!(
            Needles::new(&secrets).unwrap_err().to_string(),
            "the secrets of one job have 90000 bytes together, more than the 65536 that can be \
             masked; pass fewer or shorter secrets to this job"
        );
    }

    #[test]
    fn texts_are_masked_whole() {
        let secret = Secret::new("S", "tok-ü-en").unwrap();
        let needles = std::sync::Arc::new(Needles::new([&secret]).unwrap());
        assert_eq!(needles.mask_text("a tok-ü-en b tok"), "a *** b tok");
        assert_eq!(std::sync::Arc::new(Needles::none()).mask_text("a tok"), "a tok");
    }
}
