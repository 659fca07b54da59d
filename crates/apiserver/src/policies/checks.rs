//! How often policies were asked, what followed, and how long it took, under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use access::admission::policies::validation::Check;
use parking_lot::Mutex;

use crate::metrics::{head, line};

const BUCKETS: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];

#[derive(Default)]
struct Count {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Count {
    fn observe(&mut self, seconds: f64) {
        self.count += 1;
        self.sum += seconds;
        for (bucket, le) in self.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= le);
        }
    }
}

/// Counts by their labels.
#[derive(Default)]
pub(super) struct Checks {
    validating: Mutex<BTreeMap<String, Count>>,
    mutating: Mutex<BTreeMap<String, Count>>,
}

impl Checks {
    /// A validating policy has been asked; what it found took so long together.
    pub(super) fn validated(&self, checks: &[Check], seconds: f64) {
        let mut all = self.validating.lock();
        for check in checks {
            let (action, error) = (check.action, check.error);
            let (policy, binding) = (&check.policy, &check.binding);
            let labels = format!(
                "enforcement_action={action:?},error_type={error:?},policy={policy:?},policy_binding={binding:?}"
            );
            all.entry(labels).or_default().observe(seconds);
        }
    }

    /// A mutation of a policy has been worked out.
    pub(super) fn mutated(&self, policy: &str, binding: &str, error: &str, seconds: f64) {
        let labels = format!("error_type={error:?},policy={policy:?},policy_binding={binding:?}");
        let mut all = self.mutating.lock();
        all.entry(labels).or_default().observe(seconds);
    }

    /// All of them; nothing when there are none.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        render(
            &mut out,
            "apiserver_validating_admission_policy",
            "BETA",
            "Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
            "Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.",
            &self.validating.lock(),
        );
        render(
            &mut out,
            "apiserver_mutating_admission_policy",
            "ALPHA",
            "Mutation admission policy check total, labeled by policy and further identified by binding.",
            "Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.",
            &self.mutating.lock(),
        );
        out
    }
}

fn render(
    out: &mut String,
    name: &str,
    level: &str,
    total: &str,
    duration: &str,
    all: &BTreeMap<String, Count>,
) {
    if all.is_empty() {
        return;
    }
    let counter = format!("{name}_check_total");
    head(out, &counter, "counter", level, total);
    for (labels, count) in all {
        line(out, &counter, labels, count.count);
    }
    let histogram = format!("{name}_check_duration_seconds");
    head(out, &histogram, "histogram", level, duration);
    for (labels, count) in all {
        for (bucket, le) in count.buckets.iter().zip(BUCKETS) {
            let _ = writeln!(out, "{histogram}_bucket{{{labels},le=\"{le}\"}} {bucket}");
        }
        let whole = format!("{labels},le=\"+Inf\"");
        line(out, &format!("{histogram}_bucket"), &whole, count.count);
        line(out, &format!("{histogram}_sum"), labels, count.sum);
        line(out, &format!("{histogram}_count"), labels, count.count);
    }
}
