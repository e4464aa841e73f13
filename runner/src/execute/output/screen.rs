//! The display of a run, in a thread of its own.
//!
//! A terminal that is stopped (^S) or a pager that waits blocks whoever writes to it. That must
//! hold up the output of jobs and nothing else: times go on, and ^C is heard.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self as thread_channel, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{Notify, mpsc};

use crate::report::display::Display;

/// Bytes that may wait for the display before the jobs have to wait.
const PENDING_MAX: usize = 1024 * 1024;
/// What an event takes beside the bytes that it shows.
const EVENT_SIZE: usize = 256;
/// Between two movements of the spinners.
const TICK: Duration = Duration::from_millis(100);

/// Something to be done to the display, and what it counts until then.
type Act = (usize, Box<dyn FnOnce(&mut Display) -> io::Result<()> + Send>);

/// Where events are shown.
pub(in crate::execute) struct Screen {
    acts: thread_channel::Sender<Vec<Act>>,
    /// What the thread has not been woken for.
    next: Vec<Act>,
    pending: Arc<Pending>,
    failures: mpsc::UnboundedReceiver<io::Error>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: AtomicUsize,
    shown: Notify,
}

impl Screen {
    /// Starts the thread.
    pub(in crate::execute) fn start(mut display: Display) -> Self {
        let (acts, wanted) = thread_channel::channel::<Vec<Act>>();
        let (failed, failures) = mpsc::unbounded_channel();
        let pending = Arc::new(Pending::default());
        let shared = Arc::clone(&pending);
        let thread = std::thread::spawn(move || {
            loop {
                match wanted.recv_timeout(TICK) {
                    Ok(acts) => {
                        for (size, act) in acts {
                            if let Err(error) = act(&mut display) {
                                // Nobody may be left to hear it.
                                failed.send(error).ok();
                            }
                            shared.bytes.fetch_sub(size, Ordering::Relaxed);
                            shared.shown.notify_one();
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => display.tick(),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Self { acts, next: Vec::new(), pending, failures, thread }
    }

    /// Has `act` done to the display when its turn comes, after the next [`Self::flush`]; it shows
    /// about `bytes` bytes.
    pub(in crate::execute) fn act(
        &mut self,
        bytes: usize,
        act: impl FnOnce(&mut Display) -> io::Result<()> + Send + 'static,
    ) {
        let size = bytes + EVENT_SIZE;
        self.pending.bytes.fetch_add(size, Ordering::Relaxed);
        self.next.push((size, Box::new(act)));
    }

    /// Wakes the thread for what there is to be done, once for all of it: to wake it may cost more
    /// than to show a line.
    pub(in crate::execute) fn flush(&mut self) {
        if !self.next.is_empty() {
            // Without its thread there is no display any more, which was told as a failure.
            self.acts.send(std::mem::take(&mut self.next)).ok();
        }
    }

    /// Whether more output can be shown now.
    pub(in crate::execute) fn has_room(&self) -> bool {
        self.pending.bytes.load(Ordering::Relaxed) < PENDING_MAX
    }

    /// Waits until something was shown or has failed; returns the failure. Cancel-safe.
    pub(in crate::execute) async fn changed(&mut self) -> Option<io::Error> {
        tokio::select! {
            error = self.failures.recv() => error,
            () = self.pending.shown.notified(), if !self.pending.is_empty() => None,
        }
    }

    /// Waits until everything was shown.
    pub(in crate::execute) async fn finish(mut self) {
        self.flush();
        drop(self.acts);
        // A thread that has panicked has shown what it could.
        tokio::task::spawn_blocking(move || self.thread.join().ok()).await.ok();
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::report::display::Event;

    /// Takes one write, and blocks in the next until the other end says so.
    struct Stopped(thread_channel::Receiver<()>);

    impl Write for Stopped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_display_that_is_stopped_stops_nobody_else() {
        let (go_on, stopped) = thread_channel::channel();
        let mut screen = Screen::start(Display::plain(Box::new(Stopped(stopped)), false));
        screen.act(PENDING_MAX, |display| display.show(Event::RunStarted { run: "r", jobs: &[] }));
        screen.flush();
        assert!(!screen.has_room());
        go_on.send(()).unwrap();
        while !screen.has_room() {
            screen.changed().await;
        }
        drop(go_on);
        screen.act(0, |display| display.show(Event::RunStarted { run: "r", jobs: &[] }));
        screen.flush();
        let error = loop {
            if let Some(error) = screen.changed().await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        screen.finish().await;
    }
}
