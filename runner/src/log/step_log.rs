//! The output of one step: masked, then kept, then handed back for showing.
//!
//! This is what the executor's read loop calls. It is synchronous, and its memory is bounded by
//! the size of the chunks that it is given. What may be the beginning of a secret is held back
//! until the stream goes on or ends, however long that takes: there is no flush on a timer, which
//! would show it.

use std::{path::Path, sync::Arc, time::SystemTime};

use super::{
    index::Stream,
    masker::{Ending, Masker},
    needles::Needles,
    recorder::{Kept, LogBudget, LogError, Recorder},
};

/// The log of one step while it runs.
#[derive(Debug)]
pub(crate) struct StepLog {
    stdout: Masker,
    stderr: Masker,
    /// Of Cofferdam's own lines: a reason may quote what the job said.
    notes: Masker,
    recorder: Recorder,
}

impl StepLog {
    /// Creates the log at `path`, with `.idx` beside it; neither may exist.
    pub(crate) fn create(
        path: &Path,
        needles: Arc<Needles>,
        budget: Arc<LogBudget>,
        now: SystemTime,
    ) -> Result<Self, LogError> {
        Ok(Self {
            stdout: Masker::new(Arc::clone(&needles)),
            stderr: Masker::new(Arc::clone(&needles)),
            notes: Masker::new(needles),
            recorder: Recorder::create(path, budget, now)?,
        })
    }

    /// Takes what was read from a stream at `now`; returns what of it may be shown.
    pub(crate) fn output(
        &mut self,
        stream: Stream,
        now: SystemTime,
        chunk: &[u8],
    ) -> Result<Vec<u8>, LogError> {
        let mut masked = Vec::with_capacity(chunk.len());
        match stream {
            Stream::Stdout => self.stdout.push(chunk, &mut masked),
            Stream::Stderr => self.stderr.push(chunk, &mut masked),
            Stream::Note => self.notes.push(chunk, &mut masked),
        }
        self.recorder.write(stream, now, &masked)?;
        Ok(masked)
    }

    /// Ends a stream; returns what had been held back of it and may be shown.
    pub(crate) fn end(
        &mut self,
        stream: Stream,
        now: SystemTime,
        ending: Ending,
    ) -> Result<Vec<u8>, LogError> {
        let mut masked = Vec::new();
        match stream {
            Stream::Stdout => self.stdout.finish(ending, &mut masked),
            Stream::Stderr => self.stderr.finish(ending, &mut masked),
            Stream::Note => self.notes.finish(ending, &mut masked),
        }
        self.recorder.write(stream, now, &masked)?;
        Ok(masked)
    }

    /// Completes the files. A stream that was not ended before counts as cut.
    pub(crate) fn finish(mut self, now: SystemTime) -> Result<Kept, LogError> {
        self.end(Stream::Stdout, now, Ending::Cut)?;
        self.end(Stream::Stderr, now, Ending::Cut)?;
        self.end(Stream::Note, now, Ending::Closed)?;
        self.recorder.finish(now)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::secret::Secret, *};

    #[test]
    fn what_is_kept_and_what_is_shown_are_masked_alike() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1-build.log");
        let secret = Secret::new("TOKEN", "hunter22").unwrap();
        let needles = Arc::new(Needles::new([&secret]).unwrap());
        let now = SystemTime::now();
        let mut log = StepLog::create(&path, needles, LogBudget::new(1000), now).unwrap();
        let mut shown = Vec::new();
        shown.extend(log.output(Stream::Stdout, now, b"login hunt").unwrap());
        // The other stream does not complete what this one began.
        shown.extend(log.output(Stream::Stderr, now, b"er22 or so\n").unwrap());
        shown.extend(log.output(Stream::Stdout, now, b"er22\nand hun").unwrap());
        shown.extend(log.end(Stream::Stdout, now, Ending::Closed).unwrap());
        assert_eq!(shown, b"login er22 or so\n***\nand hun");
        let kept = log.finish(now).unwrap();
        let file = std::fs::read_to_string(&path).unwrap();
        assert_eq!(file, "login \ner22 or so\n***\nand hun");
        assert_eq!(kept, Kept { path, bytes: 28, dropped: 0 });
    }

    #[test]
    fn a_stream_that_was_not_ended_counts_as_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1-build.log");
        let secret = Secret::new("TOKEN", "hunter22").unwrap();
        let needles = Arc::new(Needles::new([&secret]).unwrap());
        let now = SystemTime::now();
        let mut log = StepLog::create(&path, needles, LogBudget::new(1000), now).unwrap();
        log.output(Stream::Stderr, now, b"the token is hunter2").unwrap();
        log.finish(now).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the token is ***");
    }
}
