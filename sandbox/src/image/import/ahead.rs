//! Decompresses a layer on a thread of its own, ahead of the one that writes its files.
//!
//! The largest layer is often half of an image. Were one thread to do all of it, the other
//! processors would have nothing to do at the end of most imports. How far one thread may be ahead
//! of the other is bounded: [`PIECES`] pieces of [`PIECE`] bytes.

use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use crate::image::{archive::Skip, problem::Problem};

/// Bytes of a piece: they stay in a processor's own cache until they are written.
const PIECE: usize = 128 * 1024;
/// Pieces of one layer.
const PIECES: usize = 6;

/// Reads `input` on another thread while `consume` takes what it brings, and gives `input` back as
/// it is then. What `consume` leaves need not be read, and mostly is not.
///
/// # Errors
/// Those of `consume`, which meets those of `input` where it reads.
pub(super) fn ahead<R: Read + Send, T>(
    mut input: R,
    consume: impl FnOnce(Pieces) -> Result<T, Problem>,
) -> Result<(T, R), Problem> {
    let (filled, pieces) = sync_channel(PIECES);
    // Never full: there are no more pieces than it has room for.
    let (spare, spares) = sync_channel(PIECES);
    for _ in 0..PIECES {
        spare.send(vec![0; PIECE]).ok();
    }
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("decompress".to_owned());
        let reader = reader.spawn_scoped(scope, move || {
            fill(&mut input, &filled, &spares);
            input
        });
        let reader = reader.map_err(Problem::Read)?;
        let current = Piece { bytes: Vec::new(), length: 0 };
        // Dropped by `consume`, which ends the reader where it has not come to the end.
        let consumed = consume(Pieces { pieces, spare, current, at: 0 });
        match reader.join() {
            Ok(input) => consumed.map(|consumed| (consumed, input)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Brings pieces until the input ends or fails, or nobody wants them any more.
fn fill(input: &mut impl Read, filled: &SyncSender<io::Result<Piece>>, spares: &Receiver<Vec<u8>>) {
    for mut bytes in spares {
        let (length, failed) = read_full(input, &mut bytes);
        let last = failed.is_some() || length < bytes.len();
        if length > 0 && filled.send(Ok(Piece { bytes, length })).is_err() {
            return;
        }
        if let Some(error) = failed {
            filled.send(Err(error)).ok();
        }
        if last {
            return;
        }
    }
}

/// Reads until the buffer is full or there is no more; what was read, and what went wrong then.
fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (length, Some(error)),
        }
    }
    (length, None)
}

/// The first `length` of these bytes.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    length: usize,
}

/// What the other thread brought, in its order.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: Receiver<io::Result<Piece>>,
    spare: SyncSender<Vec<u8>>,
    current: Piece,
    /// Bytes of the current piece that were read.
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.length {
            let Ok(piece) = self.pieces.recv() else { return Ok(0) };
            let before = std::mem::replace(&mut self.current, piece?);
            self.at = 0;
            if !before.bytes.is_empty() {
                // The reader may have ended.
                self.spare.send(before.bytes).ok();
            }
        }
        let rest = self.current.bytes.get(self.at..self.current.length).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

impl Skip for Pieces {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes, a few at a time, and then what is left of its patience.
    struct Source {
        left: usize,
        given: usize,
        end: Option<io::Error>,
    }

    impl Read for Source {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.left).min(7001);
            for (offset, byte) in buffer[..count].iter_mut().enumerate() {
                *byte = byte_at(self.given + offset);
            }
            self.left -= count;
            self.given += count;
            if count == 0 { self.end.take().map_or(Ok(0), Err) } else { Ok(count) }
        }
    }

    fn byte_at(position: usize) -> u8 {
        u8::try_from(position % 251).unwrap()
    }

    fn source(left: usize) -> Source {
        Source { left, given: 0, end: None }
    }

    #[test]
    fn every_byte_arrives_once_and_in_order() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, PIECE * PIECES * 2 + 17] {
            let (read, source) = ahead(source(length), |mut pieces| {
                let mut read = Vec::new();
                pieces.read_to_end(&mut read)?;
                assert_eq!(pieces.read(&mut [0; 9])?, 0, "the end stays the end");
                Ok(read)
            })
            .unwrap();
            assert_eq!(read.len(), length);
            assert!(read.iter().enumerate().all(|(at, byte)| *byte == byte_at(at)));
            assert_eq!(source.given, length);
        }
    }

    #[test]
    fn what_was_read_before_a_failure_arrives_before_it() {
        let mut source = source(PIECE + 5);
        source.end = Some(Problem::Cancelled.into());
        let failed = ahead(source, |mut pieces| {
            let mut read = vec![0; PIECE + 5];
            pieces.read_exact(&mut read)?;
            pieces.read(&mut [0]).map_err(Problem::from)
        });
        assert!(matches!(failed, Err(Problem::Cancelled)));
    }

    #[test]
    fn what_nobody_wants_is_not_read() {
        let (read, source) = ahead(source(usize::MAX), |mut pieces| {
            let mut read = [0; 10];
            pieces.read_exact(&mut read)?;
            Ok(read)
        })
        .unwrap();
        assert_eq!(read, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(source.given <= PIECE * (PIECES + 2), "{}", source.given);
    }
}
