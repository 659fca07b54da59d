//! How long to wait before the next attempt.

use jiff::{SignedDuration, Timestamp};

/// The first delay of restarts and pulls, in seconds.
pub const INITIAL_SECONDS: i64 = 10;
/// The longest delay, in seconds.
pub const MAX_SECONDS: i64 = 300;

/// An exponential back-off: doubles on every failure, forgets after twice the longest delay without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the last failure, in seconds.
    pub seconds: i64,
    /// When the last failure was.
    pub last: Timestamp,
}

impl Backoff {
    /// The back-off after one more failure at `at`.
    pub fn after_failure(previous: Option<Backoff>, at: Timestamp) -> Backoff {
        let seconds = match previous {
            Some(b) if !b.expired(at) => (b.seconds * 2).min(MAX_SECONDS),
            _ => INITIAL_SECONDS,
        };
        Backoff { seconds, last: at }
    }

    /// Until when a failure at `at` makes us wait.
    pub fn until(&self, at: Timestamp) -> Option<Timestamp> {
        (!self.expired(at)).then(|| crate::pod::after(at, self.seconds))
    }

    fn expired(&self, at: Timestamp) -> bool {
        at.duration_since(self.last) > SignedDuration::from_secs(2 * MAX_SECONDS)
    }
}

/// The delay before try number `failures + 1` of something that has no user to blame: 1, 2, 4, 8, then 10 seconds.
pub fn retry_seconds(failures: u32) -> i64 {
    (1_i64 << failures.saturating_sub(1).min(4)).min(10)
}
