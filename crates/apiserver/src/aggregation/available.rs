//! Keeps the condition `Available` of APIServices, and asks the servers behind them what they have.
//!
//! A task a server: it looks when its APIService, service or end points change, and beside that every 30 seconds, as
//! upstream does, because a network may break without any object saying so. Without such servers there is no task.
//!
//! Behaviour: `k8s.io/kube-aggregator/pkg/controllers/status/{local,remote}`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use access::Lookup;
use http::Method;
use machinery::{ApiError, Object, time};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::check::{Verdict, check, slices};
use super::{GROUP, RESOURCE, Remote, condition, documents, is_available};
use crate::bootstrap::Own;
use crate::server::Server;

const AGAIN: Duration = Duration::from_secs(30);
const DOCUMENTS_AGAIN: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Gives each other server its task, until the server ends.
pub(crate) async fn keep(weak: Weak<Server>) {
    let Some(server) = weak.upgrade() else {
        return;
    };
    let shutdown = server.shutdown_token();
    let Some(mut changes) = changes(&server, GROUP, RESOURCE) else {
        return;
    };
    drop(server);
    let mut tasks: HashMap<String, (String, CancellationToken)> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let Some(server) = weak.upgrade() else {
            return;
        };
        settle_local(&server).await;
        let remotes = server.aggregation().remotes();
        tasks.retain(|name, (source, stop)| {
            let same = |r: &Arc<Remote>| r.name == *name && r.source == *source;
            let stays = remotes.iter().any(same);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for remote in remotes.iter().filter(|r| !r.group.is_empty()) {
            tasks.entry(remote.name.clone()).or_insert_with(|| {
                let stop = shutdown.child_token();
                tokio::spawn(tend(weak.clone(), remote.name.clone(), stop.clone()));
                (remote.source.clone(), stop)
            });
        }
        drop(server);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

fn changes(server: &Server, group: &str, resource: &str) -> Option<watch::Receiver<u64>> {
    let storage = server.resources().storage(group, resource)?;
    Some(storage.cache.subscribe())
}

/// What was another server's and is this one's again is available.
async fn settle_local(server: &Arc<Server>) {
    let verdict = Verdict {
        available: true,
        reason: "Local",
        message: "Local APIServices are always available".to_owned(),
    };
    for service in server.list(GROUP, RESOURCE, "") {
        let local = service.at(&["spec", "service"]).is_none();
        if local {
            tell(server, &service, &verdict).await;
        }
    }
}

/// Looks after one other server.
async fn tend(weak: Weak<Server>, name: String, stop: CancellationToken) {
    let mut failures = 0;
    let mut told: Option<Instant> = None;
    let mut seen = String::new();
    loop {
        let Some(server) = weak.upgrade() else {
            return;
        };
        let Some(remote) = server.aggregation().named(&name) else {
            return;
        };
        let now = fingerprint(&server, &remote);
        let stale = now != seen || told.is_none_or(|at| at.elapsed() >= DOCUMENTS_AGAIN);
        seen = now;
        let look = async {
            let verdict = check(&server, &remote).await;
            if let Some(service) = server.get(GROUP, RESOURCE, "", &name) {
                tell(&server, &service, &verdict).await;
            }
            if stale || (verdict.available && !remote.documents.load().fresh) {
                documents::refresh(&server, &remote).await;
                told = Some(Instant::now());
            }
            verdict
        };
        let verdict = tokio::select! {
            verdict = look => verdict,
            () = stop.cancelled() => return,
        };
        let pause = match verdict.may_pass() {
            true => FIRST_PAUSE.saturating_mul(1 << failures).min(AGAIN),
            false => AGAIN,
        };
        failures = match verdict.may_pass() {
            true => (failures + 1).min(16),
            false => 0,
        };
        let resources = [
            (GROUP, RESOURCE),
            ("", "services"),
            ("discovery.k8s.io", "endpointslices"),
        ];
        let receivers = resources.map(|(group, name)| changes(&server, group, name));
        drop((server, remote));
        let moved = moved(&weak, &name, &seen, receivers);
        tokio::select! {
            () = moved => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Returns when what the condition follows from is another than before.
async fn moved(
    weak: &Weak<Server>,
    name: &str,
    seen: &str,
    receivers: [Option<watch::Receiver<u64>>; 3],
) {
    let mut receivers: Vec<_> = receivers.into_iter().flatten().collect();
    loop {
        for receiver in &mut receivers {
            receiver.borrow_and_update();
        }
        let Some(server) = weak.upgrade() else {
            return;
        };
        let same = (server.aggregation().named(name))
            .is_some_and(|remote| fingerprint(&server, &remote) == seen);
        drop(server);
        if !same {
            return;
        }
        let changed = receivers.iter_mut().map(|r| Box::pin(r.changed()));
        if futures::future::select_all(changed).await.0.is_err() {
            return;
        }
    }
}

/// What the condition follows from, as far as objects tell.
fn fingerprint(server: &Server, remote: &Remote) -> String {
    let mut out = remote.source.clone();
    if let Some(service) = server.get("", "services", &remote.namespace, &remote.service) {
        out.push_str(&service.at(&["spec"]).unwrap_or(&Value::Null).to_string());
    }
    for slice in slices(server, &remote.namespace, &remote.service) {
        out.push(' ');
        out.push_str(slice.resource_version());
    }
    out
}

/// Writes the condition where it says something else.
async fn tell(server: &Arc<Server>, service: &Object, verdict: &Verdict) {
    let before = is_available(service);
    let counts = server.aggregation();
    counts.count(service.name(), before, verdict.available, verdict.reason);
    let Some(told) = with_condition(service, verdict) else {
        return;
    };
    let path = format!("/apis/{GROUP}/v1/{RESOURCE}/{}/status", service.name());
    let sent = Own::of(server).send(Method::PUT, &path, Some(&told)).await;
    match sent {
        // Who was faster has made a change, which brings us back.
        Ok(_)
        | Err(ApiError {
            code: 404 | 409, ..
        }) => {}
        Err(error) => {
            tracing::warn!(apiservice = service.name(), %error, "its condition cannot be told");
        }
    }
}

fn with_condition(service: &Object, verdict: &Verdict) -> Option<Object> {
    let status = if verdict.available { "True" } else { "False" };
    let old = condition(service);
    let same = old.is_some_and(|c| {
        c["status"] == status && c["reason"] == verdict.reason && c["message"] == *verdict.message
    });
    if same {
        return None;
    }
    let since = old
        .filter(|c| c["status"] == status)
        .and_then(|c| c["lastTransitionTime"].as_str())
        .map_or_else(|| time::rfc3339(crate::call::now()), str::to_owned);
    let all = service
        .at(&["status", "conditions"])
        .and_then(Value::as_array);
    let mut all = all.cloned().unwrap_or_default();
    let new = json!({
        "type": "Available", "status": status, "reason": verdict.reason,
        "message": verdict.message, "lastTransitionTime": since,
    });
    match all.iter_mut().find(|c| c["type"] == "Available") {
        Some(old) => *old = new,
        None => all.push(new),
    }
    let mut told = service.clone();
    told.object_at_mut(&["status"])
        .insert("conditions".to_owned(), all.into());
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_the_time_of_its_last_turn() {
        let service = json!({"metadata": {"name": "v1.a"}, "spec": {}, "status": {"conditions": [{
            "type": "Available", "status": "False", "reason": "ServiceNotFound", "message": "m",
            "lastTransitionTime": "2020-01-01T00:00:00Z",
        }]}});
        let service = Object::from_value(service).expect("an object");
        let verdict = |available, reason| Verdict {
            available,
            reason,
            message: "m".to_owned(),
        };
        assert!(with_condition(&service, &verdict(false, "ServiceNotFound")).is_none());
        let other = with_condition(&service, &verdict(false, "MissingEndpoints")).expect("news");
        let told = condition(&other).expect("a condition");
        assert_eq!(told["lastTransitionTime"], "2020-01-01T00:00:00Z");
        let up = with_condition(&service, &verdict(true, "Passed")).expect("news");
        assert_ne!(
            condition(&up).expect("a condition")["lastTransitionTime"],
            "2020-01-01T00:00:00Z"
        );
    }
}
