//! Reads a kept log back as lines with their stream and time.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    index::{IndexReader, Run, Stream, time},
    recorder::{LogError, index_path},
    terminal::Sanitizer,
};

/// The longest piece of a line that is read at once.
const PIECE_MAX: usize = 64 * 1024;

/// A line of a log, or a piece of one. The pieces of one stream, each followed by a line feed
/// where `ended` says so, are exactly what the stream wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it came from.
    pub(crate) stream: Stream,
    /// When its first bytes were read.
    pub(crate) at: SystemTime,
    /// The bytes without the line feed.
    pub(crate) text: Vec<u8>,
    /// The stream ended the line here; otherwise another stream came in between, the line is
    /// longer than 64 KiB, or the log ends.
    pub(crate) ended: bool,
}

/// Reads a log beside its index.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    log: BufReader<File>,
    index: IndexReader<BufReader<File>>,
    run: Option<Run>,
}

impl LogReader {
    /// Opens the log at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        let fail = |source| LogError::new("open", path, source);
        let log = BufReader::new(File::open(path).map_err(fail)?);
        let index = BufReader::new(File::open(index_path(path)).map_err(fail)?);
        let index = IndexReader::new(index)
            .map_err(|source| LogError::new("read the index of", path, source))?;
        Ok(Self { path: path.to_owned(), log, index, run: None })
    }

    /// The next line; nothing at the end.
    pub(crate) fn next_line(&mut self) -> Result<Option<Line>, LogError> {
        self.read_line().map_err(|source| LogError::new("read", &self.path, source))
    }

    fn read_line(&mut self) -> io::Result<Option<Line>> {
        let mut line: Option<Line> = None;
        loop {
            let run = match self.run.take() {
                Some(run) => run,
                None => self.index.read()?.unwrap_or_else(|| Run {
                    stream: Stream::Stdout,
                    at: self.index.last(),
                    length: u64::MAX,
                    broken: false,
                }),
            };
            if line.as_ref().is_some_and(|line| line.stream != run.stream) {
                self.run = Some(run);
                return Ok(line);
            }
            let piece = line.get_or_insert_with(|| Line {
                stream: run.stream,
                at: time(run.at),
                text: Vec::new(),
                ended: false,
            });
            let room = PIECE_MAX.saturating_sub(piece.text.len());
            let limit = run.length.min(u64::try_from(room).unwrap_or(u64::MAX));
            let read = (&mut self.log).take(limit).read_until(b'\n', &mut piece.text)?;
            let left = run.length - u64::try_from(read).unwrap_or(run.length);
            let ended = piece.text.last() == Some(&b'\n');
            if read == 0 && limit > 0 {
                return Ok(line.filter(|line| !line.text.is_empty()));
            }
            if ended {
                piece.text.pop();
                piece.ended = true;
            }
            if left > 0 {
                self.run = Some(Run { length: left, ..run });
            } else if run.broken {
                self.log.read_exact(&mut [0])?;
                return Ok(line);
            }
            if ended || piece.text.len() >= PIECE_MAX {
                return Ok(line);
            }
        }
    }
}

