//! The ServiceCIDR `kubernetes`: the network that the server was told to give cluster addresses from.
//!
//! Behaviour: `pkg/controlplane/controller/defaultservicecidr`.

use std::sync::{Arc, Weak};

use access::Lookup;
use api::networking::servicecidr::{DEFAULT, READY};
use http::Method;
use machinery::{ApiError, Object, time};
use serde_json::{Value, json};

use crate::allocate::RANGES;
use crate::bootstrap::Own;
use crate::server::{Server, StartError};

const PATH: &str = "/apis/networking.k8s.io/v1/servicecidrs";

/// The object that is there from the start.
pub(crate) fn wanted(server: &Server) -> Object {
    let cidr = server.settings.service_range.to_string();
    let Value::Object(tree) = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": DEFAULT}, "spec": {"cidrs": [cidr]},
    }) else {
        return Object::default();
    };
    Object(tree)
}

/// Makes it, and says that it is ready while nobody else says anything.
///
/// # Errors
/// It cannot be written.
pub(crate) async fn settle(server: &Arc<Server>, own: &Own) -> Result<(), StartError> {
    try_settle(server, own)
        .await
        .map_err(|source| StartError::Bootstrap {
            what: format!("{PATH}/{DEFAULT}"),
            source,
        })
}

async fn try_settle(server: &Arc<Server>, own: &Own) -> Result<(), ApiError> {
    let there = server.get("networking.k8s.io", RANGES, "", DEFAULT);
    let wanted = wanted(server);
    let mut object = match there {
        Some(object) => (*object).clone(),
        None => match own.send(Method::POST, PATH, Some(&wanted)).await {
            Err(error) if error.code == 409 => return Ok(()),
            made => made?,
        },
    };
    let conditions = object
        .at(&["status", "conditions"])
        .and_then(Value::as_array);
    let conditions = conditions.cloned().unwrap_or_default();
    let said = conditions
        .iter()
        .any(|c| c["type"] == READY && c["status"] != "Unknown");
    let other = object.at(&["spec"]) != wanted.at(&["spec"]);
    if said || other || object.deletion_timestamp().is_some() {
        return Ok(());
    }
    let ready = json!([{
        "type": READY, "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": time::rfc3339(crate::call::now()),
    }]);
    object
        .object_at_mut(&["status"])
        .insert("conditions".to_owned(), ready);
    let path = format!("{PATH}/{DEFAULT}/status");
    match own.send(Method::PUT, &path, Some(&object)).await {
        Err(error) if !matches!(error.code, 404 | 409) => Err(error),
        _ => Ok(()),
    }
}

/// Puts it back when it is gone, until the server ends.
pub(crate) async fn keep(server: Weak<Server>) {
    let Some(strong) = server.upgrade() else {
        return;
    };
    let shutdown = strong.shutdown_token();
    let Some(storage) = strong.resources().storage("networking.k8s.io", RANGES) else {
        return;
    };
    let cache = storage.cache.clone();
    drop(strong);
    let mut changes = cache.subscribe();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
        let Some(server) = server.upgrade() else {
            return;
        };
        if let Err(error) = settle(&server, &Own::of(&server)).await {
            tracing::warn!(%error, "the network of cluster addresses cannot be kept");
        }
    }
}
