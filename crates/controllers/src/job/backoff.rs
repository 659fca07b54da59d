//! How long new pods wait after failures.

use std::time::Duration;

use jiff::Timestamp;

use crate::pods::finished_at;
use k8s_openapi::api::core::v1::Pod;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// The failures since the last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    count: u32,
    last: Option<Timestamp>,
}

impl Failures {
    /// Reads them off the pods that have failed and those that have succeeded.
    pub(super) fn of<'a>(
        failed: impl Iterator<Item = &'a Pod>,
        succeeded: impl Iterator<Item = &'a Pod>,
    ) -> Self {
        let success = succeeded.filter_map(finished_at).max();
        let times = failed.filter_map(finished_at);
        let times = times.filter(|at| success.is_none_or(|success| *at > success));
        times.fold(Self::default(), |so_far, at| Self {
            count: so_far.count + 1,
            last: so_far.last.max(Some(at)),
        })
    }

    /// So many, the last one by this pod.
    pub(super) fn ending_with(count: u32, pod: &Pod) -> Self {
        Self {
            count,
            last: finished_at(pod),
        }
    }

    /// How long to wait from now.
    pub(super) fn remaining(self, now: Timestamp) -> Duration {
        let (Some(last), Some(doublings)) = (self.last, self.count.checked_sub(1)) else {
            return Duration::ZERO;
        };
        let delay = FIRST * 2_u32.saturating_pow(doublings.min(6));
        let delay = delay.min(LONGEST);
        let elapsed = last.duration_until(now);
        let left = jiff::SignedDuration::try_from(delay).unwrap_or_default() - elapsed;
        Duration::try_from(left).unwrap_or_default().min(delay)
    }
}
