//! What is measured on the way of a request, and what the caches and the process are like: the rest of the page at `/metrics`.
//!
//! Names, labels and words: what a stock server of v1.36 shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::cache::Heard;
use crate::metrics::{Histogram, SECONDS, head, line};
use crate::server::Server;

const STEPS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
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

fn note(histogram: &Mutex<Option<Histogram>>, took: Duration) {
    let mut histogram = histogram.lock();
    let histogram = histogram.get_or_insert_with(|| Histogram::new(&MOMENTS));
    histogram.note(took.as_secs_f64());
}

/// A sample tells how large the objects of a resource are.
const SAMPLE: usize = 32;

/// How long the store took for one operation on one resource.
struct Stored {
    operation: &'static str,
    group: String,
    resource: String,
    histogram: Histogram,
}

/// What is measured.
#[derive(Default)]
pub(crate) struct Measures {
    /// In the order of resource, group and operation.
    storage: Mutex<Vec<Stored>>,
    /// By operation, whether it was refused, and step.
    admission: Mutex<BTreeMap<(&'static str, bool, &'static str), Histogram>>,
    /// By plug-in, operation, whether it refused, and step.
    plugins: Mutex<BTreeMap<(&'static str, &'static str, bool, &'static str), Histogram>>,
    authentications: [AtomicU64; 2],
    authenticating: [Mutex<Option<Histogram>>; 2],
    authorizing: [Mutex<Option<Histogram>>; 2],
    /// By group, resource and verb.
    bodies: Mutex<BTreeMap<(String, String, &'static str), Histogram>>,
    /// By what a request wants of fields that its kind does not have.
    validations: Mutex<BTreeMap<&'static str, Histogram>>,
    /// Group, version, resource and sub-resource of what was asked for and is to go.
    deprecated: Mutex<BTreeSet<[String; 4]>>,
    /// Reads of collections: how many, and of how many objects; by group and resource.
    lists: Mutex<BTreeMap<(String, String), [u64; 2]>>,
    users: Mutex<BTreeMap<&'static str, u64>>,
    authorizations: [AtomicU64; 2],
    tls_errors: AtomicU64,
}

impl Measures {
    /// The store has done something.
    pub(crate) fn stored(
        &self,
        operation: &'static str,
        (group, resource): (&str, &str),
        took: Duration,
    ) {
        let wanted = (resource, group, operation);
        let mut storage = self.storage.lock();
        let at = storage.binary_search_by(|s| (&*s.resource, &*s.group, s.operation).cmp(&wanted));
        let at = at.unwrap_or_else(|at| {
            let (group, resource) = (group.to_owned(), resource.to_owned());
            let histogram = Histogram::new(&SECONDS);
            storage.insert(
                at,
                Stored {
                    operation,
                    group,
                    resource,
                    histogram,
                },
            );
            at
        });
        storage[at].histogram.note(took.as_secs_f64());
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
        for (name, refused, took) in laps {
            let histogram = plugins.entry((name, operation, *refused, step));
            let histogram = histogram.or_insert_with(|| Histogram::new(&STEPS));
            histogram.note(took.as_secs_f64());
        }
    }

    /// A body was read.
    pub(crate) fn read(&self, (group, resource): (&str, &str), verb: &'static str, bytes: usize) {
        let mut bodies = self.bodies.lock();
        let histogram = bodies.entry((group.to_owned(), resource.to_owned(), verb));
        let histogram = histogram.or_insert_with(|| Histogram::new(&BODIES));
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

    /// A collection was read from the cache.
    pub(crate) fn listed(&self, (group, resource): (&str, &str), told: usize) {
        let mut lists = self.lists.lock();
        let counts = lists.entry((group.to_owned(), resource.to_owned()));
        let counts = counts.or_default();
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

    /// Adds to the page.
    pub(crate) fn render(&self, out: &mut String) {
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
        for ((plugin, operation, refused, step), histogram) in self.plugins.lock().iter() {
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
        for ((group, resource, verb), histogram) in self.bodies.lock().iter() {
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
        let lists = self.lists.lock();
        let figures = [
            (
                "apiserver_cache_list_total",
                "Number of LIST requests served from watch cache",
                ",index=\"\"",
            ),
            (
                "apiserver_cache_list_returned_objects_total",
                "Number of objects returned for a LIST request from watch cache",
                "",
            ),
        ];
        for (i, (name, help, index)) in figures.into_iter().enumerate() {
            head(out, name, "counter", "ALPHA", help);
            for ((group, resource), counts) in lists.iter() {
                let labels = format!("group=\"{group}\"{index},resource=\"{resource}\"");
                line(out, name, &labels, counts[i]);
            }
        }
    }

    fn render_storage(&self, out: &mut String) {
        let storage = self.storage.lock();
        let labels = |stored: &Stored| {
            let (group, operation, resource) = (&stored.group, stored.operation, &stored.resource);
            format!("group=\"{group}\",operation=\"{operation}\",resource=\"{resource}\"")
        };
        let name = "etcd_request_duration_seconds";
        let help = "Etcd request latency in seconds for each operation and object type.";
        head(out, name, "histogram", "ALPHA", help);
        for stored in storage.iter() {
            stored.histogram.render(out, name, &labels(stored));
        }
        let name = "etcd_requests_total";
        let help = "Etcd request counts for each operation and object type.";
        head(out, name, "counter", "ALPHA", help);
        for stored in storage.iter() {
            line(out, name, &labels(stored), stored.histogram.count());
        }
    }
}

/// Adds what the caches hold.
pub(crate) fn render_caches(server: &Server, out: &mut String) {
    let measured: Vec<_> = server
        .resources()
        .storages()
        .map(|s| (s, s.cache.measure(SAMPLE), s.cache.applied()))
        .collect();
    let name = "apiserver_resource_objects";
    let help = "Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.";
    head(out, name, "gauge", "ALPHA", help);
    let labels = |group: &str, resource: &str| format!("group=\"{group}\",resource=\"{resource}\"");
    for (storage, (count, _), _) in &measured {
        line(out, name, &labels(&storage.group, &storage.resource), count);
    }
    let name = "apiserver_resource_size_estimate_bytes";
    let help = "Estimated size of stored objects in database. Estimate is based on sum of last observed sizes of serialized objects. In case of a fetching error, the value will be -1.";
    head(out, name, "gauge", "ALPHA", help);
    for (storage, (count, average), _) in &measured {
        let bytes = count * average;
        line(out, name, &labels(&storage.group, &storage.resource), bytes);
    }
    let name = "apiserver_storage_objects";
    let help = "(Deprecated since 1.34.0) [DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.";
    head(out, name, "gauge", "STABLE", help);
    for (storage, (count, _), _) in &measured {
        let full = match &*storage.group {
            "" => storage.resource.to_string(),
            group => format!("{}.{group}", storage.resource),
        };
        line(out, name, &format!("resource=\"{full}\""), count);
    }
    let name = "apiserver_watch_cache_resource_version";
    let help = "Current resource version of watch cache broken by resource type. This is truncated to the 15 least significant digits.";
    head(out, name, "gauge", "ALPHA", help);
    for (storage, _, applied) in &measured {
        let applied = applied % 1_000_000_000_000_000;
        line(
            out,
            name,
            &labels(&storage.group, &storage.resource),
            applied,
        );
    }
}

/// Adds what the caches have heard of.
pub(crate) fn render_feeds(server: &Server, out: &mut String) {
    let known: Vec<_> = server
        .resources()
        .storages()
        .map(|s| (s, s.cache.heard()))
        .collect();
    let figures: [(&str, &str, &str, &str, fn(&Heard) -> u64); 5] = [
        (
            "apiserver_storage_events_received_total",
            "counter",
            "BETA",
            "Number of etcd events received split by kind.",
            |h| h.changes,
        ),
        (
            "apiserver_watch_cache_events_received_total",
            "counter",
            "ALPHA",
            "Counter of events received in watch cache broken by resource type.",
            |h| h.changes,
        ),
        (
            "apiserver_watch_cache_events_dispatched_total",
            "counter",
            "ALPHA",
            "Counter of events dispatched in watch cache broken by resource type.",
            |h| h.changes,
        ),
        (
            "apiserver_watch_cache_initializations_total",
            "counter",
            "ALPHA",
            "Counter of watch cache initializations broken by resource type.",
            |h| h.reads,
        ),
        (
            "watch_cache_capacity",
            "gauge",
            "ALPHA",
            "Total capacity of watch cache broken by resource type.",
            |h| h.capacity,
        ),
    ];
    for (name, kind, level, help, of) in figures {
        head(out, name, kind, level, help);
        for (storage, heard) in &known {
            let labels = format!(
                "group=\"{}\",resource=\"{}\"",
                storage.group, storage.resource
            );
            line(out, name, &labels, of(heard));
        }
    }
}

/// Adds what the program and its process are.
pub(crate) fn render_process(out: &mut String) {
    let name = "kubernetes_build_info";
    let help = "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.";
    head(out, name, "gauge", "BETA", help);
    let labels = "build_date=\"1970-01-01T00:00:00Z\",compiler=\"rustc\",git_commit=\"\",git_tree_state=\"clean\",git_version=\"v1.37.0\",go_version=\"none\",major=\"1\",minor=\"37\"";
    let platform = crate::paths::platform();
    line(out, name, &format!("{labels},platform=\"{platform}\""), 1);
    let name = "version_info";
    let help = "Provides the compatibility version info of the component. The component label is the name of the component, usually kube, but is relevant for aggregated-apiservers.";
    head(out, name, "gauge", "ALPHA", help);
    let labels = "binary=\"1.37.0\",component=\"kube\",emulation=\"1.37\",min_compat=\"1.36\"";
    line(out, name, labels, 1);
    let Some(process) = Process::own() else {
        return;
    };
    let figures = [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            process.cpu_seconds,
        ),
        (
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
            process.open_files,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            process.resident_bytes,
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            process.virtual_bytes,
        ),
        (
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors.",
            process.most_files,
        ),
        (
            "process_virtual_memory_max_bytes",
            "gauge",
            "Maximum amount of virtual memory available in bytes.",
            process.most_virtual_bytes,
        ),
        (
            "process_network_receive_bytes_total",
            "counter",
            "Number of bytes received by the process over the network.",
            process.network_bytes.0,
        ),
        (
            "process_network_transmit_bytes_total",
            "counter",
            "Number of bytes sent by the process over the network.",
            process.network_bytes.1,
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            process.started_seconds,
        ),
    ];
    for (name, kind, help, value) in figures {
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
}

/// What the system says of this process.
struct Process {
    cpu_seconds: f64,
    open_files: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    started_seconds: f64,
    most_files: f64,
    most_virtual_bytes: f64,
    /// Received and sent by the network that the process is in.
    network_bytes: (f64, f64),
}

/// A limit as `/proc/self/limits` tells it; what is unlimited is the greatest number, as in Go.
fn limit(limits: &str, name: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

/// What all interfaces have received and sent, after `/proc/self/net/netstat`.
fn network(netstat: &str) -> Option<(f64, f64)> {
    let mut lines = netstat
        .lines()
        .filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let of = |name: &str| {
        let at = names.split_whitespace().position(|n| n == name)?;
        values.split_whitespace().nth(at)?.parse().ok()
    };
    Some((of("InOctets")?, of("OutOctets")?))
}

impl Process {
    fn own() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name before them may hold spaces; times are in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
        let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
        let netstat = std::fs::read_to_string("/proc/self/net/netstat").ok()?;
        let page = rustix::param::page_size() as f64;
        Some(Self {
            cpu_seconds: (field(11)? + field(12)?) / 100.0,
            open_files: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            resident_bytes: field(21)? * page,
            virtual_bytes: field(20)?,
            most_files: limit(&limits, "Max open files")?,
            most_virtual_bytes: limit(&limits, "Max address space")?,
            network_bytes: network(&netstat)?,
            started_seconds: boot.trim().parse::<f64>().ok()? + field(19)? / 100.0,
        })
    }
}
