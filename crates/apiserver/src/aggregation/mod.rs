//! Group versions that other servers serve: who they are, requests passed on to them, whether they can be asked, and what
//! they say of themselves in discovery and OpenAPI.
//!
//! Contract: an APIService with a service takes effect when the write that made it is answered. Requests are passed on
//! under the server's front-proxy certificate with the caller's name, groups and extra in headers; the caller's own
//! credentials never travel on, and redirects are never followed (security lessons 2018-1002102, 2022-3172). Without such
//! APIServices a request costs one look at a pointer, and no timer runs.
//!
//! Start with [`Aggregation::find`], then `proxy`; `available` keeps the conditions, `documents` what is told of a server.
//! Behaviour: `k8s.io/kube-aggregator/pkg/{apiserver,controllers}`.

pub(crate) mod available;
mod check;
pub(crate) mod documents;
mod headers;
pub(crate) mod merge;
pub(crate) mod proxy;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use access::Lookup;
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::Object;
use parking_lot::Mutex;
use serde_json::Value;
use store::EventKind;

use crate::cache::Change;
use crate::metrics;
use crate::outbound::{Credentials, Destination, Place, Trust};
use crate::server::{Identity, Server};
use documents::Documents;

pub(crate) const GROUP: &str = "apiregistration.k8s.io";
pub(crate) const RESOURCE: &str = "apiservices";

/// The port of a service that does not say which.
const DEFAULT_PORT: u16 = 443;

/// The other servers of the moment.
pub(crate) struct Aggregation {
    credentials: Option<Credentials>,
    remotes: ArcSwap<Vec<Arc<Remote>>>,
    changing: Mutex<()>,
    counts: Mutex<Counts>,
}

/// What is counted: by name whether it is available, by name and reason how often it ceased to be.
#[derive(Default)]
struct Counts {
    unavailable: BTreeMap<String, bool>,
    lost: BTreeMap<(String, String), u64>,
}

/// A group version that another server serves.
pub(crate) struct Remote {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) port: u16,
    /// Of the group and of the version.
    pub(crate) priorities: (i64, i64),
    available: bool,
    destination: Destination,
    /// What the server last said of itself.
    pub(crate) documents: Arc<ArcSwap<Documents>>,
    /// What it was made of.
    source: String,
}

