//! How long the stages of the road took that every request passes, and who waits for a seat.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use super::timing::Timing;
use crate::metrics::{head, line};

static SECONDS: [f64; 13] = [
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0, 10.0, 15.0, 30.0,
];

/// A stage, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Audit,
    Authentication,
    Authorization,
    Fairness,
    Impersonation,
}

const NAMES: [&str; 5] = [
    "audit",
    "authentication",
    "authorization",
    "priorityandfairness",
    "constrainedimpersonation",
];

pub(crate) struct Stages {
    took: [Timing; 5],
    /// Who waits: to write, to read.
    waiting: [AtomicI64; 2],
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            took: std::array::from_fn(|_| Timing::new(&SECONDS)),
            waiting: Default::default(),
        }
    }
}

/// Somebody who waits, until it is dropped.
pub(crate) struct Waiting<'a>(&'a AtomicI64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Stages {
    /// A stage is over.
    pub(crate) fn passed(&self, stage: Stage, took: Duration) {
        self.took[stage as usize].note(took);
    }

    /// Counts somebody who may have to wait.
    pub(crate) fn wait(&self, reading: bool) -> Waiting<'_> {
        let waiting = &self.waiting[usize::from(reading)];
        waiting.fetch_add(1, Relaxed);
        Waiting(waiting)
    }

    pub(super) fn render(&self, out: &mut String) {
        let name = "apiserver_request_filter_duration_seconds";
        let help = "Request filter latency distribution in seconds, for each filter type";
        head(out, name, "histogram", "ALPHA", help);
        for (timing, stage) in self.took.iter().zip(NAMES) {
            timing.render(out, name, &format!("filter=\"{stage}\""));
        }
        let name = "apiserver_current_inqueue_requests";
        let help =
            "Maximal number of queued requests in this apiserver per request kind in last second.";
        head(out, name, "gauge", "ALPHA", help);
        for (count, kind) in self.waiting.iter().zip(["mutating", "readOnly"]) {
            let labels = format!("request_kind=\"{kind}\"");
            line(out, name, &labels, count.load(Relaxed));
        }
    }
}
