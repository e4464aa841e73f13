//! The sidecar of a log: which stream each run of bytes came from, and when.
//!
//! The log itself (`NAME.log`) is plain text that anyone can `cat`; this file (`NAME.log.idx`)
//! adds what text cannot say, without a cost per line: one record describes all bytes of one
//! stream that were read in the same millisecond. All lines that end in a run share its time,
//! which is when they were read; no better time is known.
//!
//! Format, version 1:
//!
//! ```text
//! file    = magic base *record
//! magic   = "CDLOGIX" %x01            ; the last byte is the version
//! base    = 8 bytes                   ; milliseconds since 1970-01-01 UTC, little endian
//! record  = head delta                ; unsigned LEB128 each
//! head    = length << 3 | broken << 2 | stream
//! delta   = milliseconds since the record before, since base for the first
//! stream  = 0 stdout / 1 stderr / 2 note by cofferdam
//! ```
//!
//! `length` counts bytes of the log. `broken` means that one more byte follows, a line feed that
//! the stream did not write: another stream had something to say in the middle of a line. The
//! records of a run that died may end early, even within a record; what the log has beyond them
//! is attributed to standard output at the last known time.

use std::{
    io::{self, Read, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const MAGIC: [u8; 8] = *b"CDLOGIX\x01";

/// Where a run of bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// The step's standard output.
    Stdout,
    /// The step's standard error.
    Stderr,
    /// Written by Cofferdam itself, such as the mark where output was dropped.
    Note,
}

/// A run of bytes from one stream, read in one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) stream: Stream,
    /// Milliseconds since the Unix epoch.
    pub(super) at: u64,
    pub(super) length: u64,
    pub(super) broken: bool,
}

/// Milliseconds since the Unix epoch; 0 for times before it.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time of a number of milliseconds since the Unix epoch.
pub(super) fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds)).unwrap_or(UNIX_EPOCH)
}

/// Writes records; the caller buffers.
#[derive(Debug)]
pub(super) struct IndexWriter<W> {
    sink: W,
    last: u64,
}

impl<W: Write> IndexWriter<W> {
    pub(super) fn new(mut sink: W, base: u64) -> io::Result<Self> {
        sink.write_all(&MAGIC)?;
        sink.write_all(&base.to_le_bytes())?;
        Ok(Self { sink, last: base })
    }

    pub(super) fn write(&mut self, run: Run) -> io::Result<()> {
        let stream = match run.stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
            Stream::Note => 2,
        };
        let head = (run.length << 3) | (u64::from(run.broken) << 2) | stream;
        let mut record = [0; 20];
        let mut rest = record.as_mut_slice();
        write_leb128(&mut rest, head)?;
        write_leb128(&mut rest, run.at.saturating_sub(self.last))?;
        let unused = rest.len();
        self.last = self.last.max(run.at);
        self.sink.write_all(record.get(..record.len() - unused).unwrap_or_default())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Reads records.
#[derive(Debug)]
pub(super) struct IndexReader<R> {
    source: R,
    last: u64,
}

impl<R: Read> IndexReader<R> {
    pub(super) fn new(mut source: R) -> io::Result<Self> {
        let mut magic = [0; 8];
        let mut base = [0; 8];
        source.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a log index of version 1; read it with the cofferdam that wrote it",
            ));
        }
        source.read_exact(&mut base)?;
        Ok(Self { source, last: u64::from_le_bytes(base) })
    }

    /// The time of the last record that was read, the base before the first.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The next record; nothing at the end, also where it lies within a record.
    pub(super) fn read(&mut self) -> io::Result<Option<Run>> {
        let Some(head) = read_leb128(&mut self.source)? else { return Ok(None) };
        let Some(delta) = read_leb128(&mut self.source)? else { return Ok(None) };
        self.last = self.last.saturating_add(delta);
        let stream = match head & 3 {
            0 => Stream::Stdout,
            1 => Stream::Stderr,
            2 => Stream::Note,
            _ => return Err(damaged("unknown stream")),
        };
        Ok(Some(Run { stream, at: self.last, length: head >> 3, broken: head & 4 != 0 }))
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged log index: {what}"))
}

fn write_leb128(sink: &mut impl Write, mut value: u64) -> io::Result<()> {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return sink.write_all(&[low & 0x7f]);
        }
        sink.write_all(&[low | 0x80])?;
    }
}

fn read_leb128(source: &mut impl Read) -> io::Result<Option<u64>> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        if source.read(&mut byte)? == 0 {
            return Ok(None);
        }
        let [byte] = byte;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Err(damaged("number of more than 64 bits"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run() -> impl Strategy<Value = Run> {
        let stream = prop::sample::select(vec![Stream::Stdout, Stream::Stderr, Stream::Note]);
        (stream, 0..u64::MAX >> 3, any::<u64>(), any::<bool>())
            .prop_map(|(stream, length, at, broken)| Run { stream, at, length, broken })
    }

    proptest! {
        #[test]
        fn records_come_back_with_times_that_never_run_backwards(
            base: u64,
            runs in prop::collection::vec(run(), 0..20),
        ) {
            let mut file = Vec::new();
            let mut writer = IndexWriter::new(&mut file, base).unwrap();
            let mut latest = base;
            let mut expected = Vec::new();
            for run in runs {
                writer.write(run).unwrap();
                latest = latest.max(run.at);
                expected.push(Run { at: latest, ..run });
            }
            let mut reader = IndexReader::new(file.as_slice()).unwrap();
            let mut read = Vec::new();
            while let Some(run) = reader.read().unwrap() {
                read.push(run);
            }
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn damaged_files_end_or_fail_but_never_panic(rest: Vec<u8>) {
            let mut file = MAGIC.to_vec();
            file.extend([0; 8]);
            file.extend(rest);
            let mut reader = IndexReader::new(file.as_slice()).unwrap();
            while let Ok(Some(_)) = reader.read() {}
        }
    }

    #[test]
    fn other_versions_and_other_files_are_refused() {
        for file in [b"CDLOGIX\x02........".as_slice(), b"hello, this is text"] {
            let error = IndexReader::new(file).unwrap_err();
            assert_eq!(
                error.to_string(),
                "not a log index of version 1; read it with the cofferdam that wrote it"
            );
        }
        assert!(IndexReader::new(b"CDL".as_slice()).is_err());
    }

    #[test]
    fn a_number_that_does_not_end_is_refused() {
        let mut file = MAGIC.to_vec();
        file.extend([0; 8]);
        file.extend([0xff; 11]);
        let error = IndexReader::new(file.as_slice()).unwrap().read().unwrap_err();
        assert_eq!(error.to_string(), "damaged log index: number of more than 64 bits");
    }
}
