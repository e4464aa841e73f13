//! Keeps a step's output: whole up to the job's log limit, then its head and its tail.
//!
//! Both streams go into one file in the order in which they were read, so that a person sees what
//! happened; the index beside it keeps them apart. Bytes are written when they come: a log can be
//! followed, and a runner that dies loses no more than the tail beyond the limit.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use super::{
    index::{IndexWriter, Run, Stream, milliseconds},
    tail::Tail,
};
use crate::report::quantity::Bytes;

/// The log bytes that the steps of one job may still write, and what they began with.
///
/// A step that finds it used up keeps its last [`TAIL_BYTES`](super::tail::TAIL_BYTES) all the
/// same: the last step of a talkative job is the one that failed. The index adds at most three
/// bytes for each time that the streams took turns.
#[derive(Debug)]
pub(crate) struct LogBudget {
    limit: u64,
    left: AtomicU64,
}

impl LogBudget {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, left: AtomicU64::new(limit) })
    }

    fn take(&self, wanted: u64) -> u64 {
        let spend = |left: u64| Some(left.saturating_sub(wanted));
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend) {
            Ok(left) | Err(left) => left.min(wanted),
        }
    }
}

/// A log that could not be written or read; names the file.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing} the log `{}`", path.display())]
pub(crate) struct LogError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl LogError {
    pub(super) fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self { doing, path: path.to_owned(), source }
    }
}

/// What was kept of a step's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The log's path.
    pub(crate) path: PathBuf,
    /// Bytes that the step wrote, after masking.
    pub(crate) bytes: u64,
    /// Bytes of these that are not in the log.
    pub(crate) dropped: u64,
}

/// Writes one log and its index.
#[derive(Debug)]
pub(crate) struct Recorder {
    path: PathBuf,
    log: File,
    index: IndexWriter<BufWriter<File>>,
    budget: Arc<LogBudget>,
    /// The last run, which the next bytes may extend or break.
    run: Option<Run>,
    /// The log ends within a line.
    in_line: bool,
    bytes: u64,
    tail: Option<Tail>,
}

/// The index of the log at `path`.
pub(super) fn index_path(path: &Path) -> PathBuf {
    let mut index = path.as_os_str().to_owned();
    index.push(".idx");
    index.into()
}

impl Recorder {
    /// Creates the log at `path` and its index at the same path with `.idx` added; neither may
    /// exist. Their directory is made.
    pub(crate) fn create(
        path: &Path,
        budget: Arc<LogBudget>,
        now: SystemTime,
    ) -> Result<Self, LogError> {
        let create = |path: &Path| {
            let file = OpenOptions::new().write(true).create_new(true).open(path);
            file.map_err(|source| LogError::new("create", path, source))
        };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .map_err(|source| LogError::new("make the directory of", path, source))?;
        }
        let log = create(path)?;
        let index = BufWriter::with_capacity(4096, create(&index_path(path))?);
        let index = IndexWriter::new(index, milliseconds(now))
            .map_err(|source| LogError::new("write the index of", path, source))?;
        Ok(Self {
            path: path.to_owned(),
            log,
            index,
            budget,
            run: None,
            in_line: false,
            bytes: 0,
            tail: None,
        })
    }

    /// Keeps `output`, which must be masked.
    pub(crate) fn write(
        &mut self,
        stream: Stream,
        now: SystemTime,
        output: &[u8],
    ) -> Result<(), LogError> {
        if output.is_empty() {
            return Ok(());
        }
        let at = milliseconds(now);
        let length = u64::try_from(output.len()).unwrap_or(u64::MAX);
        self.bytes += length;
        let granted = match &self.tail {
            Some(_) => 0,
            None => usize::try_from(self.budget.take(length)).unwrap_or(usize::MAX),
        };
        let (head, rest) = output.split_at_checked(granted).unwrap_or((output, &[]));
        if !head.is_empty() {
            self.append(stream, at, head)?;
        }
        if !rest.is_empty() {
            self.tail.get_or_insert_default().push(stream, at, rest);
        }
        Ok(())
    }

    /// Adds a line of Cofferdam's own.
    pub(crate) fn note(&mut self, now: SystemTime, text: &str) -> Result<(), LogError> {
        self.append(Stream::Note, milliseconds(now), format!("[cofferdam: {text}]\n").as_bytes())
    }

    /// Writes the tail and the rest of the index.
    pub(crate) fn finish(mut self, now: SystemTime) -> Result<Kept, LogError> {
        let mut dropped = 0;
        if let Some(tail) = self.tail.take() {
            let (not_kept, runs) = tail.finish();
            dropped = not_kept;
            if dropped > 0 {
                let (dropped, limit) = (Bytes(dropped), Bytes(self.budget.limit));
                self.note(
                    now,
                    &format!(
                        "{dropped} of output dropped here, the job's log limit of {limit} was \
                         reached"
                    ),
                )?;
            }
            for (stream, at, output) in runs {
                self.append(stream, at, &output)?;
            }
        }
        self.end_run()
            .and_then(|()| self.index.flush())
            .map_err(|source| LogError::new("write the index of", &self.path, source))?;
        Ok(Kept { path: self.path, bytes: self.bytes, dropped })
    }

    fn append(&mut self, stream: Stream, at: u64, output: &[u8]) -> Result<(), LogError> {
        self.write_run(stream, at, output)
            .map_err(|source| LogError::new("write", &self.path, source))
    }

    fn write_run(&mut self, stream: Stream, at: u64, output: &[u8]) -> io::Result<()> {
        let length = u64::try_from(output.len()).unwrap_or(u64::MAX);
        let broken = self.in_line;
        match &mut self.run {
            Some(run) if run.stream == stream && run.at >= at => run.length += length,
            last => {
                if let Some(run) = last
                    && run.stream != stream
                    && broken
                {
                    run.broken = true;
                    self.log.write_all(b"\n")?;
                }
                self.end_run()?;
                self.run = Some(Run { stream, at, length, broken: false });
            }
        }
        self.in_line = output.last() != Some(&b'\n');
        self.log.write_all(output)
    }

    fn end_run(&mut self) -> io::Result<()> {
        self.run.take().map_or(Ok(()), |run| self.index.write(run))
    }
}
