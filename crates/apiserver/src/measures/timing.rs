//! How long something took, counted without a lock: for what every request passes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use machinery::metrics::{line, number};

/// A histogram of seconds.
pub(super) struct Timing {
    ends: &'static [f64],
    buckets: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Timing {
    pub(super) fn new(ends: &'static [f64]) -> Self {
        Self {
            ends,
            // The last one is for what is beyond every end.
            buckets: (0..=ends.len()).map(|_| AtomicU64::new(0)).collect(),
            nanoseconds: AtomicU64::new(0),
        }
    }

    pub(super) fn note(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = self.ends.partition_point(|end| *end < seconds);
        self.buckets[at].fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    pub(super) fn render(&self, out: &mut String, name: &str, labels: &str) {
        let before = match labels {
            "" => String::new(),
            labels => format!("{labels},"),
        };
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        let ends = self.ends.iter().map(|end| number(*end));
        for (count, end) in self.buckets.iter().zip(ends.chain(["+Inf".to_owned()])) {
            below += count.load(Relaxed);
            line(out, &bucket, &format!("{before}le=\"{end}\""), below);
        }
        let seconds = Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64();
        line(out, &format!("{name}_sum"), labels, seconds);
        line(out, &format!("{name}_count"), labels, below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_every_end_counts_too() {
        let timing = Timing::new(&[0.1, 1.0]);
        for milliseconds in [50, 100, 400, 5000] {
            timing.note(Duration::from_millis(milliseconds));
        }
        let mut page = String::new();
        timing.render(&mut page, "a", "x=\"y\"");
        expect_test::expect![[r#"
            a_bucket{x="y",le="0.1"} 2
            a_bucket{x="y",le="1"} 3
            a_bucket{x="y",le="+Inf"} 4
            a_sum{x="y"} 5.55
            a_count{x="y"} 4
        "#]]
        .assert_eq(&page);
    }
}