/// The last `count` lines of the log at `path`, cleaned for showing and without colour; at most
/// the last 16 KiB are looked at.
pub(crate) fn last_lines(path: &Path, count: usize) -> Result<Vec<String>, LogError> {
    let read = || {
        let mut log = File::open(path)?;
        let length = log.metadata()?.len();
        let start = length.saturating_sub(16 * 1024);
        log.seek(SeekFrom::Start(start))?;
        let mut end = Vec::new();
        log.take(16 * 1024).read_to_end(&mut end)?;
        if start > 0 {
            let line_end = end.iter().position(|byte| *byte == b'\n');
            end.drain(..line_end.map_or(0, |position| position + 1));
        }
        Ok(end)
    };
    let end = read().map_err(|source| LogError::new("read the end of", path, source))?;
    let mut lines = Vec::new();
    let mut sanitizer = Sanitizer::new(false);
    sanitizer.push(&end, |line| lines.push(line.to_owned()));
    sanitizer.flush(|line| lines.push(line.to_owned()));
    lines.retain(|line| !line.trim().is_empty());
    Ok(lines.split_off(lines.len().saturating_sub(count)))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use proptest::prelude::*;

    use super::{
        super::{
            recorder::{Kept, LogBudget, Recorder},
            tail::TAIL_BYTES,
        },
        *,
    };

    type Chunk<'a> = (Stream, u64, &'a [u8]);

    fn record(directory: &Path, budget: &Arc<LogBudget>, chunks: &[Chunk<'_>]) -> Kept {
        let path = directory.join("step.log");
        let mut recorder = Recorder::create(&path, Arc::clone(budget), time(1000)).unwrap();
        for (stream, at, output) in chunks {
            recorder.write(*stream, time(*at), output).unwrap();
        }
        recorder.finish(time(9000)).unwrap()
    }

    fn read(path: &Path) -> Vec<Line> {
        let mut reader = LogReader::open(path).unwrap();
        std::iter::from_fn(|| reader.next_line().unwrap()).collect()
    }

    /// The lines as `stream time text`, with `\` where the stream did not end the line.
    fn check(chunks: &[Chunk<'_>], log: &str, lines: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        let kept = record(directory.path(), &LogBudget::new(1 << 20), chunks);
        assert_eq!(kept.dropped, 0);
        assert_eq!(std::fs::read_to_string(&kept.path).unwrap(), log);
        let read: Vec<String> = read(&kept.path)
            .into_iter()
            .map(|line| {
                let at = line.at.duration_since(time(0)).unwrap().as_millis();
                let end = if line.ended { "" } else { "\\" };
                format!("{:?} {at} {}{end}", line.stream, String::from_utf8_lossy(&line.text))
            })
            .collect();
        assert_eq!(read, lines);
    }

    #[test]
    fn lines_keep_their_stream_and_the_time_of_their_beginning() {
        use Stream::{Stderr, Stdout};
        check(&[], "", &[]);
        check(
            &[(Stdout, 1000, b"one\ntwo\nth"), (Stdout, 1500, b"ree\n"), (Stderr, 1600, b"four")],
            "one\ntwo\nthree\nfour",
            &["Stdout 1000 one", "Stdout 1000 two", "Stdout 1000 three", "Stderr 1600 four\\"],
        );
        // A clock that is set back does not tear the order.
        check(
            &[(Stdout, 2000, b"a\n"), (Stdout, 1500, b"b\n"), (Stderr, 1200, b"c\n")],
            "a\nb\nc\n",
            &["Stdout 2000 a", "Stdout 2000 b", "Stderr 2000 c"],
        );
    }

    #[test]
    fn a_line_that_another_stream_interrupts_is_broken_in_the_log_and_whole_in_the_record() {
        use Stream::{Stderr, Stdout};
        check(
            &[(Stdout, 1000, b"Downl"), (Stderr, 1001, b"warning\n"), (Stdout, 1002, b"oading\n")],
            "Downl\nwarning\noading\n",
            &["Stdout 1000 Downl\\", "Stderr 1001 warning", "Stdout 1002 oading"],
        );
    }

    #[test]
    fn beyond_the_limit_head_and_tail_are_kept_with_a_mark_between() {
        let directory = tempfile::tempdir().unwrap();
        let budget = LogBudget::new(1000);
        let output: Vec<u8> =
            (0..100_000).flat_map(|number| format!("{number:06}\n").into_bytes()).collect();
        let kept = record(directory.path(), &budget, &[(Stream::Stdout, 1000, &output)]);
        let log = std::fs::read_to_string(&kept.path).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        let mark = lines.iter().position(|line| line.starts_with('[')).unwrap();
        // 1000 bytes are 142 lines and a piece, which is broken off with a line feed.
        assert_eq!((mark, lines[mark - 2], lines[mark - 1]), (143, "000141", "000142"));
        assert_eq!(
            lines[mark],
            "[cofferdam: 426.6 KiB of output dropped here, the job's log limit of 1000 B was \
             reached]"
        );
        assert_eq!((lines[mark + 1].len(), lines.last()), (6, Some(&"099999")));
        assert_eq!(kept.bytes, 700_000);
        let tail: usize = lines[mark + 1..].iter().map(|line| line.len() + 1).sum();
        assert!(tail <= TAIL_BYTES);
        assert_eq!(kept.bytes, kept.dropped + 1000 + u64::try_from(tail).unwrap());
        assert_eq!(read(&kept.path).iter().filter(|line| line.stream == Stream::Note).count(), 1);

        // The next step of the job keeps its end although nothing is left of the budget.
        let second = tempfile::tempdir().unwrap();
        let kept = record(second.path(), &budget, &[(Stream::Stderr, 1, b"why it failed\n")]);
        assert_eq!(std::fs::read_to_string(&kept.path).unwrap(), "why it failed\n");
        assert_eq!(kept.dropped, 0);
    }

    #[test]
    fn a_log_without_the_end_of_its_index_is_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let chunks: &[Chunk<'_>] =
            &[(Stream::Stderr, 1100, b"one\n"), (Stream::Stdout, 1200, b"two\nthree\n")];
        let kept = record(directory.path(), &LogBudget::new(1000), chunks);
        let index = index_path(&kept.path);
        let bytes = std::fs::read(&index).unwrap();
        std::fs::write(&index, &bytes[..bytes.len() - 1]).unwrap();
        let lines = read(&kept.path);
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0].stream, lines[2].stream), (Stream::Stderr, Stream::Stdout));
        assert_eq!(lines[2].at, time(1100));
    }

    #[test]
    fn the_last_lines_are_clean_and_few() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        std::fs::write(&path, "x".repeat(20_000) + "\na\n\x1b[31mb\x1b]0;title\x07c\n\n 1%\r 2%\n")
            .unwrap();
        assert_eq!(last_lines(&path, 2).unwrap(), ["bc", " 2%"]);
        assert_eq!(last_lines(&path, 9).unwrap(), ["a", "bc", " 2%"]);
    }

    #[test]
    fn a_log_that_exists_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("step.log"), "before").unwrap();
        let path = directory.path().join("step.log");
        let error = Recorder::create(&path, LogBudget::new(1), SystemTime::now()).unwrap_err();
        assert_eq!(error.to_string(), format!("failed to create the log `{}`", path.display()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]
        /// Whatever the chunks, each stream can be had back byte by byte.
        #[test]
        fn streams_come_back_exactly(
            chunks in prop::collection::vec(
                (any::<bool>(), 0..4_u64, prop_oneof![
                        9 => "[ab\\n]{0,9}",
                        1 => Just("x".repeat(70_000)),
                    ]),
                0..30,
            ),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let mut at = 1000;
            let chunks: Vec<(Stream, u64, Vec<u8>)> = chunks
                .into_iter()
                .map(|(error, delta, text)| {
                    at += delta;
                    let stream = if error { Stream::Stderr } else { Stream::Stdout };
                    (stream, at, text.into_bytes())
                })
                .collect();
            let borrowed: Vec<Chunk<'_>> =
                chunks.iter().map(|(stream, at, text)| (*stream, *at, text.as_slice())).collect();
            let kept = record(directory.path(), &LogBudget::new(1 << 30), &borrowed);
            let lines = read(&kept.path);
            for stream in [Stream::Stdout, Stream::Stderr] {
                let written: Vec<u8> = chunks
                    .iter()
                    .filter(|chunk| chunk.0 == stream)
                    .flat_map(|chunk| chunk.2.clone())
                    .collect();
                let mut back = Vec::new();
                for line in lines.iter().filter(|line| line.stream == stream) {
                    prop_assert!(line.text.len() <= PIECE_MAX);
                    prop_assert!(line.at <= time(at.max(1000)) + Duration::from_millis(1));
                    back.extend(&line.text);
                    if line.ended {
                        back.push(b'\n');
                    }
                }
                prop_assert_eq!(back, written);
            }
        }
    }
}