impl Aggregation {
    /// None yet; `identity` is shown to all of them.
    pub(crate) fn new(identity: Option<Identity>) -> Self {
        Self {
            credentials: identity.map(Credentials::new),
            remotes: ArcSwap::default(),
            changing: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// All of them.
    pub(crate) fn remotes(&self) -> Arc<Vec<Arc<Remote>>> {
        self.remotes.load_full()
    }

    /// Who serves a path; none when this server does.
    pub(crate) fn find(&self, path: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        if remotes.is_empty() {
            return None;
        }
        let (group, rest) = path.strip_prefix("/apis/")?.split_once('/')?;
        let version = rest.split('/').next()?;
        let found = remotes
            .iter()
            .find(|r| r.group == group && r.version == version);
        found.cloned()
    }

    /// The one of this name.
    fn named(&self, name: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        remotes.iter().find(|r| r.name == name).cloned()
    }

    /// Follows the APIServices.
    pub(crate) fn apply(&self, change: &Change) {
        let name = change.object.name();
        let object = match change.kind {
            EventKind::Put => change.object.decode(),
            EventKind::Delete => None,
        };
        if object.is_none() {
            self.counts.lock().unavailable.remove(name);
        }
        let _changing = self.changing.lock();
        let old = self.remotes.load();
        let before = old.iter().find(|r| r.name == name);
        let new = object.and_then(|object| self.remote(&object, before.map(|b| &**b)));
        if new.is_none() && before.is_none() {
            return;
        }
        let mut next: Vec<_> = old.iter().filter(|r| r.name != name).cloned().collect();
        next.extend(new.map(Arc::new));
        // Best first, as groups are listed.
        next.sort_by(|a, b| {
            let (of_group, of_version) = (b.priorities.0, b.priorities.1);
            (of_group.cmp(&a.priorities.0))
                .then_with(|| a.group.cmp(&b.group))
                .then(of_version.cmp(&a.priorities.1))
                .then_with(|| api::kind::compare_versions(&a.version, &b.version))
        });
        self.remotes.store(Arc::new(next));
    }

    fn remote(&self, object: &Object, before: Option<&Remote>) -> Option<Remote> {
        let service = object.at(&["spec", "service"])?;
        let text = |field: &str| object.str_at(&["spec", field]).to_owned();
        let number = |field: &str| object.at(&["spec", field]).and_then(Value::as_i64);
        let port = service["port"].as_u64().and_then(|p| p.try_into().ok());
        let port = port.unwrap_or(DEFAULT_PORT);
        let (namespace, name) = (service["namespace"].as_str()?, service["name"].as_str()?);
        let bundle = STANDARD.decode(text("caBundle")).unwrap_or_default();
        let any = object.at(&["spec", "insecureSkipTLSVerify"]) == Some(&Value::Bool(true));
        let trust = match any {
            true => Trust::Anybody,
            false => Trust::bundle(&bundle),
        };
        let destination = Destination {
            credentials: self.credentials.clone(),
            ..Destination::new(Place::guarded_service(namespace, name, port), trust)
        };
        let source = object.at(&["spec"]).unwrap_or(&Value::Null);
        let source = format!("{} {source}", object.uid());
        let kept = before.filter(|b| b.source == source);
        Some(Remote {
            name: object.name().to_owned(),
            group: text("group"),
            version: text("version"),
            namespace: namespace.to_owned(),
            service: name.to_owned(),
            port,
            priorities: (
                number("groupPriorityMinimum").unwrap_or(0),
                number("versionPriority").unwrap_or(0),
            ),
            available: is_available(object),
            destination,
            documents: kept.map(|b| b.documents.clone()).unwrap_or_default(),
            source,
        })
    }

    /// Notes a condition that was found.
    fn count(&self, name: &str, before: bool, now: bool, reason: &str) {
        let mut counts = self.counts.lock();
        counts.unavailable.insert(name.to_owned(), !now);
        if before && !now {
            let key = (name.to_owned(), reason.to_owned());
            *counts.lost.entry(key).or_default() += 1;
        }
    }

    /// Adds to the page at `/metrics`.
    pub(crate) fn render(&self, out: &mut String) {
        let counts = self.counts.lock();
        let gauge = "aggregator_unavailable_apiservice";
        let help =
            "Gauge of APIServices which are marked as unavailable broken down by APIService name.";
        metrics::head(out, gauge, "gauge", "ALPHA", help);
        for (name, unavailable) in &counts.unavailable {
            let labels = format!("name=\"{name}\"");
            metrics::line(out, gauge, &labels, u8::from(*unavailable));
        }
        if counts.lost.is_empty() {
            return;
        }
        let counter = "aggregator_unavailable_apiservice_total";
        let help = "Counter of APIServices which are marked as unavailable broken down by \
                    APIService name and reason.";
        metrics::head(out, counter, "counter", "ALPHA", help);
        for ((name, reason), count) in &counts.lost {
            let _ = writeln!(
                out,
                "{counter}{{name=\"{name}\",reason=\"{reason}\"}} {count}"
            );
        }
    }
}

/// Whether the condition of an APIService says so.
fn is_available(object: &Object) -> bool {
    condition(object).is_some_and(|c| c["status"] == "True")
}

/// The condition of that type.
fn condition(object: &Object) -> Option<&Value> {
    let all = object.at(&["status", "conditions"])?.as_array()?;
    all.iter().find(|c| c["type"] == "Available")
}

/// The priorities of a group version, whoever serves it.
pub(crate) fn priorities(server: &Server, group: &str, version: &str) -> (i64, i64) {
    let found = server.get(GROUP, RESOURCE, "", &format!("{version}.{group}"));
    let Some(found) = found else {
        return match group {
            // The registration itself is registered by nobody, and is the first of all.
            GROUP => (i64::MAX, i64::MAX),
            // Custom kinds whose registration is still to come.
            _ => (1000, 100),
        };
    };
    let number = |field: &str| found.at(&["spec", field]).and_then(Value::as_i64);
    (
        number("groupPriorityMinimum").unwrap_or(0),
        number("versionPriority").unwrap_or(0),
    )
}
