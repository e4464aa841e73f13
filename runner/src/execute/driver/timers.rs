//! The times that a run waits for.

use std::{collections::HashMap, time::Duration};

use cofferdam_jobs::state::{Event, Timer};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::execute::message::Message;

/// Timers that are armed.
#[derive(Debug)]
pub(in crate::execute) struct Timers {
    armed: HashMap<Timer, AbortHandle>,
    messages: mpsc::Sender<Message>,
}

impl Timers {
    /// None armed; they report to `messages`.
    pub(in crate::execute) fn new(messages: mpsc::Sender<Message>) -> Self {
        Self { armed: HashMap::new(), messages }
    }

    /// Reports `timer` after this time, unless it is disarmed before.
    pub(in crate::execute) fn arm(&mut self, timer: Timer, after: Duration) {
        let messages = self.messages.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            // When the driver has gone, the run is over.
            messages.send(Message::Event(Event::TimerFired(timer))).await.ok();
        });
        if let Some(before) = self.armed.insert(timer, task.abort_handle()) {
            before.abort();
        }
    }

    /// Forgets it. It may have fired already, which the run expects.
    pub(in crate::execute) fn disarm(&mut self, timer: Timer) {
        if let Some(task) = self.armed.remove(&timer) {
            task.abort();
        }
    }
}
