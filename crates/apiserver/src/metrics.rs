//! Counters and histograms of the server, under upstream's names, in the text format of Prometheus.

pub(crate) mod holdings;
pub(crate) mod process;
pub(crate) mod webhooks;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use access::user::API_SERVER;
use api::kind::Named;
pub(crate) use machinery::metrics::{Histogram, head, line};
use parking_lot::Mutex;

use crate::call::Call;
use crate::measures::Measures;

/// Upper ends of seconds, as upstream's.
pub(crate) const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
const BYTES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// What requests are counted by: group, version, resource, sub-resource, scope, verb.
type Labels = [Box<str>; 6];

/// What is known of the answers to requests of one kind.
struct Answers {
    took: Histogram,
    /// Without the time that they waited for a seat.
    served: Histogram,
    bytes: Histogram,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            took: Histogram::new(&SECONDS),
            served: Histogram::new(&SECONDS[2..]),
            bytes: Histogram::new(&BYTES),
        }
    }
}

/// All that is known of requests of one kind.
#[derive(Default)]
struct Requests {
    /// By code, and whether they were dry.
    counts: Vec<((u16, bool), u64)>,
    /// Those that stay open by nature have none.
    answers: Option<Answers>,
}

#[derive(Default)]
struct State {
    /// By the hash of their labels, so that counting one more makes no labels.
    requests: HashMap<u64, Vec<(Labels, Requests)>>,
    watches: Watches,
    hasher: RandomState,
}

impl State {
    fn of(&mut self, labels: [&str; 6]) -> &mut Requests {
        let same = self
            .requests
            .entry(self.hasher.hash_one(labels))
            .or_default();
        let is = |(known, _): &(Labels, Requests)| known.iter().map(|k| &**k).eq(labels);
        let at = same.iter().position(is).unwrap_or_else(|| {
            same.push((labels.map(Box::from), Requests::default()));
            same.len() - 1
        });
        &mut same[at].1
    }

