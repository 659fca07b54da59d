//! What is measured of one controller's queue, under the names of upstream's work queues.
//!
//! Upstream: `k8s.io/component-base/metrics/prometheus/workqueue`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use control::Key;
use machinery::metrics::{Histogram, head, line};

/// Upper ends of seconds, as Go multiplies them.
const ENDS: [f64; 10] = [
    1e-08,
    1e-07,
    1e-06,
    9.999_999_999_999_999e-06,
    9.999_999_999_999_999e-05,
    0.001,
    0.01,
    0.1,
    1.0,
    10.0,
];

/// The figures of one queue.
pub(crate) struct Measures {
    adds: u64,
    retries: u64,
    /// Since when items wait; those whose time has come were not waiting.
    waiting: HashMap<Key, Instant>,
    /// Since when items are at work.
    working: HashMap<Key, Instant>,
    waited: Histogram,
    worked: Histogram,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            adds: 0,
            retries: 0,
            waiting: HashMap::new(),
            working: HashMap::new(),
            waited: Histogram::new(&ENDS),
            worked: Histogram::new(&ENDS),
        }
    }
}

impl Measures {
    /// Something about the item changed.
    pub(crate) fn added(&mut self, key: &Key, now: Instant) {
        if !self.waiting.contains_key(key) {
            self.adds += 1;
            self.waiting.insert(key.clone(), now);
        }
    }

    /// The item is at work.
    pub(crate) fn taken(&mut self, key: &Key, now: Instant) {
        let since = self.waiting.remove(key);
        let waited = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.waited.note(waited.as_secs_f64());
        self.working.insert(key.clone(), now);
    }

    /// It is not any more.
    pub(crate) fn finished(&mut self, key: &Key, failed: bool, now: Instant) {
        if let Some(since) = self.working.remove(key) {
            let worked = now.saturating_duration_since(since);
            self.worked.note(worked.as_secs_f64());
        }
        self.retries += u64::from(failed);
    }

    /// A copy of the figures.
    pub(crate) fn figures(&self, depth: usize, now: Instant) -> Figures {
        let mut longest: f64 = 0.0;
        let mut unfinished = 0.0;
        for since in self.working.values() {
            let seconds = now.saturating_duration_since(*since).as_secs_f64();
            longest = longest.max(seconds);
            unfinished += seconds;
        }
        Figures {
            adds: self.adds,
            retries: self.retries,
            depth,
            longest,
            unfinished,
            waited: self.waited.clone(),
            worked: self.worked.clone(),
        }
    }
}

/// What a queue looked like at one moment.
pub(crate) struct Figures {
    adds: u64,
    retries: u64,
    depth: usize,
    longest: f64,
    unfinished: f64,
    waited: Histogram,
    worked: Histogram,
}

/// A name, its type and help, and one figure.
type Plain = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Figures) -> f64,
);

/// A name, its help, and one histogram.
type Timed = (&'static str, &'static str, fn(&Figures) -> &Histogram);

const PLAIN: [Plain; 5] = [
    (
        "workqueue_adds_total",
        "counter",
        "Total number of adds handled by workqueue",
        |f| f.adds as f64,
    ),
    (
        "workqueue_depth",
        "gauge",
        "Current depth of workqueue",
        |f| f.depth as f64,
    ),
    (
        "workqueue_longest_running_processor_seconds",
        "gauge",
        "How many seconds has the longest running processor for workqueue been running.",
        |f| f.longest,
    ),
    (
        "workqueue_retries_total",
        "counter",
        "Total number of retries handled by workqueue",
        |f| f.retries as f64,
    ),
    (
        "workqueue_unfinished_work_seconds",
        "gauge",
        "How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large values indicate stuck threads. One can deduce the number of stuck threads by observing the rate at which this increases.",
        |f| f.unfinished,
    ),
];

/// All queues by their names.
pub(crate) fn render(queues: &[(&str, Figures)]) -> String {
    let mut out = String::new();
    let labels = |queue: &str| format!("name=\"{queue}\"");
    for (name, kind, help, of) in PLAIN {
        head(&mut out, name, kind, "BETA", help);
        for (queue, figures) in queues {
            line(&mut out, name, &labels(queue), of(figures));
        }
    }
    let timings: [Timed; 2] = [
        (
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested.",
            |f| &f.waited,
        ),
        (
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes.",
            |f| &f.worked,
        ),
    ];
    for (name, help, of) in timings {
        head(&mut out, name, "histogram", "BETA", help);
        for (queue, figures) in queues {
            of(figures).render(&mut out, name, &labels(queue));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_waits_works_and_comes_back() {
        let (mut measures, start) = (Measures::default(), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let key = Key::cluster("a");
        measures.added(&key, at(0));
        measures.added(&key, at(1));
        measures.taken(&key, at(5));
        measures.finished(&key, true, at(55));
        measures.taken(&key, at(60));
        let figures = measures.figures(3, at(2060));
        let page = render(&[("deployment", figures)]);
        let chosen: Vec<&str> = page
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("_bucket"))
            .collect();
        expect_test::expect![[r#"
            workqueue_adds_total{name="deployment"} 1
            workqueue_depth{name="deployment"} 3
            workqueue_longest_running_processor_seconds{name="deployment"} 2
            workqueue_retries_total{name="deployment"} 1
            workqueue_unfinished_work_seconds{name="deployment"} 2
            workqueue_queue_duration_seconds_sum{name="deployment"} 0.005
            workqueue_queue_duration_seconds_count{name="deployment"} 2
            workqueue_work_duration_seconds_sum{name="deployment"} 0.05
            workqueue_work_duration_seconds_count{name="deployment"} 1"#]]
        .assert_eq(&chosen.join("\n"));
        assert!(page.contains(r#"le="9.999999999999999e-06"} 1"#), "{page}");
    }
}
