//! The last bytes of a step's output, once the log limit is reached.
//!
//! The end of a log says why a step failed, so it is worth keeping when the middle is not. The
//! tail is a ring in memory: it costs the same whether a step writes 1 MiB too much or 1 TiB.

use std::collections::VecDeque;

use super::index::{Run, Stream};

/// Bytes of the end that are kept of a step that wrote more than the limit.
pub(crate) const TAIL_BYTES: usize = 256 * 1024;

/// Runs that are kept with them; a step that changes streams with each byte keeps fewer bytes.
const TAIL_RUNS: usize = 4096;

/// The ring.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    runs: VecDeque<Run>,
    dropped: u64,
}

impl Tail {
    /// Adds output and forgets as much at the front as does not fit any more.
    pub(super) fn push(&mut self, stream: Stream, at: u64, output: &[u8]) {
        let skipped = output.len().saturating_sub(TAIL_BYTES);
        let kept = output.get(skipped..).unwrap_or_default();
        if kept.is_empty() {
            return;
        }
        self.forget((self.bytes.len() + kept.len()).saturating_sub(TAIL_BYTES));
        self.dropped += size(skipped);
        self.bytes.extend(kept);
        match self.runs.back_mut() {
            Some(run) if run.stream == stream && run.at == at => run.length += size(kept.len()),
            _ => {
                if self.runs.len() == TAIL_RUNS {
                    let first = self.runs.front().map_or(0, |run| run.length);
                    self.forget(usize::try_from(first).unwrap_or(usize::MAX));
                }
                self.runs.push_back(Run { stream, at, length: size(kept.len()), broken: false });
            }
        }
    }

    /// Ends the ring: how many bytes were dropped, and the rest from the beginning of a line on.
    pub(super) fn finish(mut self) -> (u64, Vec<(Stream, u64, Vec<u8>)>) {
        if self.dropped > 0 {
            let line_end = self.bytes.iter().position(|byte| *byte == b'\n');
            self.forget(line_end.map_or(0, |end| end + 1));
        }
        let mut runs = Vec::with_capacity(self.runs.len());
        for run in std::mem::take(&mut self.runs) {
            let length = usize::try_from(run.length).unwrap_or(usize::MAX);
            let bytes = self.bytes.drain(..length.min(self.bytes.len())).collect();
            runs.push((run.stream, run.at, bytes));
        }
        (self.dropped, runs)
    }

    fn forget(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count);
        self.dropped += size(count);
        let mut left = size(count);
        while let Some(run) = self.runs.front_mut() {
            if run.length > left {
                run.length -= left;
                break;
            }
            left -= run.length;
            self.runs.pop_front();
        }
    }
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Runs = Vec<(Stream, u64, Vec<u8>)>;

    fn joined(runs: &Runs) -> Vec<u8> {
        runs.iter().flat_map(|(_, _, bytes)| bytes.clone()).collect()
    }

    #[test]
    fn what_fits_is_kept_whole() {
        let mut tail = Tail::default();
        tail.push(Stream::Stdout, 1, b"one\n");
        tail.push(Stream::Stdout, 1, b"two\n");
        tail.push(Stream::Stderr, 1, b"three");
        let (dropped, runs) = tail.finish();
        assert_eq!(dropped, 0);
        assert_eq!(
            runs,
            [(Stream::Stdout, 1, b"one\ntwo\n".to_vec()), (Stream::Stderr, 1, b"three".to_vec())]
        );
    }

    #[test]
    fn the_end_is_kept_from_the_beginning_of_a_line() {
        let mut tail = Tail::default();
        let mut all = Vec::new();
        for number in 0..200_000_u64 {
            let line = format!("line {number}\n").into_bytes();
            tail.push(Stream::Stdout, number / 100, &line);
            all.extend(line);
        }
        let (dropped, runs) = tail.finish();
        let kept = joined(&runs);
        assert!(kept.len() <= TAIL_BYTES && kept.len() > TAIL_BYTES - 20);
        assert!(all.ends_with(&kept) && kept.starts_with(b"line "));
        assert_eq!(dropped, size(all.len() - kept.len()));
    }

    #[test]
    fn one_large_chunk_and_many_small_ones_are_bounded() {
        let mut tail = Tail::default();
        tail.push(Stream::Stdout, 0, &vec![b'x'; 3 * TAIL_BYTES]);
        let (dropped, runs) = tail.finish();
        assert_eq!((dropped, joined(&runs).len()), (size(2 * TAIL_BYTES), TAIL_BYTES));

        let mut tail = Tail::default();
        for number in 0..20_000 {
            let stream = if number % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
            tail.push(stream, number, b"x");
        }
        let (dropped, runs) = tail.finish();
        assert_eq!(runs.len(), TAIL_RUNS);
        assert_eq!(dropped, 20_000 - size(TAIL_RUNS));
    }
}
