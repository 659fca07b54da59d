//! How much the server takes on, and for how long.

use std::time::Duration;

/// What an operator may choose; by default what upstream has.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Reading requests at a time.
    pub reading: usize,
    /// Writing requests at a time.
    pub writing: usize,
    /// Both together are seats, given by priority and fairness; otherwise each is a limit of its own.
    pub priority_and_fairness: bool,
    /// A request that is not open by nature is answered in this time.
    pub request_timeout: Duration,
    /// A watch without a timeout of its own lives between this long and twice as long.
    pub min_request_timeout: Duration,
    /// So long the server goes on after it has been told to end, saying that it is not ready any more.
    pub shutdown_delay: Duration,
    /// Streams of one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reading: 400,
            writing: 200,
            priority_and_fairness: true,
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            shutdown_delay: Duration::ZERO,
            streams: 250,
        }
    }
}
