//! Keeps what follows from other objects: the flow schemas of every cluster and whether a schema's level exists, and an
//! APIService for every group version that this server serves.
//!
//! Behaviour: `k8s.io/apiserver/pkg/util/flowcontrol` (`syncFlowSchemaStatus`), `pkg/registry/flowcontrol/rest`,
//! `k8s.io/kube-aggregator/pkg/controllers/autoregister`, `pkg/controlplane/controller/crdregistration`.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use access::Lookup;
use access::bootstrap;
use http::Method;
use machinery::{ApiError, Object, time};
use serde_json::{Value, json};

use crate::bootstrap::Own;
use crate::cache::Cache;
use crate::server::Server;

const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
const REGISTRATION: &str = "apiregistration.k8s.io";
const API_SERVICES: &str = "apiservices";

/// What is followed.
const FOLLOWED: [(&str, &str); 4] = [
    (FLOW, SCHEMAS),
    (FLOW, LEVELS),
    (REGISTRATION, API_SERVICES),
    (crate::custom::GROUP, crate::custom::RESOURCE),
];

/// The APIServices of what the program serves.
pub(crate) fn local_services(server: &Server) -> Vec<Object> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for kind in api::KINDS {
        let names = kind.names();
        if seen.insert((names.group, names.version)) {
            out.extend(bootstrap::api_service(names.group, names.version));
        }
    }
    // Those that are there already cost no write.
    out.retain(|wanted| {
        server
            .get(REGISTRATION, API_SERVICES, "", wanted.name())
            .is_none()
    });
    out
}