    /// In the order of their labels.
    fn sorted(&self) -> Vec<&(Labels, Requests)> {
        let mut all: Vec<_> = self.requests.values().flatten().collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

/// How many watchers there are of a resource (group, version, name), and what they were told.
type Watches = BTreeMap<(String, String, String), (i64, Arc<Told>)>;

/// The events that watchers of one resource were told.
#[derive(Default)]
struct Told {
    buckets: [AtomicU64; EVENT_BYTES.len()],
    count: AtomicU64,
    bytes: AtomicU64,
}

/// Upper ends of the sizes of events.
const EVENT_BYTES: [u64; 8] = [1024, 2048, 4096, 8192, 16384, 32768, 65536, 131_072];

impl Told {
    fn note(&self, bytes: usize) {
        let bytes = bytes as u64;
        if let Some(at) = EVENT_BYTES.iter().position(|end| bytes <= *end) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn render(&self, out: &mut String, name: &str, labels: &str) {
        let mut below = 0;
        for (bucket, end) in self.buckets.iter().zip(EVENT_BYTES) {
            below += bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {below}");
        }
        let count = self.count.load(Ordering::Relaxed).max(below);
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let bytes = self.bytes.load(Ordering::Relaxed);
        line(out, &format!("{name}_sum"), labels, bytes);
        line(out, &format!("{name}_count"), labels, count);
    }
}

/// The metrics of one server.
#[derive(Default)]
pub(crate) struct Metrics {
    state: Mutex<State>,
    /// What is measured on the way of a request.
    pub(crate) measures: Measures,
    reading: AtomicI64,
    writing: AtomicI64,
    pub(crate) webhooks: webhooks::Webhooks,
    /// What came of the checks of health.
    pub(crate) health: Mutex<machinery::health::Records>,
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
    told: Arc<Told>,
}

impl WatchGuard {
    /// The client has the state that it wanted in its watch.
    pub(crate) fn listed(&self, scope: &'static str, took: Duration) {
        let (group, version, resource) = &self.key;
        let measures = &self.metrics.measures;
        measures.watch_listed([group, version, resource], scope, took);
    }

    /// An event of so many bytes was told.
    pub(crate) fn tell(&self, bytes: usize) {
        self.told.note(bytes);
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if let Some((count, _)) = self.metrics.state.lock().watches.get_mut(&self.key) {
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
        let told = {
            let mut state = self.state.lock();
            let (count, told) = state.watches.entry(key.clone()).or_default();
            *count += 1;
            told.clone()
        };
        WatchGuard {
            metrics: self.clone(),
            key,
            told,
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
        let requests = state.sorted();
        let answers: Vec<_> = (requests.iter())
            .filter_map(|(labels, of)| Some((labels, of.answers.as_ref()?)))
            .collect();
        for (labels, of) in &requests {
            let mut counts = of.counts.clone();
            counts.sort_unstable();
            for ((code, dry_run), count) in counts {
                let dry = if dry_run { "All" } else { "" };
                let own = format!("code=\"{code}\",component=\"apiserver\",dry_run=\"{dry}\",");
                let labels = own + &names(labels);
                line(&mut out, "apiserver_request_total", &labels, count);
            }
        }
        head(
            &mut out,
            "apiserver_request_duration_seconds",
            "histogram",
            "STABLE",
            "Response latency distribution in seconds for each verb, dry run value, group, \
             version, resource, subresource, scope and component.",
        );
        for (labels, answers) in &answers {
            let own = format!("component=\"apiserver\",dry_run=\"\",{}", names(labels));
            let name = "apiserver_request_duration_seconds";
            answers.took.render(&mut out, name, &own);
        }
        let name = "apiserver_request_sli_duration_seconds";
        head(
            &mut out,
            name,
            "histogram",
            "ALPHA",
            "Response latency distribution (not counting webhook duration and priority & \
             fairness queue wait times) in seconds for each verb, group, version, resource, \
             subresource, scope and component.",
        );
        for (labels, answers) in &answers {
            let own = format!("component=\"apiserver\",{}", names(labels));
            answers.served.render(&mut out, name, &own);
        }
        let name = "apiserver_response_sizes";
        head(
            &mut out,
            name,
            "histogram",
            "STABLE",
            "Response size distribution in bytes for each group, version, verb, resource, \
             subresource, scope and component.",
        );
        for (labels, answers) in &answers {
            if answers.bytes.count() > 0 {
                let own = format!("component=\"apiserver\",{}", names(labels));
                answers.bytes.render(&mut out, name, &own);
            }
        }
        self.render_under_way(&mut out, &state.watches);
        render_told(&mut out, &state.watches);
        self.webhooks.render(&mut out);
        self.measures.render(&mut out);
        out
    }

    fn render_under_way(&self, out: &mut String, watches: &Watches) {
        head(
            out,
            "apiserver_longrunning_requests",
            "gauge",
            "STABLE",
            "Gauge of all active long-running apiserver requests broken out by verb, group, \
             version, resource, scope and component. Not all requests are tracked this way.",
        );
        for ((group, version, resource), (count, _)) in watches {
            let own = format!(
                "component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"\",\
                 subresource=\"\",verb=\"WATCH\",version=\"{version}\""
            );
            line(out, "apiserver_longrunning_requests", &own, *count);
        }
        head(
            out,
            "apiserver_current_inflight_requests",
            "gauge",
            "STABLE",
            "Maximal number of currently used inflight request limit of this apiserver per \
             request kind in last second.",
        );
        for (kind, gauge) in [("mutating", &self.writing), ("readOnly", &self.reading)] {
            let own = format!("request_kind=\"{kind}\"");
            line(
                out,
                "apiserver_current_inflight_requests",
                &own,
                gauge.load(Ordering::Relaxed),
            );
        }
    }
}

fn render_told(out: &mut String, watches: &Watches) {
    let labels = |(group, version, resource): &(String, String, String)| {
        format!("group=\"{group}\",resource=\"{resource}\",version=\"{version}\"")
    };
    let heard = || {
        watches
            .iter()
            .filter(|(_, (_, told))| told.count.load(Ordering::Relaxed) > 0)
    };
    let name = "apiserver_watch_events_total";
    head(
        out,
        name,
        "counter",
        "ALPHA",
        "Number of events sent in watch clients",
    );
    for (key, (_, told)) in heard() {
        line(out, name, &labels(key), told.count.load(Ordering::Relaxed));
    }
    let name = "apiserver_watch_events_sizes";
    head(
        out,
        name,
        "histogram",
        "ALPHA",
        "Watch event size distribution in bytes",
    );
    for (key, (_, told)) in heard() {
        told.render(out, name, &labels(key));
    }
}

impl InFlight<'_> {
    /// Counts the request out.
    pub(crate) fn end(self, call: &Call, code: u16, took: Duration, bytes: Option<u64>) {
        if let Some(gauge) = self.gauge {
            gauge.fetch_sub(1, Ordering::Relaxed);
        }
        let info = &call.info;
        let resources = call.server.resources();
        // A client must not make up label values without end.
        let found = resources.get(&info.group, &info.version, &info.resource);
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
        let (mut names, mut subresource) = (["", "", ""], "");
        if let Some(found) = &found {
            names = [&info.group, &info.version, &info.resource].map(String::as_str);
            let known = found.subresource(&info.subresource);
            subresource = known.map_or("", |s| s.name());
        }
        let [group, version, resource] = names;
        let verb = upper(info.verb);
        if call.user.name == API_SERVER {
            let below = match found.is_some() {
                true => subresource.to_owned(),
                false => info.path.split('/').take(3).collect::<Vec<_>>().join("/"),
            };
            let of = [group, resource, &*below, &*verb];
            self.metrics.measures.callers.own(of);
        }
        let dry_run = call.query.text("dryRun") == "All";
        let mut state = self.metrics.state.lock();
        let of = state.of([group, version, resource, subresource, scope, &verb]);
        match of.counts.iter_mut().find(|(of, _)| *of == (code, dry_run)) {
            Some((_, count)) => *count += 1,
            None => of.counts.push(((code, dry_run), 1)),
        }
        if info.is_long_running() {
            return;
        }
        let answers = of.answers.get_or_insert_default();
        answers.took.note(took.as_secs_f64());
        if matches!(info.verb, "create" | "update" | "patch") {
            let how = call.query.text("fieldValidation");
            self.metrics.measures.validated(how, took);
        }
        let served = took.saturating_sub(call.waited);
        answers.served.note(served.as_secs_f64());
        if let Some(bytes) = bytes {
            answers.bytes.note(bytes as f64);
        }
    }
}

/// A verb as it is counted.
fn upper(verb: &'static str) -> Cow<'static, str> {
    match verb {
        "create" | "post" => "POST".into(),
        "update" | "put" => "PUT".into(),
        "get" => "GET".into(),
        "list" => "LIST".into(),
        "watch" => "WATCH".into(),
        "patch" => "PATCH".into(),
        "delete" => "DELETE".into(),
        other => other.to_ascii_uppercase().into(),
    }
}

fn names([group, version, resource, subresource, scope, verb]: &Labels) -> String {
    format!(
        "group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",\
         verb=\"{verb}\",version=\"{version}\""
    )
}
