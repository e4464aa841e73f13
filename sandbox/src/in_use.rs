//! Something that many hold, and that its end takes apart when the last of them has let go.

use std::{convert::Infallible, ops::Deref, sync::Arc};

use tokio::sync::mpsc;

/// A share. Whoever works on another thread holds one of its own, so that the end waits for it.
#[derive(Debug)]
pub(crate) struct InUse<T> {
    // Dropped in this order: who hears that a share has gone finds it gone.
    shared: Arc<T>,
    token: mpsc::Sender<Infallible>,
}

/// Hears when all shares have gone.
#[derive(Debug)]
pub(crate) struct Unused(mpsc::Receiver<Infallible>);

impl<T> InUse<T> {
    /// The first share.
    pub(crate) fn new(value: T) -> (Self, Unused) {
        let (token, gone) = mpsc::channel(1);
        (Self { shared: Arc::new(value), token }, Unused(gone))
    }

    /// Gives this share up, and keeps what it was of.
    pub(crate) fn into_inner(self) -> Arc<T> {
        self.shared
    }
}

impl Unused {
    /// Waits until all shares have gone.
    pub(crate) async fn wait(&mut self) {
        // Nothing is ever sent.
        self.0.recv().await;
    }
}

impl<T> Clone for InUse<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), token: self.token.clone() }
    }
}

impl<T> Deref for InUse<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_all_shares() {
        for _ in 0..100 {
            let (first, mut unused) = InUse::new(7);
            for _ in 0..3 {
                let share = first.clone();
                tokio::task::spawn_blocking(move || drop(share));
            }
            let kept = first.into_inner();
            unused.wait().await;
            assert_eq!(Arc::into_inner(kept), Some(7));
        }
    }
}
