//! What is counted and timed of a kubelet's work, under upstream's names.
//!
//! Upstream: `pkg/kubelet/metrics`, `pkg/kubelet/server/metrics`, `pkg/kubelet/prober` (`ProberResults`).

use std::collections::BTreeMap;
use std::time::Duration;

use machinery::metrics::{Histogram, head, line};
use parking_lot::Mutex;
use pod_lifecycle::probe::Kind;

/// Upper ends of seconds that Prometheus' clients have when nothing else is said.
const SECONDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// From five milliseconds, each two and a half times the one before.
const OPERATIONS: [f64; 14] = [
    0.005,
    0.0125,
    0.031_25,
    0.078_125,
    0.195_312_5,
    0.488_281_25,
    1.220_703_125,
    3.051_757_812_5,
    7.629_394_531_25,
    19.073_486_328_125,
    47.683_715_820_312_5,
    119.209_289_550_781_25,
    298.023_223_876_953_1,
    745.058_059_692_382_8,
];

/// Something that is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counter {
    Requests,
    SandboxErrors,
    Operations,
    OperationErrors,
    Containers,
    ContainerErrors,
    Pods,
    PodErrors,
}

/// Something that is timed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timing {
    Requests,
    Sandboxes,
    Operations,
}

impl Counter {
    /// Name and help.
    fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::Requests => (
                "kubelet_http_requests_total",
                "Number of the http requests received since the server started",
            ),
            Self::SandboxErrors => (
                "kubelet_run_podsandbox_errors_total",
                "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
            ),
            Self::Operations => (
                "kubelet_runtime_operations_total",
                "Cumulative number of runtime operations by operation type.",
            ),
            Self::OperationErrors => (
                "kubelet_runtime_operations_errors_total",
                "Cumulative number of runtime operation errors by operation type.",
            ),
            Self::Containers => (
                "kubelet_started_containers_total",
                "Cumulative number of containers started",
            ),
            Self::ContainerErrors => (
                "kubelet_started_containers_errors_total",
                "Cumulative number of errors when starting containers",
            ),
            Self::Pods => (
                "kubelet_started_pods_total",
                "Cumulative number of pods started",
            ),
            Self::PodErrors => (
                "kubelet_started_pods_errors_total",
                "Cumulative number of errors when starting pods",
            ),
        }
    }
}

impl Timing {
    /// Name, help and upper ends.
    fn text(self) -> (&'static str, &'static str, &'static [f64]) {
        match self {
            Self::Requests => (
                "kubelet_http_requests_duration_seconds",
                "Duration in seconds to serve http requests",
                &SECONDS,
            ),
            Self::Sandboxes => (
                "kubelet_run_podsandbox_duration_seconds",
                "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
                &SECONDS,
            ),
            Self::Operations => (
                "kubelet_runtime_operations_duration_seconds",
                "Duration in seconds of runtime operations. Broken down by operation type.",
                &OPERATIONS,
            ),
        }
    }
}

/// A probe of a container.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Probed {
    uid: String,
    container: String,
    namespace: String,
    pod: String,
    kind: &'static str,
}

/// How often a probe was answered how, and how long answers took.
struct Answers {
    successful: u64,
    failed: u64,
    unknown: u64,
    took: Histogram,
}

#[derive(Default)]
struct State {
    counters: BTreeMap<(Counter, String), u64>,
    timings: BTreeMap<(Timing, String), Histogram>,
    in_flight: BTreeMap<String, i64>,
    probes: BTreeMap<Probed, Answers>,
}

/// The figures of one kubelet.
#[derive(Default)]
pub(crate) struct Measures(Mutex<State>);

impl State {
    fn count(&mut self, counter: Counter, labels: String) {
        *self.counters.entry((counter, labels)).or_default() += 1;
    }

    fn time(&mut self, timing: Timing, labels: String, took: Duration) {
        let histogram = self.timings.entry((timing, labels));
        let histogram = histogram.or_insert_with(|| Histogram::new(timing.text().2));
        histogram.note(took.as_secs_f64());
    }
}

impl Measures {
    /// One more.
    pub(crate) fn count(&self, counter: Counter, labels: String) {
        self.0.lock().count(counter, labels);
    }

