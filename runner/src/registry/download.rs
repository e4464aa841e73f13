//! A layer on its way: fetched by the event loop, read by the thread that unpacks it.
//!
//! A connection that breaks, falls silent or crawls is given up, and the rest is asked for by a
//! `Range`; the bytes that came stay read, so the hashes go on where they were.

use std::{
    io::{self, Read},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use cofferdam_sandbox::{Error, image::Digest};
use reqwest::{
    Response, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use tokio::{runtime::Handle, sync::mpsc, task::AbortHandle};

use super::{
    failure::{Failure, innermost},
    host::Failed,
    repository::Reach,
    retry::Attempts,
};

/// Pieces that may wait to be read; each has some ten kilobytes.
const WAITING: usize = 64;
/// Bytes that must have come for a broken connection not to count as a failed try.
const PROGRESS: u64 = 1 << 20;
/// The least that may come while a connection is waited for as long as it may be silent.
const CRAWL: u64 = 16 * 1024;

/// The bytes of a blob from its first to its last, however many connections that takes.
#[derive(Debug)]
pub(super) struct Download {
    pieces: mpsc::Receiver<Result<Bytes, Error>>,
    current: Bytes,
    task: AbortHandle,
}

impl Download {
    pub(super) fn start(
        runtime: &Handle,
        reach: Arc<Reach>,
        digest: Digest,
        size: u64,
        doing: String,
    ) -> Self {
        let (sender, pieces) = mpsc::channel(WAITING);
        let task = runtime.spawn(async move {
            let left = patience(reach.settings.idle, size);
            let fetch = Fetch { reach, digest, size, at: 0, left, sender };
            let sender = fetch.sender.clone();
            if let Err(failed) = fetch.run().await {
                // Nobody listens where the reader was dropped.
                sender.send(Err(failed.during(&doing))).await.ok();
            }
        });
        Self { pieces, current: Bytes::new(), task: task.abort_handle() }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.current = piece,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.split_to(count).copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}

/// How long a layer may be waited for in all, as multiples of the time that a connection may be
/// silent, and a second more for so many bytes. One that is never quite silent, and brings just
/// enough each time for a broken connection not to count, could go on for weeks.
const PATIENCE: u32 = 20;
const SECOND: u64 = 128 * 1024;

struct Fetch {
    reach: Arc<Reach>,
    digest: Digest,
    size: u64,
    /// Bytes that came.
    at: u64,
    /// How much longer it is waited for; the time in which it waits for us does not count.
    left: Duration,
    sender: mpsc::Sender<Result<Bytes, Error>>,
}

/// How one connection ended.
enum Ended {
    /// With the last byte, or because nobody reads any more.
    Done,
    Broken(Failure),
}

impl Fetch {
    async fn run(mut self) -> Result<(), Failed> {
        let mut attempts = Attempts::new(self.reach.settings.attempts);
        let mut counted = 0;
        let mut last = None;
        loop {
            let failure = match (self.connection().await, last.take()) {
                (Ok(Ended::Done), _) => return Ok(()),
                (Ok(Ended::Broken(failure)), _) => failure,
                // There is no more than what came before.
                (Err(failed), Some(last)) if failed.failure.is_beyond_the_end() => {
                    return Err(Failed::after(last, attempts.made()));
                }
                (Err(failed), _) => return Err(failed),
            };
            if self.at - counted >= PROGRESS {
                attempts.reset();
                counted = self.at;
            }
            match attempts.next(None).filter(|wait| self.waits(*wait)) {
                Some(wait) => {
                    last = Some(failure);
                    tokio::time::sleep(wait).await;
                }
                None => return Err(Failed::after(failure, attempts.made())),
            }
        }
    }

    /// Fetches what is missing, as far as one connection brings it.
    async fn connection(&mut self) -> Result<Ended, Failed> {
        let mut headers = HeaderMap::new();
        if self.at > 0 {
            let range = format!("bytes={}-", self.at);
            let range = HeaderValue::from_str(&range).map_err(|error| {
                Failure::Own(Error::system("ask for the rest of a layer", error))
            })?;
            headers.insert(header::RANGE, range);
        }
        let asking = Instant::now();
        let (host, response) = self.reach.get("blobs", &self.digest.to_string(), &headers).await?;
        if !self.waits(asking.elapsed()) {
            return Err(self.late(&host));
        }
        // One that does not know ranges sends everything again.
        let skip = if self.at > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            self.at
        } else {
            self.check_range(&host, &response)?;
            0
        };
        self.receive(&host, response, skip).await
    }

    /// Counts time that was waited; false when there is none left.
    fn waits(&mut self, time: Duration) -> bool {
        self.left = self.left.saturating_sub(time);
        !self.left.is_zero()
    }

    fn late(&self, host: &str) -> Failed {
        let (at, size) = (self.at, self.size);
        let seconds = patience(self.reach.settings.idle, size).as_secs();
        let why = format!("`{host}` had sent {at} bytes of {size} after {seconds} s of waiting");
        Failure::Short(why).into()
    }

    fn check_range(&self, host: &str, response: &Response) -> Result<(), Failure> {
        if self.at == 0 {
            return Ok(());
        }
        let range = response.headers().get(header::CONTENT_RANGE);
        let range = range.and_then(|range| range.to_str().ok()).unwrap_or_default();
        if range.starts_with(&format!("bytes {}-", self.at)) {
            return Ok(());
        }
        Err(Failure::Refused(format!("`{host}` sends another part than the one asked for")))
    }

    async fn receive(
        &mut self,
        host: &str,
        mut response: Response,
        mut skip: u64,
    ) -> Result<Ended, Failed> {
        let mut pace = Pace::new(self.reach.settings.idle);
        loop {
            let waiting = Instant::now();
            let piece = match tokio::time::timeout(pace.window, response.chunk()).await {
                Ok(Ok(piece)) => piece,
                Ok(Err(error)) if error.is_timeout() => {
                    return Ok(Ended::Broken(pace.silent(host)));
                }
                Ok(Err(error)) => {
                    let (at, size, why) = (self.at, self.size, innermost(&error));
                    let why = format!(
                        "the connection to `{host}` broke after {at} bytes of {size}: {why}"
                    );
                    return Ok(Ended::Broken(Failure::Short(why)));
                }
                Err(_) => return Ok(Ended::Broken(pace.silent(host))),
            };
            let Some(mut piece) = piece else {
                if self.at == self.size {
                    return Ok(Ended::Done);
                }
                let (at, size) = (self.at, self.size);
                let why = format!("`{host}` ended after {at} bytes of {size}");
                return Ok(Ended::Broken(Failure::Short(why)));
            };
            if !self.waits(waiting.elapsed()) {
                return Err(self.late(host));
            }
            if pace.crawls(waiting.elapsed(), piece.len() as u64) {
                return Ok(Ended::Broken(pace.silent(host)));
            }
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            piece.advance(skipped);
            skip -= skipped as u64;
            self.at += piece.len() as u64;
            if self.at > self.size {
                let size = self.size;
                let why = format!("`{host}` sends more than the {size} bytes that were promised");
                return Err(Failure::Refused(why).into());
            }
            if !piece.is_empty() && self.sender.send(Ok(piece)).await.is_err() {
                return Ok(Ended::Done);
            }
        }
    }
}

/// How long a layer of this size is waited for in all.
fn patience(idle: Duration, size: u64) -> Duration {
    idle.saturating_mul(PATIENCE).saturating_add(Duration::from_secs(size / SECOND))
}

/// Tells a connection that crawls: only the time counts in which we wait for it, for we may be the
/// slow ones.
struct Pace {
    window: Duration,
    waited: Duration,
    came: u64,
}

impl Pace {
    fn new(window: Duration) -> Self {
        Self { window, waited: Duration::ZERO, came: 0 }
    }

    fn crawls(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.came += bytes;
        if self.waited < self.window {
            return false;
        }
        let crawls = self.came < CRAWL;
        *self = Self::new(self.window);
        crawls
    }

    fn silent(&self, host: &str) -> Failure {
        Failure::Silent { host: host.to_owned(), patience: self.window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_waited_for_by_its_size() {
        let idle = Duration::from_secs(30);
        assert_eq!(patience(idle, 0), Duration::from_secs(600));
        assert_eq!(patience(idle, 128 << 20), Duration::from_secs(600 + 1024));
        assert!(patience(Duration::MAX, u64::MAX) > idle);
    }

    #[test]
    fn a_crawl_is_told_from_a_reader_that_is_slow() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second * 30);
        for _ in 0..29 {
            assert!(!pace.crawls(second, 100));
        }
        assert!(pace.crawls(second, 100));
        // Counted anew.
        for _ in 0..29 {
            assert!(!pace.crawls(second, 100));
        }
        assert!(!pace.crawls(second, CRAWL));
        // Nothing was waited for.
        for _ in 0..1000 {
            assert!(!pace.crawls(Duration::ZERO, 1));
        }
    }
}
