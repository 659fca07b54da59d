//! What is counted and timed of decisions and bindings, under upstream's names.
//!
//! Filters and scores have no clock, so what each of them takes is not told; what they take together is.
//! Upstream: `pkg/scheduler/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use machinery::metrics::{Histogram, head, line};
use parking_lot::Mutex;
use scheduling::Tries;

use crate::cluster::{Cluster, Step, Took};

/// Upper ends, each twice the one before.
const fn doubling<const N: usize>(first: f64) -> [f64; N] {
    let mut ends = [first; N];
    let mut i = 1;
    while i < N {
        ends[i] = ends[i - 1] * 2.0;
        i += 1;
    }
    ends
}

static ATTEMPT: [f64; 15] = doubling(0.001);
static POINT: [f64; 12] = doubling(0.000_1);
static SINCE_QUEUED: [f64; 20] = doubling(0.01);
static TRIES: [f64; 5] = doubling(1.0);
static VICTIMS: [f64; 7] = doubling(1.0);

/// From so many attempts on they are told as one.
const MANY_ATTEMPTS: u32 = 15;

struct State {
    attempts: BTreeMap<&'static str, Histogram>,
    algorithm: Histogram,
    /// By extension point and status.
    points: BTreeMap<(&'static str, &'static str), Histogram>,
    tries: Histogram,
    /// By the number of attempts.
    since_queued: BTreeMap<u32, Histogram>,
    preemptions: u64,
    victims: Histogram,
}

/// The figures of one scheduler.
pub(crate) struct Measures {
    profile: String,
    state: Mutex<State>,
}

impl Measures {
    pub(crate) fn new(profile: &str) -> Self {
        Self {
            profile: profile.to_owned(),
            state: Mutex::new(State {
                attempts: BTreeMap::new(),
                algorithm: Histogram::new(&ATTEMPT),
                points: BTreeMap::new(),
                tries: Histogram::new(&TRIES),
                since_queued: BTreeMap::new(),
                preemptions: 0,
                victims: Histogram::new(&VICTIMS),
            }),
        }
    }

    /// It is decided what becomes of a pod.
    pub(crate) fn decided(&self, step: &Step, took: Took) {
        let mut state = self.state.lock();
        state.algorithm.note(took.algorithm.as_secs_f64());
        if let Some((time, found)) = took.preemption {
            let status = if found { "Success" } else { "Unschedulable" };
            state.point("PostFilter", status, time);
            state.preemptions += 1;
        }
        if let Some(preemption) = &step.preemption {
            state.victims.note(preemption.victims.len() as f64);
        }
    }

    /// A part of the way to a node is behind a pod.
    pub(crate) fn point(&self, point: &'static str, success: bool, took: Duration) {
        let status = if success { "Success" } else { "Error" };
        self.state.lock().point(point, status, took);
    }

    /// A pod is bound.
    pub(crate) fn scheduled(&self, (tries, started): (Tries, Instant)) {
        let mut state = self.state.lock();
        state.attempt("scheduled", started);
        state.tries.note(f64::from(tries.attempts));
        if let Some(since) = tries.since {
            let waited = Timestamp::now().duration_since(since).as_secs_f64();
            let attempts = tries.attempts.min(MANY_ATTEMPTS);
            let histogram = state.since_queued.entry(attempts);
            let histogram = histogram.or_insert_with(|| Histogram::new(&SINCE_QUEUED));
            histogram.note(waited.max(0.0));
        }
    }

    /// No node takes a pod.
    pub(crate) fn unschedulable(&self, started: Instant) {
        self.state.lock().attempt("unschedulable", started);
    }

    /// A node would have taken a pod, but something failed.
    pub(crate) fn failed(&self, started: Instant) {
        self.state.lock().attempt("error", started);
    }
}

impl State {
    fn attempt(&mut self, result: &'static str, started: Instant) {
        let histogram = self.attempts.entry(result);
        let histogram = histogram.or_insert_with(|| Histogram::new(&ATTEMPT));
        histogram.note(started.elapsed().as_secs_f64());
    }

    fn point(&mut self, point: &'static str, status: &'static str, took: Duration) {
        let histogram = self.points.entry((point, status));
        let histogram = histogram.or_insert_with(|| Histogram::new(&POINT));
        histogram.note(took.as_secs_f64());
    }

