//! What a container was made of is given back on threads that may wait: its control group until the
//! kernel has let go of it, its files until a million of them are freed.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    task::JoinSet,
};

/// So many may be under way while new containers are made: whoever makes them faster than they can
/// be removed waits.
const MOST: usize = 64;

/// The takedowns of a sandbox that are under way.
#[derive(Debug, Default)]
pub(crate) struct Takedowns {
    under_way: Mutex<JoinSet<()>>,
    one_less: Arc<Notify>,
}

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
        let one_less = Arc::clone(&self.one_less);
        let mut under_way = self.lock();
        while under_way.try_join_next().is_some() {}
        under_way.spawn_blocking_on(
            move || {
                // Nothing is ever sent: this is the wait.
                receiver.blocking_recv().ok();
                drop(share);
                one_less.notify_waiters();
            },
            &owner.runtime,
        );
    }

    /// Waits while too many are under way.
    pub(crate) async fn catch_up(&self) {
        loop {
            let mut one_less = pin!(self.one_less.notified());
            // From here on it hears of them.
            one_less.as_mut().enable();
            if self.count() < MOST {
                return;
            }
            one_less.await;
        }
    }

    fn count(&self) -> usize {
        let mut under_way = self.lock();
        while under_way.try_join_next().is_some() {}
        under_way.len()
    }

    /// Waits until all of them have ended.
    pub(crate) async fn finish(&self) {
        let under_way = std::mem::take(&mut *self.lock());
        under_way.join_all().await;
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
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
