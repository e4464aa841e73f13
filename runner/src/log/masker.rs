//! Hides secrets in a stream of bytes, whatever the borders of its chunks.
//!
//! A byte is hidden if and only if it belongs to an occurrence of a needle; occurrences that
//! overlap or touch become one `***`. Bytes that may be the beginning of an occurrence are held
//! back until that is decided, so they never come out before the rest is known. Masking works on
//! raw bytes, before lines, characters or escape sequences are looked at: whatever splits the
//! text first gives a secret a border to hide behind.

use std::sync::Arc;

use super::needles::{Needles, Progress};

const MASK: &[u8] = b"***";

/// How a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its writers closed it: what was held back is not a secret and comes out as it is.
    Closed,
    /// It was cut off (a kill, a timeout, a limit): what was held back may be the first part of
    /// a secret whose rest was on its way, so it comes out masked.
    Cut,
}

/// The masking of one stream. Standard output and standard error each have their own.
#[derive(Debug)]
pub(crate) struct Masker {
    needles: Arc<Needles>,
    progress: Progress,
    /// Undecided bytes from the end of the last chunk.
    held: Vec<u8>,
    /// The byte before `held` was hidden, its `***` has come out.
    in_mask: bool,
    /// Occurrences in what is not decided: in order, neither overlapping nor touching.
    hidden: Vec<(usize, usize)>,
}

impl Masker {
    /// A masker at the beginning of its stream.
    pub(crate) fn new(needles: Arc<Needles>) -> Self {
        Self {
            needles,
            progress: Progress::default(),
            held: Vec::new(),
            in_mask: false,
            hidden: Vec::new(),
        }
    }

    /// Takes the next bytes of the stream and appends to `output` what can be decided.
    pub(crate) fn push(&mut self, chunk: &[u8], output: &mut Vec<u8>) {
        if self.needles.is_empty() {
            output.extend_from_slice(chunk);
            return;
        }
        if self.held.is_empty() {
            let decided = self.decide(chunk, 0, output);
            self.held.extend_from_slice(chunk.get(decided..).unwrap_or_default());
        } else {
            let mut text = std::mem::take(&mut self.held);
            let searched = text.len();
            text.extend_from_slice(chunk);
            let decided = self.decide(&text, searched, output);
            text.drain(..decided);
            self.held = text;
            // A held chunk of some hundred KiB must not stay allocated for the rest of the stream.
            self.held.shrink_to(4096);
        }
    }

    /// Ends the stream and appends what was held back, as `ending` demands.
    pub(crate) fn finish(&mut self, ending: Ending, output: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        let prefix = match ending {
            Ending::Closed => 0,
            Ending::Cut => self.needles.depth(&held, self.progress).min(held.len()),
        };
        let boundary = self.emit(&held, held.len() - prefix, output);
        if boundary < held.len() && !self.in_mask {
            output.extend_from_slice(MASK);
        }
        self.hidden.clear();
        self.progress = Progress::default();
        self.in_mask = false;
    }

    /// Searches `text` from `searched` on and appends what is decided; returns its length.
    fn decide(&mut self, text: &[u8], searched: usize, output: &mut Vec<u8>) -> usize {
        let hidden = &mut self.hidden;
        self.needles.search(text, searched, &mut self.progress, |start, end| {
            let mut start = start;
            // A longer needle that ends later may begin before ones that were found earlier.
            while let Some((before, _)) = hidden.pop_if(|(_, before_end)| *before_end >= start) {
                start = start.min(before);
            }
            hidden.push((start, end));
        });
        let boundary = text.len().saturating_sub(self.progress.under_way);
        self.emit(text, boundary, output)
    }

