//! Why the containers of a run have lost their way out while they ran, once they have.

use std::sync::{Arc, OnceLock};

/// The first reason; shared by all that can be one, and all that tell it.
#[derive(Clone, Debug, Default)]
pub(super) struct Loss(Arc<OnceLock<String>>);

impl Loss {
    /// The way out is gone.
    pub(super) fn report(&self, why: String) {
        // The first one brought about the others. Whoever reads of it can ask for it.
        self.0.set(why.clone()).ok();
        tracing::warn!("containers cannot reach the network any more: {why}");
    }

    /// Why it is gone; `None` while it is there.
    pub(super) fn why(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_is_told_by_all() {
        let loss = Loss::default();
        let other = loss.clone();
        assert_eq!(other.why(), None);
        loss.report("first".to_owned());
        other.report("second".to_owned());
        assert_eq!(other.why().as_deref(), Some("first"));
    }
}
