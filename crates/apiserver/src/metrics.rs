//! Counters and histograms of the server, under upstream's names, in the text format of Prometheus.

pub(crate) mod webhooks;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use api::kind::Named;
use parking_lot::Mutex;

use crate::call::Call;

const BUCKETS: [f64; 14] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
];

/// What requests are counted by: group, version, resource, sub-resource, scope, verb.
type Labels = [String; 6];

#[derive(Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

#[derive(Default)]
struct State {
    requests: BTreeMap<(Labels, u16, bool), u64>,
    durations: BTreeMap<Labels, Histogram>,
    watches: BTreeMap<(String, String, String), i64>,
}

/// The metrics of one server.
#[derive(Default)]
pub(crate) struct Metrics {
    state: Mutex<State>,
    reading: AtomicI64,
    writing: AtomicI64,
    pub(crate) webhooks: webhooks::Webhooks,
}

/// A request that is counted as being in flight until it ends.
pub(crate) struct InFlight<'a> {
    metrics: &'a Metrics,
    gauge: Option<&'a AtomicI64>,
}

/// A watch that is counted as long as it lives.
pub(crate) struct WatchGuard {
    metrics: Arc<Metrics>,
    key: (String, String, String),
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if let Some(count) = self.metrics.state.lock().watches.get_mut(&self.key) {
            *count -= 1;
        }
    }
}

impl Metrics {
    /// Counts a request in.
    pub(crate) fn begin(&self, call: &Call) -> InFlight<'_> {
        let reading = matches!(call.info.verb, "get" | "list");
        let gauge = if reading {
            &self.reading
        } else {
            &self.writing
        };
        let gauge = (!call.info.is_long_running()).then_some(gauge);
        if let Some(gauge) = gauge {
            gauge.fetch_add(1, Ordering::Relaxed);
        }
        InFlight {
            metrics: self,
            gauge,
        }
    }

    /// Counts a watch in.
    pub(crate) fn watch(self: &Arc<Self>, names: &Named<'_>) -> WatchGuard {
        let key = (
            names.group.to_owned(),
            names.version.to_owned(),
            names.plural.to_owned(),
        );
        *self.state.lock().watches.entry(key.clone()).or_default() += 1;
        WatchGuard {
            metrics: self.clone(),
            key,
        }
    }

    /// The page at `/metrics`, as far as requests go.
    pub(crate) fn render(&self) -> String {
        let state = self.state.lock();
        let mut out = String::new();
        head(
            &mut out,
            "apiserver_request_total",
            "counter",
            "STABLE",
            "Counter of apiserver requests broken out for each verb, dry run value, group, \
             version, resource, scope, component, and HTTP response code.",
        );
        for ((labels, code, dry_run), count) in &state.requests {
            let dry = if *dry_run { "All" } else { "" };
            let own = format!("code=\"{code}\",component=\"apiserver\",dry_run=\"{dry}\",");
            line(
                &mut out,
                "apiserver_request_total",
                &(own + &names(labels)),
                *count,
            );
        }
        head(
            &mut out,
            "apiserver_request_duration_seconds",
            "histogram",
            "STABLE",
            "Response latency distribution in seconds for each verb, dry run value, group, \
             version, resource, subresource, scope and component.",
        );
        for (labels, histogram) in &state.durations {
            write_histogram(&mut out, &names(labels), histogram);
        }
        head(
            &mut out,
            "apiserver_longrunning_requests",
            "gauge",
            "STABLE",
            "Gauge of all active long-running apiserver requests broken out by verb, group, \
             version, resource, scope and component. Not all requests are tracked this way.",
        );
        for ((group, version, resource), count) in &state.watches {
            let own = format!(
                "component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"\",\
                 subresource=\"\",verb=\"WATCH\",version=\"{version}\""
            );
            line(&mut out, "apiserver_longrunning_requests", &own, *count);
        }
        head(
            &mut out,
            "apiserver_current_inflight_requests",
            "gauge",
            "STABLE",
            "Maximal number of currently used inflight request limit of this apiserver per \
             request kind in last second.",
        );
        for (kind, gauge) in [("mutating", &self.writing), ("readOnly", &self.reading)] {
            let own = format!("request_kind=\"{kind}\"");
            line(
                &mut out,
                "apiserver_current_inflight_requests",
                &own,
                gauge.load(Ordering::Relaxed),
            );
        }
        self.webhooks.render(&mut out);
        out
    }
}

impl InFlight<'_> {
    /// Counts the request out.
    pub(crate) fn end(self, call: &Call, code: u16, took: Duration) {
        if let Some(gauge) = self.gauge {
            gauge.fetch_sub(1, Ordering::Relaxed);
        }
        let info = &call.info;
        // A client must not make up label values without end.
        let found = call
            .server
            .resources()
            .get(&info.group, &info.version, &info.resource);
        let own = |text: &str| {
            if found.is_some() {
                text.to_owned()
            } else {
                String::new()
            }
        };
        let scope = match (
            found.is_some(),
            info.name.is_empty(),
            info.namespace.is_empty(),
        ) {
            (false, ..) => "",
            (_, false, _) => "resource",
            (_, _, false) => "namespace",
            _ => "cluster",
        };
        let verb = match info.verb {
            "create" => "POST".to_owned(),
            "update" => "PUT".to_owned(),
            other => other.to_ascii_uppercase(),
        };
        let subresource = found
            .as_ref()
            .and_then(|r| r.subresource(&info.subresource));
        let labels = [
            own(&info.group),
            own(&info.version),
            own(&info.resource),
            subresource.map_or("", |s| s.name()).to_owned(),
            scope.into(),
            verb,
        ];
        let dry_run = call.query.text("dryRun") == "All";
        let mut state = self.metrics.state.lock();
        *state
            .requests
            .entry((labels.clone(), code, dry_run))
            .or_default() += 1;
        if call.info.is_long_running() {
            return;
        }
        let histogram = state.durations.entry(labels).or_default();
        let seconds = took.as_secs_f64();
        histogram.count += 1;
        histogram.sum += seconds;
        for (bucket, _) in histogram
            .buckets
            .iter_mut()
            .zip(BUCKETS)
            .filter(|(_, le)| seconds <= *le)
        {
            *bucket += 1;
        }
    }
}

fn names([group, version, resource, subresource, scope, verb]: &Labels) -> String {
    format!(
        "group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",\
         verb=\"{verb}\",version=\"{version}\""
    )
}

// Writing into a String has no way to fail.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, level: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} [{level}] {help}\n# TYPE {name} {kind}");
}

pub(crate) fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{name}{{{labels}}} {value}");
}

fn write_histogram(out: &mut String, labels: &str, histogram: &Histogram) {
    let name = "apiserver_request_duration_seconds";
    let labels = format!("component=\"apiserver\",dry_run=\"\",{labels}");
    for (count, le) in histogram.buckets.iter().zip(BUCKETS) {
        line(
            out,
            &format!("{name}_bucket"),
            &format!("{labels},le=\"{le}\""),
            count,
        );
    }
    line(
        out,
        &format!("{name}_bucket"),
        &format!("{labels},le=\"+Inf\""),
        histogram.count,
    );
    line(out, &format!("{name}_sum"), &labels, histogram.sum);
    line(out, &format!("{name}_count"), &labels, histogram.count);
}
