//! What is measured on the way of a request.
//!
//! Names, labels and words: what a stock server of v1.37 shows.

mod by_resource;
mod callers;
mod impersonation;
mod pod_security;
pub(crate) mod reloads;
mod stages;
mod timing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use by_resource::ByResource;
use timing::Timing;

pub(crate) use callers::TokenUse;
pub(crate) use stages::Stage;

use crate::metrics::{Histogram, SECONDS, head, line};

const STEPS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
/// Upper ends of the time that a read waits.
const WAITS: [f64; 13] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0,
];
/// Upper ends of the time that it takes to know somebody.
const MOMENTS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];
/// Upper ends of the sizes of bodies.
static BODIES: [f64; 31] = {
    let mut ends = [0.0; 31];
    let mut i = 0;
    while i < 31 {
        ends[i] = 50_000.0 + 100_000.0 * i as f64;
        i += 1;
    }
    ends
};

/// Upper ends of what clients wait for the state in a watch.
const WATCH_LISTS: [f64; 25] = [
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0,
    30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0,
];
/// Upper ends of what caches take to read everything.
const INITIALIZATIONS: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];
/// Upper ends where nobody chose any.
static USUAL: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Whether somebody asked for this one.
fn scope(asked_for: bool) -> &'static str {
    if asked_for { "static" } else { "dynamic" }
}

fn note(histogram: &Mutex<Option<Histogram>>, took: Duration) {
    let mut histogram = histogram.lock();
    let histogram = histogram.get_or_insert_with(|| Histogram::new(&MOMENTS));
    histogram.note(took.as_secs_f64());
}

