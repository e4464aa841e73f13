//! Reads the output of a step from its start to the end of its job.
//!
//! A step has ended when its own process has, and what it left running may go on writing: a
//! server that step 1 starts for step 2. So reading is a task of its own that ends when the last
//! writer has closed the pipes, at the latest when the container is taken down.

pub(super) mod queue;
pub(super) mod screen;

use std::time::SystemTime;

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::message::{StepId, StepOutput};
use crate::{
    log::{index::Stream, masker::Ending, recorder::Kept, step_log::StepLog},
    supervise::{Chunk, OutputPipes},
};
use queue::Outputs;

/// Bytes that two pipes can hold: a program may widen each to 1 MiB (pipe(7)). What was written
/// before a moment is among so many bytes read after it.
const PIPES_HOLD: usize = 2 * 1024 * 1024;

/// A step's output as it is being read.
#[derive(Debug)]
pub(super) struct Output {
    drain: mpsc::Sender<oneshot::Sender<()>>,
    /// Ends with the log.
    reading: JoinHandle<Result<Kept, String>>,
}

impl Output {
    /// Starts reading; what may be shown goes to `shown`, where that is wanted.
    pub(super) fn start(
        pipes: OutputPipes,
        log: StepLog,
        shown: Option<(StepId, Outputs)>,
    ) -> Self {
        let (drain, drained) = mpsc::channel(1);
        let reader = Reader { pipes, log: Box::new(log), shown };
        Self { drain, reading: tokio::spawn(reader.run(drained)) }
    }

    /// Waits until the last writer has closed the pipes, at the latest until `deadline`: a pipe that
    /// something still holds then, which is a bug of ours or the kernel's, holds up nothing else.
    pub(super) async fn end(mut self, deadline: Instant) -> Result<Kept, String> {
        match tokio::time::timeout_at(deadline, &mut self.reading).await {
            Ok(read) => read.map_err(|error| error.to_string())?,
            Err(_) => {
                self.reading.abort();
                Err("its pipes are held open by a process that has outlived its job".to_owned())
            }
        }
    }

    /// A handle by which the step's own task can ask for [`Drain::now`].
    pub(super) fn drain(&self) -> Drain {
        Drain(self.drain.clone())
    }
}

/// Asks a reader to catch up.
#[derive(Debug)]
pub(super) struct Drain(mpsc::Sender<oneshot::Sender<()>>);

impl Drain {
    /// Returns when everything that was written before has been taken in.
    pub(super) async fn now(&self) {
        let (done, wait) = oneshot::channel();
        // A reader that has ended has read everything.
        if self.0.send(done).await.is_ok() {
            wait.await.ok();
        }
    }
}

struct Reader {
    pipes: OutputPipes,
    log: Box<StepLog>,
    shown: Option<(StepId, Outputs)>,
}

impl Reader {
    async fn run(mut self, mut drain: mpsc::Receiver<oneshot::Sender<()>>) -> Result<Kept, String> {
        loop {
            tokio::select! {
                open = self.pipes.readable() => {
                    if !open.map_err(|error| error.to_string())? {
                        break;
                    }
                    self.pass_on().await?;
                }
                Some(done) = drain.recv() => {
                    // What the step left running may go on writing faster than is read here.
                    let mut left = PIPES_HOLD;
                    while left > 0
                        && let Some(read) = self.pass_on().await?
                    {
                        left = left.saturating_sub(read);
                    }
                    // Whoever asked may have gone away.
                    done.send(()).ok();
                }
            }
        }
        self.log.finish(SystemTime::now()).map_err(|error| error.to_string())
    }

    /// Reads what is there and passes it on; how many bytes it was, or `None` when nothing is there.
    async fn pass_on(&mut self) -> Result<Option<usize>, String> {
        let room = match &self.shown {
            Some((_, outputs)) => outputs.room().await,
            None => None,
        };
        let chunk = self.pipes.next_now().map_err(|error| error.to_string())?;
        let Some(chunk) = chunk else { return Ok(None) };
        let read = match &chunk {
            Chunk::Bytes(_, bytes) => bytes.len(),
            Chunk::Closed(_) => 0,
        };
        let (stream, bytes) = take(&mut self.log, &chunk)?;
        if let (Some((step, outputs)), Some(room)) = (&self.shown, room)
            && !bytes.is_empty()
        {
            outputs.put(StepOutput { step: *step, stream, bytes }, room);
        }
        Ok(Some(read))
    }
}

/// Masks and keeps a chunk; returns what of it may be shown.
fn take(log: &mut StepLog, chunk: &Chunk) -> Result<(Stream, Vec<u8>), String> {
    let now = SystemTime::now();
    let (stream, shown) = match chunk {
        Chunk::Bytes(stream, bytes) => (*stream, log.output(*stream, now, bytes)),
        Chunk::Closed(stream) => (*stream, log.end(*stream, now, Ending::Closed)),
    };
    Ok((stream, shown.map_err(|error| error.to_string())?))
}
