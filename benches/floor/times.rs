//! Many durations, and what they come to.

use std::time::Duration;

/// Durations of the same thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// In milliseconds, what so many percent of them are below; 0 when there are none.
    pub(crate) fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let time = self.0.get(self.0.len() * percent / 100).copied().unwrap_or_default();
        time.as_secs_f64() * 1000.0
    }
}
