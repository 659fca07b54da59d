//! What is counted of the requests of one schema at one level.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::metrics::{head, line};

/// Upper ends in seconds, as upstream's.
const SECONDS: [f64; 13] = [
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0,
];
const SEATS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];
const LENGTHS: [f64; 8] = [0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const WATCHERS: [f64; 6] = [0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0];

/// How often a figure fell where.
pub(super) struct Histogram<const N: usize> {
    ends: &'static [f64; N],
    buckets: [AtomicU64; N],
    count: AtomicU64,
    /// In millionths.
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    const fn new(ends: &'static [f64; N]) -> Self {
        Self {
            ends,
            buckets: [const { AtomicU64::new(0) }; N],
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    pub(super) fn note(&self, value: f64) {
        if let Some(at) = self.ends.iter().position(|end| value <= *end) {
            self.buckets[at].fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Relaxed);
    }

    fn render(&self, out: &mut String, name: &str, labels: &str) {
        let count = self.count.load(Relaxed);
        if count == 0 {
            return;
        }
        let mut below = 0;
        for (end, bucket) in self.ends.iter().zip(&self.buckets) {
            below += bucket.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {below}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let sum = self.sum.load(Relaxed) as f64 / 1e6;
        line(out, &format!("{name}_sum"), labels, sum);
        line(out, &format!("{name}_count"), labels, count);
    }
}

/// The figures of one schema at one level.
pub(super) struct Counts {
    pub(super) schema: String,
    labels: String,
    pub(super) dispatched: AtomicU64,
    rejected: [AtomicU64; 3],
    pub(super) executing: AtomicI64,
    pub(super) executing_seats: AtomicI64,
    pub(super) waiting: AtomicI64,
    pub(super) waiting_seats: AtomicI64,
    waited: [Histogram<13>; 2],
    took: [Histogram<13>; 2],
    pub(super) seats: Histogram<8>,
    pub(super) length: Histogram<8>,
    pub(super) watchers: Histogram<6>,
}

const REASONS: [&str; 3] = ["concurrency-limit", "queue-full", "time-out"];

impl Counts {
    pub(super) fn new(level: &str, schema: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            labels: format!("flow_schema=\"{schema}\",priority_level=\"{level}\""),
            dispatched: AtomicU64::new(0),
            rejected: [const { AtomicU64::new(0) }; 3],
            executing: AtomicI64::new(0),
            executing_seats: AtomicI64::new(0),
            waiting: AtomicI64::new(0),
            waiting_seats: AtomicI64::new(0),
            waited: [const { Histogram::new(&SECONDS) }; 2],
            took: [const { Histogram::new(&SECONDS) }; 2],
            seats: Histogram::new(&SEATS),
            length: Histogram::new(&LENGTHS),
            watchers: Histogram::new(&WATCHERS),
        }
    }

    /// Somebody is refused.
    pub(super) fn reject(&self, reason: &str) {
        if let Some(at) = REASONS.iter().position(|r| *r == reason) {
            self.rejected[at].fetch_add(1, Relaxed);
        }
    }

    /// Somebody has waited, and is served or not.
    pub(super) fn waited(&self, time: Duration, execute: bool) {
        self.waited[usize::from(execute)].note(time.as_secs_f64());
    }

    /// Somebody was served.
    pub(super) fn took(&self, time: Duration, watch: bool) {
        self.took[usize::from(watch)].note(time.as_secs_f64());
    }
}

type Gauge = fn(&Counts) -> i64;

/// Adds the figures of all to the page at `/metrics`.
pub(super) fn render(out: &mut String, all: &[&Counts]) {
    let name = |rest: &str| format!("apiserver_flowcontrol_{rest}");
    let rejected = name("rejected_requests_total");
    let help = "Number of requests rejected by API Priority and Fairness subsystem";
    head(out, &rejected, "counter", "BETA", help);
    for counts in all {
        for (reason, count) in REASONS.iter().zip(&counts.rejected) {
            let count = count.load(Relaxed);
            if count > 0 {
                let labels = format!("{},reason=\"{reason}\"", counts.labels);
                line(out, &rejected, &labels, count);
            }
        }
    }
    let dispatched = name("dispatched_requests_total");
    let help = "Number of requests executed by API Priority and Fairness subsystem";
    head(out, &dispatched, "counter", "BETA", help);
    for counts in all {
        let count = counts.dispatched.load(Relaxed);
        if count > 0 {
            line(out, &dispatched, &counts.labels, count);
        }
    }
    let gauges: [(&str, &str, &str, Gauge); 4] = [
        (
            "current_inqueue_requests",
            "BETA",
            "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
            |c| c.waiting.load(Relaxed),
        ),
        (
            "current_inqueue_seats",
            "ALPHA",
            "Number of seats currently pending in queues of the API Priority and Fairness subsystem",
            |c| c.waiting_seats.load(Relaxed),
        ),
        (
            "current_executing_requests",
            "BETA",
            "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
            |c| c.executing.load(Relaxed),
        ),
        (
            "current_executing_seats",
            "BETA",
            "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
            |c| c.executing_seats.load(Relaxed),
        ),
    ];
    for (rest, level, help, of) in gauges {
        head(out, &name(rest), "gauge", level, help);
        for counts in all.iter().filter(|c| c.dispatched.load(Relaxed) > 0) {
            line(out, &name(rest), &counts.labels, of(counts));
        }
    }
    render_histograms(out, all);
}

fn render_histograms(out: &mut String, all: &[&Counts]) {
    let name = |rest: &str| format!("apiserver_flowcontrol_{rest}");
    let waited = name("request_wait_duration_seconds");
    let help = "Length of time a request spent waiting in its queue";
    head(out, &waited, "histogram", "BETA", help);
    for counts in all {
        for (execute, histogram) in ["false", "true"].iter().zip(&counts.waited) {
            let labels = format!("execute=\"{execute}\",{}", counts.labels);
            histogram.render(out, &waited, &labels);
        }
    }
    let took = name("request_execution_seconds");
    let help = "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem";
    head(out, &took, "histogram", "ALPHA", help);
    for counts in all {
        for (kind, histogram) in ["regular", "watch"].iter().zip(&counts.took) {
            let labels = format!("{},type=\"{kind}\"", counts.labels);
            histogram.render(out, &took, &labels);
        }
    }
    let seats = name("work_estimated_seats");
    let help = "Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness";
    head(out, &seats, "histogram", "ALPHA", help);
    for counts in all {
        counts.seats.render(out, &seats, &counts.labels);
    }
    let length = name("request_queue_length_after_enqueue");
    let help = "Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued";
    head(out, &length, "histogram", "ALPHA", help);
    for counts in all {
        counts.length.render(out, &length, &counts.labels);
    }
    let watchers = name("watch_count_samples");
    let help = "count of watchers for mutating requests in API Priority and Fairness";
    head(out, &watchers, "histogram", "ALPHA", help);
    for counts in all {
        counts.watchers.render(out, &watchers, &counts.labels);
    }
}