    /// Appends `text` up to `boundary`, and beyond it as far as an occurrence reaches that begins
    /// before; returns how far that is.
    fn emit(&mut self, text: &[u8], mut boundary: usize, output: &mut Vec<u8>) -> usize {
        let mut position = 0;
        let mut decided = 0;
        for (start, end) in self.hidden.iter().copied() {
            if start > boundary {
                break;
            }
            decided += 1;
            if start > position {
                output.extend_from_slice(text.get(position..start).unwrap_or_default());
                self.in_mask = false;
            }
            if !self.in_mask {
                output.extend_from_slice(MASK);
                self.in_mask = true;
            }
            position = end;
            // Hidden bytes stay hidden whatever follows them, so they are decided.
            boundary = boundary.max(end);
        }
        if position < boundary {
            output.extend_from_slice(text.get(position..boundary).unwrap_or_default());
            self.in_mask = false;
        }
        self.hidden.drain(..decided);
        for (start, end) in &mut self.hidden {
            *start -= boundary;
            *end -= boundary;
        }
        boundary
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{
        super::{encodings::forms, secret::Secret},
        *,
    };

    fn needles(secrets: &[&[u8]]) -> Arc<Needles> {
        let secrets: Vec<Secret> =
            secrets.iter().map(|value| Secret::new("SECRET", *value).unwrap()).collect();
        Arc::new(Needles::new(&secrets).unwrap())
    }

    fn mask(secrets: &[&[u8]], chunks: &[&[u8]], ending: Ending) -> Vec<u8> {
        let mut masker = Masker::new(needles(secrets));
        let mut output = Vec::new();
        for chunk in chunks {
            masker.push(chunk, &mut output);
        }
        masker.finish(ending, &mut output);
        output
    }

    #[track_caller]
    fn check(secrets: &[&str], chunks: &[&str], expected: &str) {
        let secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.as_bytes()).collect();
        let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
        let output = mask(&secrets, &chunks, Ending::Closed);
        assert_eq!(String::from_utf8_lossy(&output), expected);
    }

    #[test]
    fn a_secret_is_hidden_across_chunk_borders() {
        check(&["hunter22"], &["pw hunter22 ok"], "pw *** ok");
        check(&["hunter22"], &["pw hun", "ter22 ok"], "pw *** ok");
        check(&["hunter22"], &["h", "u", "n", "t", "e", "r", "2", "2"], "***");
        check(&["hunter22"], &["hunter2", "1 hunter", "22"], "hunter21 ***");
    }

    #[test]
    fn overlapping_and_touching_occurrences_become_one_mask() {
        check(&["abcdef", "defghi"], &["abcdefghi."], "***.");
        check(&["abcd", "abcdefgh"], &["abcd abcdef", "gh abcdefg"], "*** *** ***efg");
        check(&["abcd"], &["abcd", "abcd", "abcdx"], "***x");
        check(&["aaaa"], &["aaaaa", "aaaaaaaaa", "b"], "***b");
        // The longer one fails after the shorter one inside it was already complete.
        check(&["zabcdX", "abcd"], &["zabcd", "Q"], "z***Q");
        check(&["zabcdX", "abcd"], &["zabcd", "X"], "***");
    }

    #[test]
    fn bytes_that_are_looked_at_twice_hide_nothing_between() {
        // In base64 the automaton stops and starts again a few bytes back; what it finds there
        // for the second time must not be joined with what was found since.
        check(
            &["coczub\nmbno\n   AO PU X   S IWHVTJ  V x"],
            &["%20%20%20AO%20PU%20X%20%20%20S%20IWHVTJ%20%20V%20xjb2N6dWIKbWJubwogICBBTyBQVSBYICA"],
            "***K***ogICBBTyBQVSBYICA",
        );
    }

    #[test]
    fn what_cannot_become_a_secret_is_not_held_back() {
        let mut masker = Masker::new(needles(&[b"hunter22"]));
        let mut output = Vec::new();
        masker.push(b"a line\nabc hunt", &mut output);
        assert_eq!(output, b"a line\nabc ");
        masker.push(b"ing\n", &mut output);
        assert_eq!(output, b"a line\nabc hunting\n");
        // A whole secret is decided, although its last bytes could begin the next one.
        masker.push(b"hunter22", &mut output);
        assert_eq!(output, b"a line\nabc hunting\n***");
    }

