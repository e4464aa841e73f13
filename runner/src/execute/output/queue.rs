//! The way of output from the steps to the display, bounded in bytes.
//!
//! Whoever reads a step's output takes room for it *before* reading. So what waits for a slow display
//! stays in the pipes, where it holds up the step that wrote it, and the memory of the run does not
//! depend on how many steps write at the same time. Room is given in the order of asking: no step
//! keeps out another one.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{execute::message::StepOutput, supervise::CHUNK_MAX};

/// What may be under way of all steps together, in bytes.
const UNDER_WAY_MAX: usize = 16 * PIECE_MAX;
/// The room for what is read at once.
const PIECE_MAX: usize = CHUNK_MAX + EVENT_SIZE;
/// What a piece takes beside its bytes.
const EVENT_SIZE: usize = 256;

/// Where steps put their output.
#[derive(Clone, Debug)]
pub(in crate::execute) struct Outputs {
    room: Arc<Semaphore>,
    pieces: mpsc::UnboundedSender<(StepOutput, Room)>,
}

/// Where the driver takes it.
#[derive(Debug)]
pub(in crate::execute) struct Written(mpsc::UnboundedReceiver<(StepOutput, Room)>);

/// Room for one piece.
#[derive(Debug)]
pub(in crate::execute) struct Room(OwnedSemaphorePermit);

/// A way without anything on it.
pub(in crate::execute) fn way() -> (Outputs, Written) {
    let (pieces, written) = mpsc::unbounded_channel();
    (Outputs { room: Arc::new(Semaphore::new(UNDER_WAY_MAX)), pieces }, Written(written))
}

impl Outputs {
    /// Waits for room; `None` when nobody takes anything any more. Cancel-safe but for the turn.
    pub(in crate::execute) async fn room(&self) -> Option<Room> {
        let size = u32::try_from(PIECE_MAX).unwrap_or(u32::MAX);
        Arc::clone(&self.room).acquire_many_owned(size).await.ok().map(Room)
    }

    /// Puts a piece into its room; what it does not take is free again.
    pub(in crate::execute) fn put(&self, output: StepOutput, mut room: Room) {
        let surplus = PIECE_MAX.saturating_sub(output.bytes.len() + EVENT_SIZE);
        drop(room.0.split(surplus));
        // When the driver has gone, the run is over and nobody looks.
        self.pieces.send((output, room)).ok();
    }
}

impl Written {
    /// Waits for the next piece. Cancel-safe.
    pub(in crate::execute) async fn next(&mut self) -> Option<StepOutput> {
        self.0.recv().await.map(|(output, _)| output)
    }

    /// The next piece, if one is there.
    pub(in crate::execute) fn next_now(&mut self) -> Option<StepOutput> {
        self.0.try_recv().ok().map(|(output, _)| output)
    }
}

#[cfg(test)]
mod tests {
    use cofferdam_jobs::state::{Part, StepRef};

    use super::*;
    use crate::{execute::message::StepId, log::index::Stream};

    fn piece(length: usize) -> StepOutput {
        let step = StepRef { part: Part::Steps, index: 0 };
        let step = StepId { job: 0, attempt: 1, step };
        StepOutput { step, stream: Stream::Stdout, bytes: vec![b'x'; length] }
    }

    /// Puts pieces of `length` until one would have to wait; returns how many.
    async fn fill(outputs: &Outputs, length: usize) -> usize {
        let mut count = 0;
        while let Some(Some(room)) = soon(outputs.room()).await {
            outputs.put(piece(length), room);
            count += 1;
        }
        count
    }

    /// What a future says without any waiting.
    async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn what_is_under_way_is_bounded_in_bytes() {
        for (length, expected) in [
            (CHUNK_MAX, 16),
            // More than was read: held back until now, as the beginning of a secret.
            (4 * CHUNK_MAX, 16),
            // The last one needs room for a whole chunk.
            (1, (UNDER_WAY_MAX - PIECE_MAX) / (EVENT_SIZE + 1) + 1),
        ] {
            let (outputs, mut written) = way();
            assert_eq!(fill(&outputs, length).await, expected, "{length}");
            assert!(soon(outputs.room()).await.is_none());
            while written.next_now().is_some() {}
            assert_eq!(fill(&outputs, length).await, expected, "{length}, once more");
        }
    }

    #[tokio::test]
    async fn whoever_has_waited_for_longest_is_next() {
        let (outputs, mut written) = way();
        fill(&outputs, CHUNK_MAX).await;
        let waits = |outputs: Outputs| async move { outputs.room().await.map(drop) };
        let (mut first, mut second) =
            (Box::pin(waits(outputs.clone())), Box::pin(waits(outputs.clone())));
        assert!(soon(&mut first).await.is_none() && soon(&mut second).await.is_none());
        assert!(written.next().await.is_some());
        assert!(soon(&mut second).await.is_none());
        assert!(soon(&mut first).await.is_some() && soon(&mut second).await.is_some());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_driver_that_has_gone() {
        let (outputs, written) = way();
        fill(&outputs, CHUNK_MAX).await;
        drop(written);
        assert_eq!(soon(outputs.room()).await.map(|room| room.is_some()), Some(true));
    }
}
