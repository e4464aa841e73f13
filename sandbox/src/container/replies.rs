//! What a container's init answers, and who waits for it.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::oneshot,
};

use super::exit::Exit;
use crate::{
    channel::Channel,
    error::Error,
    init::message::{Failure, Reply},
};

pub(super) type Started = Result<Option<OwnedFd>, Failure>;

/// Who waits for what from the init.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) started: HashMap<u64, oneshot::Sender<Started>>,
    pub(super) exited: HashMap<u64, oneshot::Sender<Exit>>,
    /// Set when the init has ended: nothing will come any more.
    pub(super) ended: bool,
}

/// Passes the init's replies to those who wait for them, until it ends.
pub(super) async fn receive_replies(receiver: AsyncFd<Channel>, waiting: Arc<Mutex<Waiting>>) {
    loop {
        let received =
            receiver.async_io(Interest::READABLE, |receiver| receiver.receive::<Reply>()).await;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match received {
            Ok(Some((reply, descriptors))) => waiting.pass(reply, descriptors),
            // Whether it closed its end or sent nonsense: it is of no more use, and dropping the
            // senders tells everyone who waits.
            Ok(None) | Err(_) => {
                *waiting = Waiting { ended: true, ..Waiting::default() };
                return;
            }
        }
    }
}

impl Waiting {
    pub(super) fn forget(&mut self, id: u64) {
        self.started.remove(&id);
        self.exited.remove(&id);
    }

    /// A receiver that has gone away does not want the news.
    fn pass(&mut self, reply: Reply, mut descriptors: Vec<OwnedFd>) {
        match reply {
            Reply::Started { id } => {
                if let Some(started) = self.started.remove(&id) {
                    started.send(Ok(descriptors.pop())).ok();
                }
            }
            Reply::StartFailed { id, failure } => {
                self.exited.remove(&id);
                if let Some(started) = self.started.remove(&id) {
                    started.send(Err(failure)).ok();
                }
            }
            Reply::Exited { id, status, user_us, system_us, max_rss } => {
                if let Some(exited) = self.exited.remove(&id) {
                    exited.send(Exit::new(status, user_us, system_us, max_rss)).ok();
                }
            }
            Reply::Ready | Reply::SetupFailed(_) => {}
        }
    }
}

/// Why a program was not started, and what its author can do about that.
pub(super) fn not_started(failure: Failure) -> Error {
    let remedy = match failure.errno {
        _ if !failure.pipeline => None,
        libc::ENOENT | libc::ENOTDIR => {
            Some("name a program of the image: by a path, or by a name that is in its `PATH`")
        }
        libc::EACCES | libc::ENOEXEC => {
            Some("make it executable, and name its interpreter in a first line `#!/bin/sh`")
        }
        _ => None,
    };
    let error = failure.into_error();
    match remedy {
        Some(remedy) => error.remedy(remedy),
        None => error,
    }
}