    /// A call of the runtime is over.
    pub(crate) fn called(&self, operation: &'static str, took: Duration, failed: bool) {
        let labels = format!("operation_type=\"{operation}\"");
        let mut state = self.0.lock();
        if failed {
            state.count(Counter::OperationErrors, labels.clone());
        }
        state.count(Counter::Operations, labels.clone());
        state.time(Timing::Operations, labels, took);
        if operation == "run_podsandbox" {
            let labels = "runtime_handler=\"\"".to_owned();
            if failed {
                state.count(Counter::SandboxErrors, labels.clone());
            }
            state.time(Timing::Sandboxes, labels, took);
        }
    }

    /// A request is there.
    pub(crate) fn arrived(&self, labels: &str) {
        let mut state = self.0.lock();
        state.count(Counter::Requests, labels.to_owned());
        *state.in_flight.entry(labels.to_owned()).or_default() += 1;
    }

    /// It has its answer, or what it stays open for has begun.
    pub(crate) fn answered(&self, labels: &str, took: Duration) {
        let mut state = self.0.lock();
        if let Some(count) = state.in_flight.get_mut(labels) {
            *count -= 1;
        }
        state.time(Timing::Requests, labels.to_owned(), took);
    }

    /// A container was probed; `None`: it could not be asked.
    pub(crate) fn probed(
        &self,
        (uid, namespace, pod): (&str, &str, &str),
        container: &str,
        kind: Kind,
        success: Option<bool>,
        took: Duration,
    ) {
        let probed = Probed {
            uid: uid.to_owned(),
            container: container.to_owned(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            kind: kind.title(),
        };
        let mut state = self.0.lock();
        let answers = state.probes.entry(probed).or_insert_with(|| Answers {
            successful: 0,
            failed: 0,
            unknown: 0,
            took: Histogram::new(&SECONDS),
        });
        match success {
            Some(true) => answers.successful += 1,
            Some(false) => answers.failed += 1,
            None => answers.unknown += 1,
        }
        // As upstream, which does not time what fails.
        if success != Some(false) {
            answers.took.note(took.as_secs_f64());
        }
    }

    /// The pod is gone, and what its probes gave with it.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().probes.retain(|probed, _| probed.uid != uid);
    }

    /// The part of the page at `/metrics` that is counted.
    pub(crate) fn render(&self, out: &mut String) {
        let state = self.0.lock();
        let mut last = None;
        for ((counter, labels), count) in &state.counters {
            let (name, help) = counter.text();
            if last.replace(*counter) != Some(*counter) {
                head(out, name, "counter", "ALPHA", help);
            }
            line(out, name, labels, count);
        }
        let mut last = None;
        for ((timing, labels), histogram) in &state.timings {
            let (name, help, _) = timing.text();
            if last.replace(*timing) != Some(*timing) {
                head(out, name, "histogram", "ALPHA", help);
            }
            histogram.render(out, name, labels);
        }
        let name = "kubelet_http_inflight_requests";
        let help = "Number of the inflight http requests";
        head(out, name, "gauge", "ALPHA", help);
        for (labels, count) in &state.in_flight {
            line(out, name, labels, count);
        }
    }

    /// The page at `/metrics/probes`.
    pub(crate) fn probes(&self) -> String {
        let state = self.0.lock();
        let mut out = String::new();
        if state.probes.is_empty() {
            return out;
        }
        let name = "prober_probe_duration_seconds";
        let help = "Duration in seconds for a probe response.";
        head(&mut out, name, "histogram", "ALPHA", help);
        for (probed, answers) in &state.probes {
            if answers.took.count() > 0 {
                let labels = format!(
                    "container=\"{}\",namespace=\"{}\",pod=\"{}\",probe_type=\"{}\"",
                    probed.container, probed.namespace, probed.pod, probed.kind
                );
                answers.took.render(&mut out, name, &labels);
            }
        }
        let name = "prober_probe_total";
        let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
        head(&mut out, name, "counter", "BETA", help);
        for (probed, answers) in &state.probes {
            for (result, count) in [
                ("failed", answers.failed),
                ("successful", answers.successful),
                ("unknown", answers.unknown),
            ] {
                if count > 0 {
                    let labels = format!(
                        "container=\"{}\",namespace=\"{}\",pod=\"{}\",pod_uid=\"{}\",probe_type=\"{}\",result=\"{result}\"",
                        probed.container, probed.namespace, probed.pod, probed.uid, probed.kind
                    );
                    line(&mut out, name, &labels, count);
                }
            }
        }
        out
    }
}