/// Puts them right after every change, until the server ends.
pub(crate) async fn keep(server: Weak<Server>) {
    let Some(strong) = server.upgrade() else {
        return;
    };
    let shutdown = strong.shutdown_token();
    let found = FOLLOWED
        .iter()
        .filter_map(|(group, name)| strong.resources().storage(group, name));
    let caches: Vec<Arc<Cache>> = found.map(|storage| storage.cache.clone()).collect();
    drop(strong);
    let mut changes: Vec<_> = caches.iter().map(|cache| cache.subscribe()).collect();
    loop {
        for change in &mut changes {
            change.borrow_and_update();
        }
        let Some(server) = server.upgrade() else {
            return;
        };
        // A server that ends is not held for this.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = settle(server) => {}
        }
        let any = futures::future::select_all(changes.iter_mut().map(|c| Box::pin(c.changed())));
        tokio::select! {
            (changed, ..) = any => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

async fn settle(server: Arc<Server>) {
    server.flow().configure(&server);
    let own = Own::of(&server);
    for done in [
        settle_flows(&server, &own).await,
        settle_services(&server, &own).await,
    ] {
        if let Err(error) = done {
            tracing::warn!(%error, "what follows from other objects cannot be kept");
        }
    }
}

/// Makes the schemas and levels that are missing, and says of each schema whether its level is there.
async fn settle_flows(server: &Server, own: &Own) -> Result<(), ApiError> {
    for wanted in bootstrap::flow_control() {
        let plural = match wanted.kind() {
            "FlowSchema" => SCHEMAS,
            _ => LEVELS,
        };
        if server.get(FLOW, plural, "", wanted.name()).is_none() {
            let path = format!("/apis/{FLOW}/v1/{plural}");
            ignore_conflict(own.send(Method::POST, &path, Some(&wanted)).await)?;
        }
    }
    let schemas = server.list(FLOW, SCHEMAS, "");
    let settling = schemas.iter().filter_map(|schema| {
        let level = schema.str_at(&["spec", "priorityLevelConfiguration", "name"]);
        let found = server.get(FLOW, LEVELS, "", level).is_some();
        let settled = with_dangling(schema, level, found)?;
        Some(async move {
            let path = format!("/apis/{FLOW}/v1/{SCHEMAS}/{}/status", settled.name());
            ignore_conflict(own.send(Method::PUT, &path, Some(&settled)).await)
        })
    });
    // Side by side: the store then writes many of them to disk at once.
    futures::future::try_join_all(settling).await.map(drop)
}

/// Who was faster has made a change, which brings us back.
fn ignore_conflict(sent: Result<Object, ApiError>) -> Result<(), ApiError> {
    match sent {
        Err(error) if !matches!(error.code, 404 | 409) => Err(error),
        _ => Ok(()),
    }
}

/// The schema with the right condition; none when it has it.
fn with_dangling(schema: &Object, level: &str, found: bool) -> Option<Object> {
    let (status, reason, but) = match found {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let message = format!(
        "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {but}"
    );
    let conditions = schema
        .at(&["status", "conditions"])
        .and_then(Value::as_array);
    let mut conditions = conditions.cloned().unwrap_or_default();
    let is_dangling = |c: &Value| c["type"] == "Dangling";
    let old = conditions.iter().find(|c| is_dangling(c));
    if old.is_some_and(|c| c["status"] == status && c["message"] == message.as_str()) {
        return None;
    }
    let now = time::rfc3339(crate::call::now());
    let since = old
        .filter(|c| c["status"] == status)
        .and_then(|c| c["lastTransitionTime"].as_str())
        .map_or(now, str::to_owned);
    conditions.retain(|c| !is_dangling(c));
    conditions.push(json!({
        "type": "Dangling", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since,
    }));
    let mut settled = schema.clone();
    let status = settled.object_at_mut(&["status"]);
    status.insert("conditions".to_owned(), conditions.into());
    Some(settled)
}

/// Makes an APIService for what is served here, and takes those of custom kinds away that are served no more.
async fn settle_services(server: &Server, own: &Own) -> Result<(), ApiError> {
    let mut served: BTreeSet<(String, String)> = BTreeSet::new();
    for resource in server.resources().all() {
        let names = resource.names();
        served.insert((names.group.to_owned(), names.version.to_owned()));
    }
    // As upstream: the registration itself is registered by nobody.
    served.retain(|(group, _)| group != REGISTRATION);
    let collection = format!("/apis/{REGISTRATION}/v1/{API_SERVICES}");
    for (group, version) in &served {
        if server
            .get(
                REGISTRATION,
                API_SERVICES,
                "",
                &format!("{version}.{group}"),
            )
            .is_some()
        {
            continue;
        }
        let wanted = bootstrap::api_service(group, version)
            .unwrap_or_else(|| bootstrap::custom_api_service(group, version));
        ignore_conflict(own.send(Method::POST, &collection, Some(&wanted)).await)?;
    }
    for service in server.list(REGISTRATION, API_SERVICES, "") {
        let at = |field: &str| service.str_at(&["spec", field]).to_owned();
        let gone = service.label(bootstrap::AUTOMANAGED) == Some("true")
            && service.at(&["spec", "service"]).is_none()
            && !served.contains(&(at("group"), at("version")));
        if gone {
            let path = format!("{collection}/{}", service.name());
            ignore_conflict(own.send(Method::DELETE, &path, None).await)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_says_whether_its_level_is_there() {
        let schema = json!({"metadata": {"name": "a"}, "spec": {}});
        let schema = Object::from_value(schema).expect("an object");
        let missing = with_dangling(&schema, "b", false).expect("a change");
        let condition = &missing.at(&["status", "conditions"]).expect("conditions")[0];
        assert_eq!(
            condition["message"],
            "This FlowSchema references the PriorityLevelConfiguration object named \"b\" but there is no such object"
        );
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("True"), &json!("NotFound"))
        );
        assert!(with_dangling(&missing, "b", false).is_none());
        let there = with_dangling(&missing, "b", true).expect("a change");
        assert_eq!(
            there
                .at(&["status", "conditions"])
                .and_then(Value::as_array)
                .map(Vec::len),
            Some(1)
        );
    }
}
