//! What `exec` passes on of a command's output: masked always, cleaned on a terminal, bounded.
//!
//! Into a file or a pipe the bytes go as they are, because another program reads them. On a
//! terminal they could retitle the window or answer for the user, so only text and colours pass.

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::fd::OwnedFd,
    sync::Arc,
};

use tokio::io::AsyncWriteExt as _;

use crate::{
    exit::Exit,
    log::{
        index::Stream,
        masker::{Ending, Masker},
        needles::Needles,
        terminal::Sanitizer,
    },
    problem::Problem,
    report::quantity::Bytes,
    supervise::Chunk,
};

/// Both streams on their way out.
#[derive(Debug)]
pub(super) struct Show {
    stdout: Way<tokio::io::Stdout>,
    stderr: Way<tokio::io::Stderr>,
    limit: u64,
    left: u64,
    dropped: u64,
    finished: bool,
}

/// One stream on its way out.
#[derive(Debug)]
struct Way<W> {
    masker: Masker,
    sanitizer: Option<Sanitizer>,
    masked: Vec<u8>,
    target: W,
    closed: bool,
}

impl Show {
    pub(super) fn new(needles: Arc<Needles>, limit: u64) -> Self {
        let sanitizer = |terminal: bool| terminal.then(|| Sanitizer::new(true));
        Self {
            stdout: Way {
                masker: Masker::new(Arc::clone(&needles)),
                sanitizer: sanitizer(io::stdout().is_terminal()),
                masked: Vec::new(),
                target: tokio::io::stdout(),
                closed: false,
            },
            stderr: Way {
                masker: Masker::new(needles),
                sanitizer: sanitizer(io::stderr().is_terminal()),
                masked: Vec::new(),
                target: tokio::io::stderr(),
                closed: false,
            },
            limit,
            left: limit,
            dropped: 0,
            finished: false,
        }
    }

    /// Whether no more will come.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Passes a chunk on; `false` when nobody reads any more.
    pub(super) async fn take(&mut self, chunk: io::Result<Option<Chunk>>) -> Result<bool, Problem> {
        let chunk = chunk.map_err(|error| {
            Problem::new(Exit::System, "failed to read the command's output").because(error)
        })?;
        let result = match chunk {
            None => {
                self.finished = true;
                Ok(())
            }
            Some(Chunk::Bytes(stream, bytes)) => self.pass(stream, &bytes).await,
            Some(Chunk::Closed(stream)) => self.close(stream, Ending::Closed).await,
        };
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.finished = true;
                Ok(false)
            }
            Err(error) => {
                Err(Problem::new(Exit::System, "failed to pass the output on").because(error))
            }
        }
    }

    async fn pass(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let keep = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= keep as u64;
        self.dropped += (bytes.len() - keep) as u64;
        let bytes = bytes.get(..keep).unwrap_or_default();
        match stream {
            Stream::Stderr => self.stderr.pass(bytes).await,
            _ => self.stdout.pass(bytes).await,
        }
    }

    async fn close(&mut self, stream: Stream, ending: Ending) -> io::Result<()> {
        match stream {
            Stream::Stderr => self.stderr.close(ending).await,
            _ => self.stdout.close(ending).await,
        }
    }

    /// Passes on what was held back, and says how much was dropped.
    pub(super) async fn finish(&mut self) -> Result<(), Problem> {
        self.finished = true;
        for stream in [Stream::Stdout, Stream::Stderr] {
            match self.close(stream, Ending::Cut).await {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(
                        Problem::new(Exit::System, "failed to pass the output on").because(error)
                    );
                }
                _ => {}
            }
        }
        if self.dropped > 0 {
            crate::print::standard_error(format_args!(
                "cofferdam: {} of output dropped: the limit is {} (`--log-limit`)",
                Bytes(self.dropped),
                Bytes(self.limit)
            ));
        }
        Ok(())
    }
}

impl<W: tokio::io::AsyncWrite + Unpin> Way<W> {
    async fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.masked.clear();
        self.masker.push(bytes, &mut self.masked);
        self.write().await
    }

    async fn close(&mut self, ending: Ending) -> io::Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.masked.clear();
        self.masker.finish(ending, &mut self.masked);
        self.write().await?;
        if let Some(sanitizer) = &mut self.sanitizer {
            let mut rest = String::new();
            sanitizer.flush(|line| rest.push_str(line));
            self.target.write_all(rest.as_bytes()).await?;
        }
        self.target.flush().await
    }

    async fn write(&mut self) -> io::Result<()> {
        match &mut self.sanitizer {
            None => self.target.write_all(&self.masked).await?,
            Some(sanitizer) => {
                let mut text = String::new();
                sanitizer.push(&self.masked, |line| {
                    text.push_str(line);
                    text.push('\n');
                });
                self.target.write_all(text.as_bytes()).await?;
            }
        }
        self.target.flush().await
    }
}

/// Copies standard input to the command until either ends. The thread dies with the process.
pub(super) fn pass_input(input: OwnedFd) {
    std::thread::spawn(move || {
        let mut target = std::fs::File::from(input);
        let mut source = io::stdin().lock();
        let mut buffer = vec![0; 64 * 1024];
        // The command may close its input whenever it likes, and so may the user.
        while let Ok(read @ 1..) = source.read(&mut buffer) {
            let Some(bytes) = buffer.get(..read) else { return };
            if target.write_all(bytes).is_err() {
                return;
            }
        }
    });
}
