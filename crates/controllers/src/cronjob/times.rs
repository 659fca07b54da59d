//! When a CronJob is due.
//!
//! Behaviour: `mostRecentScheduleTime` and its neighbours in `pkg/controller/cronjob/utils.go`.

use std::time::Duration;

use api::batch::schedule::{Schedule, time_zone};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;

/// Clocks differ a little; coming late by so much is better than coming early.
const LATE: Duration = Duration::from_millis(100);
/// More missed times than this are worth a warning.
const MANY: i64 = 100;

/// The schedule of a CronJob in its time zone.
pub(super) struct Clock {
    pub(super) schedule: Schedule,
    pub(super) zone: TimeZone,
}

/// A time that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    /// Very many were missed before it.
    pub(super) many_missed: bool,
}

struct Recent {
    earliest: Timestamp,
    due: Option<Timestamp>,
    missed: i64,
}

/// The time zone; the error is what is wrong with its name.
pub(super) fn zone(root: &CronJob) -> Result<TimeZone, String> {
    match &root.spec.time_zone {
        None => Ok(TimeZone::UTC),
        Some(name) => time_zone(name),
    }
}

impl Clock {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, &self.zone)
    }

    /// The last time before now for which no Job was made, if there is one.
    pub(super) fn due(&self, root: &CronJob, now: Timestamp) -> Result<Option<Due>, String> {
        let deadline = root.spec.starting_deadline_seconds;
        let recent = self.recent(root, now, deadline)?;
        Ok(recent.due.map(|at| Due {
            at,
            many_missed: recent.missed > MANY,
        }))
    }

    /// How long until the next time.
    pub(super) fn wait(&self, root: &CronJob, now: Timestamp) -> Option<Duration> {
        let from = match self.recent(root, now, None) {
            Err(_) => now,
            Ok(recent) => match recent.due {
                Some(due) => due,
                None if recent.missed == 0 => recent.earliest,
                None => now,
            },
        };
        let next = self.next(from)?;
        let wait = Duration::try_from(now.duration_until(next));
        Some(wait.unwrap_or_default() + LATE)
    }

    fn recent(
        &self,
        root: &CronJob,
        now: Timestamp,
        deadline: Option<i64>,
    ) -> Result<Recent, String> {
        let made = root.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let last = root
            .status
            .as_ref()
            .and_then(|s| s.last_schedule_time.as_ref());
        let mut earliest = last.map(|t| t.0).or(made).unwrap_or(now);
        if let Some(seconds) = deadline {
            let limit = now.saturating_sub(SignedDuration::from_secs(seconds.max(0)));
            earliest = earliest.max(limit.unwrap_or(Timestamp::MIN));
        }
        let nothing = |missed| {
            Ok(Recent {
                earliest,
                due: None,
                missed,
            })
        };
        let never = || "time difference between two schedules is less than 1 second".to_owned();
        let first = self.next(earliest).ok_or_else(never)?;
        if first > now {
            return nothing(0);
        }
        let second = self.next(first);
        if second.is_some_and(|second| second > now) {
            return Ok(Recent {
                earliest,
                due: Some(first),
                missed: 0,
            });
        }
        let between = second.map_or(0, |second| first.duration_until(second).as_secs());
        if between < 1 {
            return Err(never());
        }
        let missed = first.duration_until(now).as_secs() / between + 1;
        // From near the end, so that a year of minutes is no year of steps.
        let start = SignedDuration::from_secs((missed - 2).saturating_mul(between));
        let mut at = first.saturating_add(start).unwrap_or(first);
        let mut due = None;
        while let Some(next) = self.next(at).filter(|next| *next <= now) {
            due = Some(next);
            at = next;
        }
        match due {
            None => nothing(missed),
            due => Ok(Recent {
                earliest,
                due,
                missed,
            }),
        }
    }
}
