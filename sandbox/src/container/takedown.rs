//! What a container was made of is given back on threads that may wait: its control group until the
//! kernel has let go of it, its files until a million of them are freed.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{runtime::Handle, sync::oneshot, task::JoinSet};

/// The takedowns of a sandbox that are under way.
#[derive(Debug, Default)]
pub(crate) struct Takedowns(Mutex<JoinSet<()>>);

/// Says, by being dropped after it, that its owner has dropped its share of something.
#[derive(Debug)]
pub(super) struct LetGo {
    #[expect(dead_code, reason = "its end is what is heard of it")]
    sender: oneshot::Sender<Infallible>,
    receiver: Option<oneshot::Receiver<Infallible>>,
    runtime: Handle,
}

impl LetGo {
    /// # Panics
    /// Outside of a tokio runtime.
    pub(super) fn new() -> Self {
        let (sender, receiver) = oneshot::channel();
        Self { sender, receiver: Some(receiver), runtime: Handle::current() }
    }
}

impl Takedowns {
    /// Drops `share` on a thread that may wait, as the last one to do so: not before `owner`, the
    /// only other that has a share, has let go of it.
    pub(super) fn begin<T: Send + Sync + 'static>(&self, share: Arc<T>, owner: &mut LetGo) {
        let Some(receiver) = owner.receiver.take() else { return };
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while under_way.try_join_next().is_some() {}
        under_way.spawn_blocking_on(
            move || {
                // Nothing is ever sent: this is the wait.
                receiver.blocking_recv().ok();
                drop(share);
            },
            &owner.runtime,
        );
    }

    /// Waits until all of them have ended.
    pub(crate) async fn finish(&self) {
        let under_way = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        under_way.join_all().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        thread::{self, ThreadId},
    };

    use super::*;

    struct Heavy(mpsc::Sender<ThreadId>);

    impl Drop for Heavy {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    /// As in a container: the share goes before that which says so.
    struct Owner {
        #[expect(dead_code, reason = "dropped")]
        share: Arc<Heavy>,
        let_go: LetGo,
    }

    #[tokio::test]
    async fn the_last_share_is_dropped_elsewhere() {
        let takedowns = Takedowns::default();
        for _ in 0..100 {
            let (dropped, heard) = mpsc::channel();
            let share = Arc::new(Heavy(dropped));
            let mut owner = Owner { share: Arc::clone(&share), let_go: LetGo::new() };
            takedowns.begin(share, &mut owner.let_go);
            drop(owner);
            takedowns.finish().await;
            assert_ne!(heard.recv().unwrap(), thread::current().id());
        }
    }
}