    fn render(&self, out: &mut String, profile: &str) {
        let name = "scheduler_framework_extension_point_duration_seconds";
        let help = "Latency for running all plugins of a specific extension point.";
        head(out, name, "histogram", "STABLE", help);
        for ((point, status), histogram) in &self.points {
            let labels =
                format!("extension_point=\"{point}\",profile=\"{profile}\",status=\"{status}\"");
            histogram.render(out, name, &labels);
        }
        let name = "scheduler_pod_scheduling_attempts";
        let help = "Number of attempts to successfully schedule a pod.";
        head(out, name, "histogram", "STABLE", help);
        self.tries.render(out, name, "");
        let name = "scheduler_pod_scheduling_sli_duration_seconds";
        let help = "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.";
        head(out, name, "histogram", "BETA", help);
        for (attempts, histogram) in &self.since_queued {
            let more = if *attempts >= MANY_ATTEMPTS { "+" } else { "" };
            histogram.render(out, name, &format!("attempts=\"{attempts}{more}\""));
        }
        let name = "scheduler_preemption_attempts_total";
        let help = "Total preemption attempts in the cluster till now";
        head(out, name, "counter", "STABLE", help);
        line(out, name, "", self.preemptions);
        let name = "scheduler_preemption_victims";
        let help = "Number of selected preemption victims for preemption initiated by a single pod";
        head(out, name, "histogram", "STABLE", help);
        self.victims.render(out, name, "");
        let name = "scheduler_schedule_attempts_total";
        let help = "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.";
        head(out, name, "counter", "STABLE", help);
        let labels = |result: &str| format!("profile=\"{profile}\",result=\"{result}\"");
        for (result, histogram) in &self.attempts {
            line(out, name, &labels(result), histogram.count());
        }
        let name = "scheduler_scheduling_algorithm_duration_seconds";
        let help = "Scheduling algorithm latency in seconds";
        head(out, name, "histogram", "BETA", help);
        self.algorithm.render(out, name, "");
        let name = "scheduler_scheduling_attempt_duration_seconds";
        let help = "Scheduling attempt latency in seconds (scheduling algorithm + binding)";
        head(out, name, "histogram", "STABLE", help);
        for (result, histogram) in &self.attempts {
            histogram.render(out, name, &labels(result));
        }
    }
}

/// Reads the figures of a scheduler that runs.
pub struct Metrics {
    cluster: Arc<Mutex<Cluster>>,
    measures: Arc<Measures>,
}

impl Metrics {
    pub(crate) fn new(cluster: Arc<Mutex<Cluster>>, measures: Arc<Measures>) -> Self {
        Self { cluster, measures }
    }

    /// The part of a page of metrics.
    pub fn render(&self) -> String {
        let (pending, incoming, size) = {
            let cluster = self.cluster.lock();
            let queue = cluster.queue();
            (queue.pending(), queue.incoming().clone(), cluster.size())
        };
        let profile = &self.measures.profile;
        let mut out = String::new();
        let name = "scheduler_cache_size";
        let help = "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.";
        head(&mut out, name, "gauge", "ALPHA", help);
        for (kind, count) in ["assumed_pods", "nodes", "pods"].iter().zip(size) {
            line(&mut out, name, &format!("type=\"{kind}\""), count);
        }
        let queues = [
            ("active", pending.active),
            ("backoff", pending.backing_off),
            ("gated", pending.gated),
            ("unschedulable", pending.waiting),
        ];
        let name = "scheduler_pending_pods";
        let help = "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulableEntities that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated; 'incomplete' means number of pods in incompletePodGroupPods; 'pending' means number of pods in pendingPodGroupPods.";
        head(&mut out, name, "gauge", "STABLE", help);
        for (queue, count) in queues {
            line(&mut out, name, &format!("queue=\"{queue}\""), count);
        }
        let name = "scheduler_queue_incoming_pods_total";
        let help = "Number of pods added to scheduling queues by event and queue type.";
        head(&mut out, name, "counter", "STABLE", help);
        for ((queue, event), count) in &incoming {
            let labels = format!("event=\"{event}\",queue=\"{queue}\"");
            line(&mut out, name, &labels, count);
        }
        let name = "scheduler_unschedulable_pods";
        let help = "The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for all plugins that caused it to not schedule and so this metric have meaning only when broken down by plugin.";
        head(&mut out, name, "gauge", "BETA", help);
        for (plugin, count) in &pending.by_plugin {
            let labels = format!("plugin=\"{plugin}\",profile=\"{profile}\"");
            line(&mut out, name, &labels, count);
        }
        self.measures.state.lock().render(&mut out, profile);
        out
    }
}
