//! The text format of Prometheus, as components of Kubernetes write it: names with their level, labels, histograms.
//!
//! Whoever measures keeps the figures; clocks are theirs too.

use std::fmt::{Display, Write as _};

/// How often a figure fell where.
#[derive(Clone, Debug)]
pub struct Histogram {
    ends: &'static [f64],
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    /// Without any figure, between these upper ends.
    pub fn new(ends: &'static [f64]) -> Self {
        Self {
            ends,
            buckets: vec![0; ends.len()],
            count: 0,
            sum: 0.0,
        }
    }

    /// One more figure.
    pub fn note(&mut self, value: f64) {
        if let Some(at) = self.ends.iter().position(|end| value <= *end) {
            self.buckets[at] += 1;
        }
        self.count += 1;
        self.sum += value;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Its lines.
    pub fn render(&self, out: &mut String, name: &str, labels: &str) {
        let mut below = 0;
        let before = match labels {
            "" => String::new(),
            labels => format!("{labels},"),
        };
        for (count, end) in self.buckets.iter().zip(self.ends) {
            below += count;
            let end = number(*end);
            let _ = writeln!(out, "{name}_bucket{{{before}le=\"{end}\"}} {below}");
        }
        let count = self.count;
        let _ = writeln!(out, "{name}_bucket{{{before}le=\"+Inf\"}} {count}");
        line(out, &format!("{name}_sum"), labels, self.sum);
        line(out, &format!("{name}_count"), labels, count);
    }
}

/// How long a figure was where, as if it were noted at the end of every nanosecond. Nothing runs for that: what has passed is
/// added up when the figure changes and when somebody looks.
///
/// Upstream: `k8s.io/component-base/metrics/prometheusextension` (`TimingHistogram`).
#[derive(Clone, Debug)]
pub struct Lasting {
    ends: &'static [f64],
    /// Nanoseconds; the last ones are those beyond every end.
    buckets: Vec<u64>,
    sum: f64,
    value: f64,
    /// The bucket of the value.
    at: usize,
    since: u64,
}

impl Lasting {
    /// Nothing so far, between these upper ends, and a figure of nothing from now on.
    pub fn new(ends: &'static [f64], nanos: u64) -> Self {
        let mut this = Self {
            ends,
            buckets: vec![0; ends.len() + 1],
            sum: 0.0,
            value: 0.0,
            at: 0,
            since: nanos,
        };
        this.at = this.place();
        this
    }

    fn place(&self) -> usize {
        let at = self.ends.iter().position(|end| self.value <= *end);
        at.unwrap_or(self.ends.len())
    }

    /// The figure stayed what it was until now.
    pub fn pass(&mut self, nanos: u64) {
        let passed = nanos.saturating_sub(self.since);
        self.since = self.since.max(nanos);
        self.buckets[self.at] += passed;
        self.sum += self.value * passed as f64;
    }

    /// From now on the figure is this.
    pub fn set(&mut self, nanos: u64, value: f64) {
        self.pass(nanos);
        if value.to_bits() != self.value.to_bits() {
            self.value = value;
            self.at = self.place();
        }
    }

    /// Its lines, up to the last change or look.
    pub fn render(&self, out: &mut String, name: &str, labels: &str) {
        let mut below = 0;
        let ends = self.ends.iter().map(|end| number(*end));
        for (nanos, end) in self.buckets.iter().zip(ends.chain(["+Inf".to_owned()])) {
            below += nanos;
            let count = number(below as f64);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {count}");
        }
        line(out, &format!("{name}_sum"), labels, number(self.sum));
        let count = number(below as f64);
        line(out, &format!("{name}_count"), labels, count);
    }
}

/// A number as Go writes it in its shortest form.
pub fn number(value: f64) -> String {
    if value == 0.0 || (1e-4..1e6).contains(&value.abs()) || !value.is_finite() {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    match power.strip_prefix('-') {
        Some(power) => format!("{digits}e-{power:0>2}"),
        None => format!("{digits}e+{power:0>2}"),
    }
}

// Writing into a String has no way to fail.
/// What stands before the samples of a name: `counter`, `gauge` or `histogram`, and `ALPHA`, `BETA` or `STABLE`.
pub fn head(out: &mut String, name: &str, kind: &str, level: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} [{level}] {help}\n# TYPE {name} {kind}");
}

/// The same for names without a level.
pub fn head_plain(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A sample; without labels no braces.
pub fn line(out: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

/// The names of a page by their level, as it says itself at its end.
pub fn registered(page: &str) -> String {
    let levels = page.lines().filter_map(|line| {
        let text = line.strip_prefix("# HELP ")?;
        let (_, rest) = text.split_once(" [")?;
        Some(rest.split_once(']')?.0)
    });
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    for level in levels {
        *counts.entry(level).or_default() += 1;
    }
    let mut out = String::new();
    let help = "The count of registered metrics broken by stability level and deprecation version.";
    head(
        &mut out,
        "registered_metrics_total",
        "counter",
        "BETA",
        help,
    );
    for (level, count) in counts {
        let labels = format!("deprecated_version=\"\",stability_level=\"{level}\"");
        line(&mut out, "registered_metrics_total", &labels, count);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_go() {
        for (value, wanted) in [
            (0.0, "0"),
            (0.005, "0.005"),
            (0.00005, "5e-05"),
            (0.000_016, "1.6e-05"),
            (1.0, "1"),
            (131_072.0, "131072"),
            (1e6, "1e+06"),
            (1.05e6, "1.05e+06"),
            (1e12, "1e+12"),
        ] {
            assert_eq!(number(value), wanted);
        }
    }

    #[test]
    fn a_figure_lasts_until_it_changes() {
        let mut lasting = Lasting::new(&[0.0, 0.5, 1.0], 1_000);
        lasting.set(2_000, 0.5);
        lasting.set(2_500, 7.0);
        // Clocks of several processors may disagree a little.
        lasting.set(2_400, 1.0);
        lasting.pass(4_000_500);
        let mut page = String::new();
        lasting.render(&mut page, "use", "level=\"a\"");
        expect_test::expect![[r#"
            use_bucket{level="a",le="0"} 1000
            use_bucket{level="a",le="0.5"} 1500
            use_bucket{level="a",le="1"} 3.9995e+06
            use_bucket{level="a",le="+Inf"} 3.9995e+06
            use_sum{level="a"} 3.99825e+06
            use_count{level="a"} 3.9995e+06
        "#]]
        .assert_eq(&page);
    }

    #[test]
    fn a_histogram_counts_upwards() {
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        for value in [0.25, 0.75, 7.0] {
            histogram.note(value);
        }
        let mut page = String::new();
        head(&mut page, "a_seconds", "histogram", "ALPHA", "Help.");
        histogram.render(&mut page, "a_seconds", "");
        page += &registered(&page);
        expect_test::expect![[r#"
            # HELP a_seconds [ALPHA] Help.
            # TYPE a_seconds histogram
            a_seconds_bucket{le="0.5"} 1
            a_seconds_bucket{le="1"} 2
            a_seconds_bucket{le="+Inf"} 3
            a_seconds_sum 8
            a_seconds_count 3
            # HELP registered_metrics_total [BETA] The count of registered metrics broken by stability level and deprecation version.
            # TYPE registered_metrics_total counter
            registered_metrics_total{deprecated_version="",stability_level="ALPHA"} 1
        "#]]
        .assert_eq(&page);
    }
}
