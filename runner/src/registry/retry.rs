//! Trying again: how long to wait, and when to give up.

use std::time::{Duration, SystemTime};

use reqwest::{StatusCode, header::HeaderValue};

/// The first wait; each further one is twice as long...
const FIRST: Duration = Duration::from_millis(250);
/// ...up to this.
const LONGEST: Duration = Duration::from_secs(10);
/// What a registry may ask for at most. Docker's asks for minutes when its quota is used up, and
/// then waiting is a person's decision.
const ASKED: Duration = Duration::from_secs(60);

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Attempts {
    made: u32,
    most: u32,
}

impl Attempts {
    pub(super) fn new(most: u32) -> Self {
        Self { made: 1, most }
    }

    /// How many there were.
    pub(super) fn made(&self) -> u32 {
        self.made
    }

    /// Begins to count anew, because something was achieved.
    pub(super) fn reset(&mut self) {
        self.made = 1;
    }

    /// How long to wait before the next try; `None` when there shall be none.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.made >= self.most || asked.is_some_and(|asked| asked > ASKED) {
            return None;
        }
        let doublings = self.made.saturating_sub(1).min(16);
        self.made += 1;
        let longest = FIRST.saturating_mul(1 << doublings).min(LONGEST);
        // Between a half and the whole, so that those who failed together do not come back
        // together.
        let wait = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        Some(asked.map_or(wait, |asked| asked.max(wait)))
    }
}

/// Whether an answer is one that may be different next time.
pub(super) fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// The wait that a `Retry-After` asks for (RFC 9110, section 10.2.3).
pub(super) fn asked(header: &HeaderValue) -> Option<Duration> {
    let text = header.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let mut attempts = Attempts::new(4);
        for longest in [250, 500, 1000] {
            let wait = attempts.next(None).unwrap();
            let longest = Duration::from_millis(longest);
            assert!(wait >= longest / 2 && wait <= longest, "{wait:?}");
        }
        assert_eq!((attempts.next(None), attempts.made()), (None, 4));
        attempts.reset();
        assert!(attempts.next(None).unwrap() <= FIRST);
    }

    #[test]
    fn a_registry_may_ask_for_some_patience() {
        let mut attempts = Attempts::new(9);
        assert_eq!(attempts.next(Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(attempts.next(Some(ASKED + Duration::from_secs(1))), None);
        let asked = |text: &str| asked(&HeaderValue::from_str(text).unwrap());
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert!(asked("Tue, 01 Jan 2999 00:00:00 GMT").unwrap() > ASKED);
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-1"), None);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, expect) in
            [(429, true), (500, true), (503, true), (404, false), (401, false), (501, false)]
        {
            assert_eq!(may_pass(StatusCode::from_u16(status).unwrap()), expect, "{status}");
        }
    }
}