    #[test]
    fn a_prefix_at_the_end_comes_out_only_where_the_stream_was_closed() {
        let secrets: &[&[u8]] = &[b"hunter22"];
        assert_eq!(mask(secrets, &[b"x hunter2"], Ending::Closed), b"x hunter2");
        assert_eq!(mask(secrets, &[b"x hunter2"], Ending::Cut), b"x ***");
        assert_eq!(mask(secrets, &[b"x hunter22", b"hunt"], Ending::Cut), b"x ***");
        assert_eq!(mask(secrets, &[b"hunter22\nhu"], Ending::Cut), b"***\n***");
        assert_eq!(mask(secrets, &[b"done\n"], Ending::Cut), b"done\n");
    }

    #[test]
    fn without_secrets_everything_passes() {
        assert_eq!(mask(&[], &[b"a", b"\xff\0", b""], Ending::Cut), b"a\xff\0");
    }

    /// The definition of masking, written down without any regard to cost: a byte is hidden if
    /// an occurrence of a form covers it, a run of hidden bytes is one `***`.
    fn model(secrets: &[Vec<u8>], text: &[u8]) -> Vec<u8> {
        let forms: BTreeSet<Vec<u8>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        let mut hidden = vec![false; text.len()];
        for form in &forms {
            for start in 0..text.len() {
                if text[start..].starts_with(form) {
                    hidden[start..start + form.len()].fill(true);
                }
            }
        }
        let mut output = Vec::new();
        for (index, byte) in text.iter().enumerate() {
            if !hidden[index] {
                output.push(*byte);
            } else if index == 0 || !hidden[index - 1] {
                output.extend(MASK);
            }
        }
        output
    }

    fn secret() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[ab]{4,9}".prop_map(String::into_bytes),
            "[a-zA-Z0-9/+=?'\"$ \\\\ü]{6,40}".prop_map(String::into_bytes),
            "[a-z]{5,9}\n[a-z]{1,5}\n[A-Z ]{4,80}x".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 8..200),
        ]
        .prop_filter("a mask itself is no secret, and line ends are trimmed", |value| {
            !value.contains(&b'*') && !value.ends_with(b"\n") && !value.ends_with(b"\r")
        })
    }

    /// Text made of noise, secrets, and pieces of secrets, in any of their forms.
    fn text(secrets: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let forms: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            "[ab\n]{0,12}".prop_map(String::into_bytes),
            prop::sample::select(forms.clone()),
            (prop::sample::select(forms), any::<prop::sample::Index>())
                .prop_map(|(form, index)| form[..index.index(form.len())].to_vec()),
        ];
        prop::collection::vec(piece, 0..12)
            .prop_map(|pieces| pieces.concat().into_iter().filter(|byte| *byte != b'*').collect())
    }

    fn case() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<u8>, Vec<prop::sample::Index>)> {
        prop::collection::vec(secret(), 1..4).prop_flat_map(|secrets| {
            let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..12);
            (Just(secrets.clone()), text(secrets), cuts)
        })
    }

    proptest! {
        // The model is slow, and each case has many forms.
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 2))]
        /// No form of a secret survives and no other byte changes, however the stream is cut.
        #[test]
        fn masking_is_exact_for_all_chunkings((secrets, text, cuts) in case()) {
            let mut cuts: Vec<usize> =
                cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> =
                cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let values: Vec<&[u8]> = secrets.iter().map(Vec::as_slice).collect();

            let output = mask(&values, &chunks, Ending::Closed);
            prop_assert_eq!(&output, &model(&secrets, &text));
            for form in secrets.iter().flat_map(|secret| forms(secret)) {
                prop_assert!(!output.windows(form.len()).any(|window| window == form));
            }

            // A stream that was cut shows nothing more, and nothing that is not in the text.
            let cut = mask(&values, &chunks, Ending::Cut);
            let shown = cut.strip_suffix(MASK).unwrap_or(&cut);
            prop_assert!(output.starts_with(shown));
        }
    }
}
