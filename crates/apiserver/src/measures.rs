//! What is measured on the way of a request, and what the caches and the process are like: the rest of the page at `/metrics`.
//!
//! Names, labels and words: what a stock server of v1.36 shows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::metrics::{Histogram, SECONDS, head, line};
use crate::server::Server;

const STEPS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
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
    authentications: [AtomicU64; 2],
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

    /// Somebody is known, or not.
    pub(crate) fn authenticated(&self, user: Option<&str>) {
        self.authentications[usize::from(user.is_none())].fetch_add(1, Relaxed);
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
    pub(crate) fn authorized(&self, allowed: bool) {
        self.authorizations[usize::from(!allowed)].fetch_add(1, Relaxed);
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
}

impl Process {
    fn own() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name before them may hold spaces; times are in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
        let page = rustix::param::page_size() as f64;
        Some(Self {
            cpu_seconds: (field(11)? + field(12)?) / 100.0,
            open_files: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            resident_bytes: field(21)? * page,
            virtual_bytes: field(20)?,
            started_seconds: boot.trim().parse::<f64>().ok()? + field(19)? / 100.0,
        })
    }
}
