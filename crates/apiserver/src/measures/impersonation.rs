//! What is counted of those who act as somebody else.
//!
//! Upstream: `k8s.io/apiserver/pkg/endpoints/filters/impersonation/metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::MOMENTS;
use crate::metrics::{Histogram, head, line};

/// By mode, and whether it was allowed.
type Counts = Mutex<BTreeMap<(&'static str, bool), Histogram>>;

#[derive(Default)]
pub(crate) struct Impersonation {
    attempts: Counts,
    questions: Counts,
}

fn note(counts: &Counts, mode: &'static str, allowed: bool, took: Duration) {
    let mut counts = counts.lock();
    let histogram = counts.entry((mode, allowed));
    let histogram = histogram.or_insert_with(|| Histogram::new(&MOMENTS));
    histogram.note(took.as_secs_f64());
}

impl Impersonation {
    /// Somebody acts as another in this way, or may in none.
    pub(crate) fn attempted(&self, mode: Option<&'static str>, took: Duration) {
        note(&self.attempts, mode.unwrap_or(""), mode.is_some(), took);
    }

    /// An authorizer was asked about a part of it.
    pub(crate) fn asked(&self, mode: &'static str, allowed: bool, took: Duration) {
        note(&self.questions, mode, allowed, took);
    }

    pub(super) fn render(&self, out: &mut String) {
        let all = [
            (
                "apiserver_impersonation_attempts",
                "impersonation attempts",
                &self.attempts,
            ),
            (
                "apiserver_impersonation_authorization_attempts",
                "authorization checks made by the impersonation handler",
                &self.questions,
            ),
        ];
        for (name, what, counts) in all {
            let counts = counts.lock();
            if counts.is_empty() {
                continue;
            }
            let labels = |(mode, allowed): &(&str, bool)| {
                let decision = if *allowed { "allowed" } else { "denied" };
                format!("decision=\"{decision}\",mode=\"{mode}\"")
            };
            let help = format!("Latency of {what} in seconds split by mode and decision.");
            let timing = format!("{name}_duration_seconds");
            head(out, &timing, "histogram", "ALPHA", &help);
            for (key, histogram) in counts.iter() {
                histogram.render(out, &timing, &labels(key));
            }
            let help = format!("Total number of {what} split by mode and decision.");
            head(out, &format!("{name}_total"), "counter", "ALPHA", &help);
            for (key, histogram) in counts.iter() {
                line(
                    out,
                    &format!("{name}_total"),
                    &labels(key),
                    histogram.count(),
                );
            }
        }
    }
}
