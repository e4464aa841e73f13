//! The two output pipes of a program, read as they fill.

use std::{io, os::fd::OwnedFd};

use tokio::{io::AsyncReadExt as _, net::unix::pipe};

use crate::log::index::Stream;

/// Bytes that are read at once; as much as a pipe holds by default.
const CHUNK: usize = 64 * 1024;

/// What came out of a program.
#[derive(Debug)]
pub(crate) enum Chunk<'a> {
    /// These bytes.
    Bytes(Stream, &'a [u8]),
    /// Every writer has closed this stream.
    Closed(Stream),
}

/// The reading ends of both pipes.
#[derive(Debug)]
pub(crate) struct OutputPipes {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    buffers: [Vec<u8>; 2],
}

impl OutputPipes {
    /// Makes both pipes; returns their writing ends too, for the program alone.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        let receiver =
            |reader: io::PipeReader| pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map(Some);
        let pipes = Self {
            stdout: receiver(stdout)?,
            stderr: receiver(stderr)?,
            buffers: [vec![0; CHUNK], vec![0; CHUNK]],
        };
        Ok((pipes, stdout_writer.into(), stderr_writer.into()))
    }

    /// Waits for the next chunk of either; `None` when both are closed. Cancel-safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Chunk<'_>>> {
        let [first, second] = &mut self.buffers;
        let (stream, read) = tokio::select! {
            read = read(&mut self.stdout, first), if self.stdout.is_some() => (Stream::Stdout, read?),
            read = read(&mut self.stderr, second), if self.stderr.is_some() => (Stream::Stderr, read?),
            else => return Ok(None),
        };
        Ok(Some(self.chunk(stream, read)))
    }

    /// The next chunk of what is there already; `None` when nothing is left to read now.
    pub(crate) fn next_now(&mut self) -> io::Result<Option<Chunk<'_>>> {
        let [first, second] = &mut self.buffers;
        if let Some(read) = read_now(self.stdout.as_ref(), first)? {
            return Ok(Some(self.chunk(Stream::Stdout, read)));
        }
        let read = read_now(self.stderr.as_ref(), second)?;
        Ok(read.map(|read| self.chunk(Stream::Stderr, read)))
    }

    /// What was just read from a stream.
    fn chunk(&mut self, stream: Stream, read: usize) -> Chunk<'_> {
        let (pipe, buffer) = match stream {
            Stream::Stderr => (&mut self.stderr, &self.buffers[1]),
            _ => (&mut self.stdout, &self.buffers[0]),
        };
        if read == 0 {
            *pipe = None;
            return Chunk::Closed(stream);
        }
        Chunk::Bytes(stream, buffer.get(..read).unwrap_or_default())
    }
}

/// Reads what is there now, without waiting; `None` when nothing is.
fn read_now(pipe: Option<&pipe::Receiver>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let Some(pipe) = pipe else { return Ok(None) };
    match pipe.try_read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

async fn read(pipe: &mut Option<pipe::Receiver>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
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
                Chunk::Bytes(Stream::Stderr, bytes) => err.extend_from_slice(bytes),
                Chunk::Bytes(_, bytes) => out.extend_from_slice(bytes),
                Chunk::Closed(_) => closed += 1,
            }
        }
        assert_eq!((out.as_slice(), err.as_slice(), closed), (&b"out"[..], &b"err"[..], 2));
    }
}
