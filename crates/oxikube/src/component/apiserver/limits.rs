//! Flags about how much the server takes on, and for how long.

use std::time::Duration;

use apiserver::Limits;
use clap::builder::ArgAction;

use super::super::flags::duration;

/// Limits of requests and connections.
#[derive(clap::Args)]
#[group(id = "limits")]
pub(super) struct Flags {
    /// Reading requests at a time; with priority and fairness, a part of all seats.
    #[arg(long, default_value_t = 400)]
    max_requests_inflight: usize,
    /// Writing requests at a time; with priority and fairness, the other part of all seats.
    #[arg(long, default_value_t = 200)]
    max_mutating_requests_inflight: usize,
    /// Seats are given by flow schemas and priority levels.
    #[arg(long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    enable_priority_and_fairness: bool,
    /// A request that is not open by nature is answered in this time.
    #[arg(long, default_value = "1m0s", value_parser = duration)]
    request_timeout: Duration,
    /// A watch without a timeout of its own lives between so many seconds and twice as many.
    #[arg(long, default_value_t = 1800)]
    min_request_timeout: u64,
    /// So long the server goes on after it has been told to end, saying that it is not ready any more.
    #[arg(long, default_value = "0s", value_parser = duration)]
    shutdown_delay_duration: Duration,
    /// Streams of one HTTP/2 connection.
    #[arg(long, default_value_t = 250)]
    http2_max_streams_per_connection: u32,
}

impl Flags {
    /// What they say.
    pub(super) fn limits(&self) -> anyhow::Result<Limits> {
        let all = self.max_requests_inflight + self.max_mutating_requests_inflight;
        if self.enable_priority_and_fairness && all == 0 {
            anyhow::bail!(
                "--max-requests-inflight and --max-mutating-requests-inflight must sum to a positive \
                 value, or --enable-priority-and-fairness must be false"
            );
        }
        let usual = Limits::default();
        Ok(Limits {
            reading: self.max_requests_inflight,
            writing: self.max_mutating_requests_inflight,
            priority_and_fairness: self.enable_priority_and_fairness,
            request_timeout: self.request_timeout,
            min_request_timeout: Duration::from_secs(self.min_request_timeout),
            shutdown_delay: self.shutdown_delay_duration,
            streams: match self.http2_max_streams_per_connection {
                0 => usual.streams,
                streams => streams,
            },
        })
    }
}
