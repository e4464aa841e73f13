//! The two output pipes of a program, read as they fill.
//!
//! Hundreds of programs may write at the same time, of which few are read in any moment: a buffer
//! belongs to what was read, not to a stream, and serves another when that was dealt with.

use std::{
    io, mem,
    ops::Deref,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use tokio::net::unix::pipe;

use crate::log::index::Stream;

/// Bytes that are read at once at most; as much as a pipe holds by default.
pub(crate) const CHUNK_MAX: usize = 64 * 1024;

/// Buffers that are kept for whoever reads next; more than threads that read are of no use.
const SPARE_MAX: usize = 8;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// What came out of a program.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// These bytes.
    Bytes(Stream, ReadBytes),
    /// Every writer has closed this stream.
    Closed(Stream),
}

/// Bytes that were read. To be dropped soon: others want the buffer.
#[derive(Debug)]
pub(crate) struct ReadBytes(Vec<u8>);

/// The reading ends of both pipes.
#[derive(Debug)]
pub(crate) struct OutputPipes {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    /// Whose turn it is when both have something: neither keeps the other out.
    first: Stream,
}

impl OutputPipes {
    /// Makes both pipes; returns their writing ends too, for the program alone.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        let receiver =
            |reader: io::PipeReader| pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map(Some);
        let pipes =
            Self { stdout: receiver(stdout)?, stderr: receiver(stderr)?, first: Stream::Stdout };
        Ok((pipes, stdout_writer.into(), stderr_writer.into()))
    }

    /// Waits for the next chunk of either; `None` when both are closed. Cancel-safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Chunk>> {
        while self.readable().await? {
            if let Some(chunk) = self.next_now()? {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    /// Waits until it is worth while to ask for [`Self::next_now`]; `false` when both are closed.
    /// Cancel-safe.
    pub(crate) async fn readable(&self) -> io::Result<bool> {
        // A program that writes as fast as it is read must not keep a thread for itself.
        tokio::task::coop::consume_budget().await;
        tokio::select! {
            ready = readable(self.stdout.as_ref()), if self.stdout.is_some() => ready?,
            ready = readable(self.stderr.as_ref()), if self.stderr.is_some() => ready?,
            else => return Ok(false),
        }
        Ok(true)
    }

    /// The next chunk of what is there already; `None` when nothing is left to read now.
    pub(crate) fn next_now(&mut self) -> io::Result<Option<Chunk>> {
        let turns = match self.first {
            Stream::Stderr => [Stream::Stderr, Stream::Stdout],
            _ => [Stream::Stdout, Stream::Stderr],
        };
        for (stream, other) in turns.into_iter().zip(turns.into_iter().rev()) {
            let pipe = match stream {
                Stream::Stderr => &mut self.stderr,
                _ => &mut self.stdout,
            };
            let Some(bytes) = read_now(pipe.as_ref())? else { continue };
            self.first = other;
            if bytes.is_empty() {
                *pipe = None;
                return Ok(Some(Chunk::Closed(stream)));
            }
            return Ok(Some(Chunk::Bytes(stream, bytes)));
        }
        Ok(None)
    }
}

/// Reads what is there now, without waiting; `None` when nothing is, nothing at the end.
fn read_now(pipe: Option<&pipe::Receiver>) -> io::Result<Option<ReadBytes>> {
    let Some(pipe) = pipe else { return Ok(None) };
    let mut bytes = ReadBytes::empty();
    match pipe.try_read_buf(&mut bytes.0) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

async fn readable(pipe: Option<&pipe::Receiver>) -> io::Result<()> {
    match pipe {
        Some(pipe) => pipe.readable().await,
        None => std::future::pending().await,
    }
}

impl ReadBytes {
    fn empty() -> Self {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(spare.unwrap_or_else(|| Vec::with_capacity(CHUNK_MAX)))
    }
}

impl Deref for ReadBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for ReadBytes {
    fn drop(&mut self) {
        let mut buffer = mem::take(&mut self.0);
        buffer.clear();
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::*;

    #[tokio::test]
    async fn both_streams_come_out_and_close() {
        let (mut pipes, stdout, stderr) = OutputPipes::new().unwrap();
        File::from(stdout).write_all(b"out").unwrap();
        File::from(stderr).write_all(b"err").unwrap();
        let (mut out, mut err, mut closed) = (Vec::new(), Vec::new(), 0);
        while let Some(chunk) = pipes.next().await.unwrap() {
            match chunk {
                Chunk::Bytes(Stream::Stderr, bytes) => err.extend_from_slice(&bytes),
                Chunk::Bytes(_, bytes) => out.extend_from_slice(&bytes),
                Chunk::Closed(_) => closed += 1,
            }
        }
        assert_eq!((out.as_slice(), err.as_slice(), closed), (&b"out"[..], &b"err"[..], 2));
    }

    #[tokio::test]
    async fn a_stream_that_is_always_full_keeps_the_other_out_for_one_chunk() {
        let (mut pipes, stdout, stderr) = OutputPipes::new().unwrap();
        let (mut stdout, mut stderr) = (File::from(stdout), File::from(stderr));
        let mut order = Vec::new();
        for _ in 0..4 {
            stdout.write_all(b"out").unwrap();
            stderr.write_all(b"err").unwrap();
            let Some(Chunk::Bytes(stream, _)) = pipes.next().await.unwrap() else { panic!() };
            order.push(stream);
        }
        let (first, second) = (order[0], order[1]);
        assert_ne!(first, second);
        assert_eq!(order, [first, second, first, second]);
    }

    #[tokio::test]
    async fn a_stream_that_is_always_full_lets_other_tasks_run() {
        let (pipes, stdout, _stderr) = OutputPipes::new().unwrap();
        File::from(stdout).write_all(b"out").unwrap();
        assert!(pipes.readable().await.unwrap());
        let reads_on = async {
            for _ in 0..10_000 {
                pipes.readable().await.unwrap();
            }
        };
        tokio::select! {
            biased;
            () = reads_on => panic!("it has never let go"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test]
    async fn a_chunk_is_bounded_and_holds_nothing_of_the_one_before_it() {
        let (mut pipes, stdout, _stderr) = OutputPipes::new().unwrap();
        let mut stdout = File::from(stdout);
        stdout.write_all(&[b'x'; CHUNK_MAX]).unwrap();
        for (expected, then) in [(CHUNK_MAX, &b"short"[..]), (5, b"")] {
            let Some(Chunk::Bytes(Stream::Stdout, bytes)) = pipes.next().await.unwrap() else {
                panic!()
            };
            assert_eq!(bytes.len(), expected);
            drop(bytes);
            stdout.write_all(then).unwrap();
        }
        assert!(pipes.next_now().unwrap().is_none());
    }
}