/// Operation and step.
type Round = (&'static str, &'static str);
/// Plug-in, whether it refused, and how long it took.
type Plugged = (&'static str, bool, Histogram);

/// What is measured.
#[derive(Default)]
pub(crate) struct Measures {
    /// Configuration files that are read again.
    pub(crate) reloads: reloads::Reloads,
    /// How long the store took; by operation.
    storage: Mutex<ByResource<&'static str, Histogram>>,
    /// By operation, whether it was refused, and step.
    admission: Mutex<BTreeMap<(&'static str, bool, &'static str), Histogram>>,
    /// In the order in which they are asked.
    plugins: Mutex<BTreeMap<Round, Vec<Plugged>>>,
    authentications: [AtomicU64; 2],
    authenticating: [Mutex<Option<Histogram>>; 2],
    authorizing: [Mutex<Option<Histogram>>; 2],
    /// By verb.
    bodies: Mutex<ByResource<&'static str, Histogram>>,
    /// By what a request wants of fields that its kind does not have.
    validations: Mutex<BTreeMap<&'static str, Histogram>>,
    /// Group, version, resource and sub-resource of what was asked for and is to go.
    deprecated: Mutex<BTreeSet<[String; 4]>>,
    /// Reads of collections: how many, and of how many objects.
    lists: Mutex<ByResource<(), [u64; 2]>>,
    /// How long reads waited until the cache knew enough.
    waits: Mutex<ByResource<(), Histogram>>,
    /// Reads that wanted the newest state; by whether they got it.
    consistent: Mutex<ByResource<bool, u64>>,
    users: Mutex<BTreeMap<&'static str, u64>>,
    authorizations: [AtomicU64; 2],
    tls_errors: AtomicU64,
    pub(crate) stages: stages::Stages,
    pub(crate) callers: callers::Callers,
    pub(crate) impersonation: impersonation::Impersonation,
    pub(crate) pod_security: pod_security::PodSecurity,
    /// How long it took until clients that wanted the state in their watch had it; by group, version, resource and scope.
    watch_lists: Mutex<BTreeMap<([String; 3], &'static str), Histogram>>,
    /// How long caches took to read everything.
    initializations: Mutex<ByResource<(), Histogram>>,
    /// Addresses that were given: by network and whether they were asked for; how often, and how often in vain.
    addresses: Mutex<BTreeMap<(String, &'static str), [u64; 2]>>,
    /// How long that took, by network.
    giving: Mutex<BTreeMap<String, Timing>>,
    /// Node ports that were given, by whether they were asked for; how often, and how often in vain.
    ports: Mutex<BTreeMap<&'static str, [u64; 2]>>,
}

impl Measures {
    /// The store has done something.
    pub(crate) fn stored(&self, operation: &'static str, of: (&str, &str), took: Duration) {
        let mut storage = self.storage.lock();
        let histogram = storage.entry(of, operation, || Histogram::new(&SECONDS));
        histogram.note(took.as_secs_f64());
    }

    /// A step of admission is over: `admit` or `validate`.
    pub(crate) fn admitted(
        &self,
        operation: &'static str,
        step: &'static str,
        refused: bool,
        took: Duration,
    ) {
        let mut admission = self.admission.lock();
        let histogram = admission.entry((operation, refused, step));
        let histogram = histogram.or_insert_with(|| Histogram::new(&STEPS));
        histogram.note(took.as_secs_f64());
    }

    /// Plug-ins have answered one after the other.
    pub(crate) fn plugged(
        &self,
        operation: &'static str,
        step: &'static str,
        laps: &[(&'static str, bool, Duration)],
    ) {
        let mut plugins = self.plugins.lock();
        let known = plugins.entry((operation, step)).or_default();
        // It is nearly always the same ones in the same order.
        let mut next = 0;
        for (name, refused, took) in laps {
            let is_it = |(n, r, _): &Plugged| n == name && r == refused;
            let at = match known.get(next).is_some_and(is_it) {
                true => next,
                false => known.iter().position(is_it).unwrap_or_else(|| {
                    known.push((name, *refused, Histogram::new(&STEPS)));
                    known.len() - 1
                }),
            };
            known[at].2.note(took.as_secs_f64());
            next = at + 1;
        }
    }

    /// A body was read.
    pub(crate) fn read(&self, of: (&str, &str), verb: &'static str, bytes: usize) {
        let mut bodies = self.bodies.lock();
        let histogram = bodies.entry(of, verb, || Histogram::new(&BODIES));
        histogram.note(bytes as f64);
    }

    /// A write whose fields were looked at so is answered.
    pub(crate) fn validated(&self, how: &str, took: Duration) {
        let how = match how {
            "Strict" => "Strict",
            "Warn" => "Warn",
            "Ignore" => "Ignore",
            _ => "",
        };
        let mut validations = self.validations.lock();
        let histogram = validations.entry(how);
        let histogram = histogram.or_insert_with(|| Histogram::new(&SECONDS[2..]));
        histogram.note(took.as_secs_f64());
    }

    /// Somebody has asked for what is to go.
    pub(crate) fn outlived(&self, of: [&str; 4]) {
        self.deprecated.lock().insert(of.map(str::to_owned));
    }

    /// A read has waited for the cache; `consistent`: it wanted the newest state, and got it or not.
    pub(crate) fn waited(&self, of: (&str, &str), took: Duration, consistent: Option<bool>) {
        if let Some(success) = consistent {
            *self.consistent.lock().entry(of, success, || 0) += 1;
        }
        let mut waits = self.waits.lock();
        let histogram = waits.entry(of, (), || Histogram::new(&WAITS));
        histogram.note(took.as_secs_f64());
    }

    /// A collection was read from the cache.
    pub(crate) fn listed(&self, of: (&str, &str), told: usize) {
        let mut lists = self.lists.lock();
        let counts = lists.entry(of, (), Default::default);
        counts[0] += 1;
        counts[1] += told as u64;
    }

    /// Somebody is known, or not.
    pub(crate) fn authenticated(&self, user: Option<&str>, took: Duration) {
        let result = usize::from(user.is_none());
        self.authentications[result].fetch_add(1, Relaxed);
        note(&self.authenticating[result], took);
        let Some(user) = user else { return };
        let user = match user {
            "admin" => "admin",
            "kube_proxy" => "kube_proxy",
            "kubelet" => "kubelet",
            other if other.contains('@') => "email_id",
            _ => "other",
        };
        *self.users.lock().entry(user).or_default() += 1;
    }

    /// Somebody may, or not.
    pub(crate) fn authorized(&self, allowed: bool, took: Duration) {
        self.authorizations[usize::from(!allowed)].fetch_add(1, Relaxed);
        note(&self.authorizing[usize::from(!allowed)], took);
    }

    /// A handshake has failed.
    pub(crate) fn tls_failed(&self) {
        self.tls_errors.fetch_add(1, Relaxed);
    }

    /// Somebody who wanted it has the state in his watch.
    pub(crate) fn watch_listed(&self, of: [&str; 3], scope: &'static str, took: Duration) {
        let mut all = self.watch_lists.lock();
        let histogram = all.entry((of.map(str::to_owned), scope));
        let histogram = histogram.or_insert_with(|| Histogram::new(&WATCH_LISTS));
        histogram.note(took.as_secs_f64());
    }

    /// A cache has read everything.
    pub(crate) fn initialized(&self, of: (&str, &str), took: Duration) {
        let mut all = self.initializations.lock();
        let histogram = all.entry(of, (), || Histogram::new(&INITIALIZATIONS));
        histogram.note(took.as_secs_f64());
    }

    /// An address of this network was wanted.
    pub(crate) fn gave_address(&self, network: &str, asked_for: bool, given: bool, took: Duration) {
        let mut all = self.addresses.lock();
        let counts = all
            .entry((network.to_owned(), scope(asked_for)))
            .or_default();
        counts[usize::from(!given)] += 1;
        if given {
            let mut giving = self.giving.lock();
            let timing = giving.entry(network.to_owned());
            timing.or_insert_with(|| Timing::new(&USUAL)).note(took);
        }
    }

    /// A node port was wanted.
    pub(crate) fn gave_port(&self, asked_for: bool, given: bool) {
        let mut all = self.ports.lock();
        all.entry(scope(asked_for)).or_default()[usize::from(!given)] += 1;
    }

    /// Adds to the page.
    pub(crate) fn render(&self, out: &mut String) {
        self.stages.render(out);
        self.callers.render(out);
        self.impersonation.render(out);
        self.pod_security.render(out);
        self.render_watch_lists(out);
        self.render_given(out);
        self.render_storage(out);
        let name = "apiserver_admission_step_admission_duration_seconds";
        let help = "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).";
        head(out, name, "histogram", "STABLE", help);
        for ((operation, refused, step), histogram) in self.admission.lock().iter() {
            let labels =
                format!("operation=\"{operation}\",rejected=\"{refused}\",type=\"{step}\"");
            histogram.render(out, name, &labels);
        }
        self.render_plugins(out);
        self.render_bodies(out);
        self.render_lists(out);
        let counters = [
            (
                "authentication_attempts",
                "Counter of authenticated attempts.",
                ["success", "failure"],
                &self.authentications,
            ),
            (
                "authorization_attempts_total",
                "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.",
                ["allowed", "no-opinion"],
                &self.authorizations,
            ),
        ];
        let timings = [
            (
                "authentication_duration_seconds",
                "Authentication duration in seconds broken out by result.",
                ["success", "failure"],
                &self.authenticating,
            ),
            (
                "authorization_duration_seconds",
                "Authorization duration in seconds broken out by result.",
                ["allowed", "no-opinion"],
                &self.authorizing,
            ),
        ];
        for (name, help, results, histograms) in timings {
            head(out, name, "histogram", "ALPHA", help);
            for (result, histogram) in results.iter().zip(histograms) {
                if let Some(histogram) = &*histogram.lock() {
                    histogram.render(out, name, &format!("result=\"{result}\""));
                }
            }
        }
        for (name, help, results, counts) in counters {
            head(out, name, "counter", "ALPHA", help);
            for (result, count) in results.iter().zip(counts) {
                let count = count.load(Relaxed);
                if count > 0 {
                    line(out, name, &format!("result=\"{result}\""), count);
                }
            }
        }
        let name = "authenticated_user_requests";
        let help = "Counter of authenticated requests broken out by username.";
        head(out, name, "counter", "ALPHA", help);
        for (user, count) in self.users.lock().iter() {
            line(out, name, &format!("username=\"{user}\""), count);
        }
        let name = "apiserver_tls_handshake_errors_total";
        let help = "Number of requests dropped with 'TLS handshake error from' error";
        head(out, name, "counter", "ALPHA", help);
        let _ = writeln!(out, "{name} {}", self.tls_errors.load(Relaxed));
    }

    fn render_plugins(&self, out: &mut String) {
        let name = "apiserver_admission_controller_admission_duration_seconds";
        let help = "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).";
        head(out, name, "histogram", "STABLE", help);
        let plugins = self.plugins.lock();
        let rounds = plugins
            .iter()
            .flat_map(|(round, all)| all.iter().map(move |one| (round, one)));
        let mut all: Vec<_> = rounds
            .map(|((operation, step), (plugin, refused, h))| {
                ((*plugin, *operation, *refused, *step), h)
            })
            .collect();
        all.sort_unstable_by_key(|(labels, _)| *labels);
        for ((plugin, operation, refused, step), histogram) in all {
            let labels = format!(
                "name=\"{plugin}\",operation=\"{operation}\",rejected=\"{refused}\",type=\"{step}\""
            );
            histogram.render(out, name, &labels);
        }
    }

    fn render_bodies(&self, out: &mut String) {
        let name = "apiserver_request_body_size_bytes";
        let help = "Apiserver request body size in bytes broken out by resource and verb.";
        head(out, name, "histogram", "ALPHA", help);
        for (group, resource, verb, histogram) in self.bodies.lock().iter() {
            let labels = format!("group=\"{group}\",resource=\"{resource}\",verb=\"{verb}\"");
            histogram.render(out, name, &labels);
        }
        let name = "field_validation_request_duration_seconds";
        let help = "Response latency distribution in seconds for each field validation value";
        head(out, name, "histogram", "ALPHA", help);
        for (how, histogram) in self.validations.lock().iter() {
            histogram.render(out, name, &format!("field_validation=\"{how}\""));
        }
        let name = "apiserver_requested_deprecated_apis";
        let help = "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.";
        head(out, name, "gauge", "STABLE", help);
        for [group, version, resource, subresource] in self.deprecated.lock().iter() {
            let labels = format!(
                "group=\"{group}\",removed_release=\"\",resource=\"{resource}\",subresource=\"{subresource}\",version=\"{version}\""
            );
            line(out, name, &labels, 1);
        }
    }

    fn render_lists(&self, out: &mut String) {
        let name = "apiserver_watch_cache_read_wait_seconds";
        let help = "Histogram of time spent waiting for a watch cache to become fresh.";
        head(out, name, "histogram", "ALPHA", help);
        for (group, resource, (), histogram) in self.waits.lock().iter() {
            let labels = format!("group=\"{group}\",resource=\"{resource}\"");
            histogram.render(out, name, &labels);
        }
        let name = "apiserver_watch_cache_consistent_read_total";
        let help = "Counter for consistent reads from cache.";
        head(out, name, "counter", "ALPHA", help);
        for (group, resource, success, count) in self.consistent.lock().iter() {
            let labels = format!(
                "fallback=\"false\",group=\"{group}\",resource=\"{resource}\",success=\"{success}\""
            );
            line(out, name, &labels, count);
        }
        let lists = self.lists.lock();
        let figures = [
            (
                "apiserver_storage_list_total",
                "Number of LIST requests served from storage",
                ",index=\"\"",
            ),
            (
                "apiserver_storage_list_returned_objects_total",
                "Number of objects returned for a LIST request from storage",
                "",
            ),
        ];
        for (i, (name, help, index)) in figures.into_iter().enumerate() {
            head(out, name, "counter", "ALPHA", help);
            for (group, resource, (), counts) in lists.iter() {
                let labels = format!(
                    "group=\"{group}\"{index},resource=\"{resource}\",storage=\"watchcache\""
                );
                line(out, name, &labels, counts[i]);
            }
        }
    }

    fn render_watch_lists(&self, out: &mut String) {
        let name = "apiserver_watch_list_duration_seconds";
        let help = "Response latency distribution in seconds for watch list requests broken by group, version, resource and scope.";
        head(out, name, "histogram", "BETA", help);
        for (([group, version, resource], scope), histogram) in self.watch_lists.lock().iter() {
            let labels = format!(
                "group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",version=\"{version}\""
            );
            histogram.render(out, name, &labels);
        }
        let name = "apiserver_watch_cache_initialization_duration_seconds";
        let help =
            "Histogram of watch cache initialization duration in seconds, broken by resource type.";
        head(out, name, "histogram", "ALPHA", help);
        for (group, resource, (), histogram) in self.initializations.lock().iter() {
            let labels = format!("group=\"{group}\",resource=\"{resource}\"");
            histogram.render(out, name, &labels);
        }
    }

    fn render_given(&self, out: &mut String) {
        let addresses = self.addresses.lock();
        let name = "kube_apiserver_clusterip_allocator_allocation_duration_seconds";
        let help = "Duration in seconds to allocate a Cluster IP by ServiceCIDR";
        head(out, name, "histogram", "ALPHA", help);
        for (network, timing) in self.giving.lock().iter() {
            timing.render(out, name, &format!("cidr=\"{network}\""));
        }
        let of_addresses = |i: usize| -> Vec<(String, u64)> {
            let labels = |((network, scope), counts): (&(String, &str), &[u64; 2])| {
                (format!("cidr=\"{network}\",scope=\"{scope}\""), counts[i])
            };
            addresses.iter().map(labels).collect()
        };
        let ports = self.ports.lock();
        let of_ports = |i: usize| -> Vec<(String, u64)> {
            let labels =
                |(scope, counts): (&&str, &[u64; 2])| (format!("scope=\"{scope}\""), counts[i]);
            ports.iter().map(labels).collect()
        };
        let all = [
            (
                "kube_apiserver_clusterip_allocator_allocation_total",
                "Number of Cluster IPs allocations",
                of_addresses(0),
            ),
            (
                "kube_apiserver_clusterip_allocator_allocation_errors_total",
                "Number of errors trying to allocate Cluster IPs",
                of_addresses(1),
            ),
            (
                "kube_apiserver_nodeport_allocator_allocation_total",
                "Number of NodePort allocations",
                of_ports(0),
            ),
            (
                "kube_apiserver_nodeport_allocator_allocation_errors_total",
                "Number of errors trying to allocate NodePort",
                of_ports(1),
            ),
        ];
        for (name, help, counts) in all {
            let counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
            if !counts.is_empty() {
                head(out, name, "counter", "ALPHA", help);
            }
            for (labels, count) in counts {
                line(out, name, &labels, count);
            }
        }
    }

    fn render_storage(&self, out: &mut String) {
        let storage = self.storage.lock();
        let labels = |group: &str, resource: &str, operation: &str| {
            format!("group=\"{group}\",operation=\"{operation}\",resource=\"{resource}\"")
        };
        let name = "etcd_request_duration_seconds";
        let help = "Etcd request latency in seconds for each operation and object type.";
        head(out, name, "histogram", "ALPHA", help);
        for (group, resource, operation, histogram) in storage.iter() {
            histogram.render(out, name, &labels(group, resource, operation));
        }
        let name = "etcd_requests_total";
        let help = "Etcd request counts for each operation and object type.";
        head(out, name, "counter", "ALPHA", help);
        for (group, resource, operation, histogram) in storage.iter() {
            line(
                out,
                name,
                &labels(group, resource, operation),
                histogram.count(),
            );
        }
    }
}
