//! Times as people compare them.

use std::time::Duration;

/// The median, the 99th percentile and the greatest, in milliseconds.
pub(super) fn percentiles(all: &mut [Duration]) -> [(&'static str, f64); 3] {
    all.sort_unstable();
    let at = |part: f64| {
        let index = (all.len() as f64 * part) as usize;
        let found = all.get(index.min(all.len().saturating_sub(1)));
        found.map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
    };
    [("p50", at(0.5)), ("p99", at(0.99)), ("max", at(1.0))]
}
