//! The checks of this server below `/healthz`, `/livez` and `/readyz`.
//!
//! The names are upstream's where its parts have a counterpart here; what a part does before the server listens at all
//! holds from then on. `store-writable` is this server's own.

use http::Response;
use machinery::health::{self, Asked, Outcome};
use store::{Condition, Range};

use crate::body::Body;
use crate::call::Call;
use crate::respond;

const ALL: &[&str] = &["healthz", "livez", "readyz"];
const READY: &[&str] = &["readyz"];

/// What a check looks at.
#[derive(Clone, Copy)]
enum What {
    /// The server answers, which it does only after this was done.
    Done,
    /// Every cache knows what the store has.
    Caches,
    /// The store answers.
    Store,
    /// The store takes writes. One that does not is no reason to restart the server, so this is no liveness.
    Writes,
    /// Nobody has told the server to end.
    Stays,
}

struct Check {
    name: &'static str,
    on: &'static [&'static str],
    what: What,
}

const fn check(name: &'static str, on: &'static [&'static str], what: What) -> Check {
    Check { name, on, what }
}

const CHECKS: &[Check] = &[
    check("ping", ALL, What::Done),
    check("log", ALL, What::Done),
    check("etcd", ALL, What::Store),
    check("etcd-readiness", READY, What::Store),
    check("informer-sync", READY, What::Caches),
    hook("poststarthook/start-apiserver-admission-initializer"),
    check(
        "poststarthook/generic-apiserver-start-informers",
        ALL,
        What::Caches,
    ),
    hook("poststarthook/priority-and-fairness-config-consumer"),
    hook("poststarthook/priority-and-fairness-filter"),
    hook("poststarthook/storage-object-count-tracker-hook"),
    check(
        "poststarthook/start-apiextensions-informers",
        ALL,
        What::Caches,
    ),
    hook("poststarthook/start-apiextensions-controllers"),
    check("poststarthook/crd-informer-synced", ALL, What::Caches),
    hook("poststarthook/start-system-namespaces-controller"),
    hook("poststarthook/start-cluster-authentication-info-controller"),
    check("poststarthook/storage-readiness", ALL, What::Caches),
    hook("poststarthook/start-kube-apiserver-identity-lease-controller"),
    hook("poststarthook/start-kube-apiserver-identity-lease-garbage-collector"),
    hook("poststarthook/start-legacy-token-tracking-controller"),
    hook("poststarthook/start-service-ip-repair-controllers"),
    hook("poststarthook/rbac/bootstrap-roles"),
    hook("poststarthook/scheduling/bootstrap-system-priority-classes"),
    hook("poststarthook/priority-and-fairness-config-producer"),
    hook("poststarthook/bootstrap-controller"),
    hook("poststarthook/start-kubernetes-service-cidr-controller"),
    hook("poststarthook/start-kube-aggregator-informers"),
    hook("poststarthook/apiservice-status-local-available-controller"),
    hook("poststarthook/apiservice-status-remote-available-controller"),
    hook("poststarthook/apiservice-registration-controller"),
    hook("poststarthook/apiservice-discovery-controller"),
    hook("poststarthook/kube-apiserver-autoregistration"),
    hook("autoregister-completion"),
    hook("poststarthook/apiservice-openapi-controller"),
    hook("poststarthook/apiservice-openapiv3-controller"),
    check("store-writable", READY, What::Writes),
    check("shutdown", READY, What::Stays),
];

/// Something that the server does while it starts, before it listens.
const fn hook(name: &'static str) -> Check {
    check(name, ALL, What::Done)
}

/// Every path of a check.
pub(crate) fn paths() -> impl Iterator<Item = String> {
    let of = |check: &'static Check| check.on.iter().map(|on| format!("/{on}/{}", check.name));
    CHECKS.iter().flat_map(of)
}

async fn look(call: &Call, check: &Check) -> Outcome {
    match check.what {
        What::Done => Ok(()),
        What::Caches => {
            let mut all = call.server.resources().storages();
            match all.find(|storage| !*storage.loaded.borrow()) {
                None => Ok(()),
                Some(storage) => Err(format!("{} not yet synced", storage.resource)),
            }
        }
        What::Store => {
            let range = Range {
                count_only: true,
                ..Range::key(b"/registry/health".to_vec())
            };
            let asked = call.server.store().range(range).await;
            asked.map(drop).map_err(|error| error.to_string())
        }
        What::Writes => match call.server.store().condition() {
            Condition::Serving => Ok(()),
            condition => Err(condition.to_string()),
        },
        What::Stays if call.server.is_ending() => Err("process is shutting down".to_owned()),
        What::Stays => Ok(()),
    }
}

/// The page of all checks of a kind.
pub(crate) async fn all(call: &Call, kind: &str) -> Response<Body> {
    let asked = Asked {
        exclude: call.query.all("exclude").map(str::to_owned).collect(),
        verbose: call.query.get("verbose").is_some(),
    };
    let mut outcomes = Vec::new();
    for check in CHECKS.iter().filter(|check| check.on.contains(&kind)) {
        let outcome = match asked.excludes(check.name) {
            true => None,
            false => Some(look(call, check).await),
        };
        if let Some(Err(why)) = &outcome {
            tracing::warn!(check = check.name, kind, why, "a health check failed");
        }
        outcomes.push((check.name, outcome));
    }
    call.server.metrics().health.lock().note(kind, &outcomes);
    let (well, text) = health::page(kind, &asked, &outcomes);
    respond::text(if well { 200 } else { 500 }, text)
}

/// One check by its name.
pub(crate) async fn one(call: &Call, kind: &str, name: &str) -> Response<Body> {
    let mut all = CHECKS.iter().filter(|check| check.on.contains(&kind));
    let Some(check) = all.find(|check| check.name == name) else {
        return respond::text(404, "404 page not found\n");
    };
    match look(call, check).await {
        Ok(()) => respond::plain(200, "ok"),
        Err(why) => respond::text(500, format!("internal server error: {why}\n")),
    }
}
