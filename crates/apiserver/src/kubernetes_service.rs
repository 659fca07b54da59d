//! The service `kubernetes` in `default`: how pods reach this server.
//!
//! Behaviour: `pkg/controlplane/controller/kubernetesservice`, `pkg/controlplane/reconcilers`.

use std::sync::{Arc, Weak};

use machinery::Object;
use serde_json::{Value, json};

use crate::bootstrap::Own;
use crate::cache::Cache;
use crate::server::{Server, StartError};

/// Where the service and its end points are kept.
const PLACES: [(&str, &str); 3] = [
    ("", "services"),
    ("", "endpoints"),
    ("discovery.k8s.io", "endpointslices"),
];
const KEY: &str = "default/kubernetes";

/// Puts the service and its end points right whenever somebody has changed or removed them, until the server ends.
pub(crate) async fn keep(server: Weak<Server>) {
    let Some(strong) = server.upgrade() else {
        return;
    };
    let shutdown = strong.shutdown_token();
    let found = PLACES
        .iter()
        .filter_map(|(group, name)| strong.resources().storage(group, name));
    let caches: Vec<Arc<Cache>> = found.map(|storage| storage.cache.clone()).collect();
    drop(strong);
    let mut changes: Vec<_> = caches.iter().map(|cache| cache.subscribe()).collect();
    let present = || -> Vec<_> {
        caches
            .iter()
            .map(|c| c.get(KEY).map(|e| e.revision))
            .collect()
    };
    let mut seen = present();
    loop {
        let any = futures::future::select_all(changes.iter_mut().map(|c| Box::pin(c.changed())));
        tokio::select! {
            _ = any => {}
            () = shutdown.cancelled() => return,
        }
        // Looked at before it is put right: what happens meanwhile is a reason to come again.
        let now = present();
        if now == seen {
            continue;
        }
        seen = now;
        let Some(server) = server.upgrade() else {
            return;
        };
        if let Err(error) = settle(&server, &Own::of(&server)).await {
            tracing::warn!(%error, "the service kubernetes cannot be kept");
        }
    }
}

/// Makes the service and its end points say where this server is.
///
/// # Errors
/// They cannot be written.
pub(crate) async fn settle(server: &Arc<Server>, own: &Own) -> Result<(), StartError> {
    let settings = &server.settings;
    let (address, port) = (
        settings.advertise_address.to_string(),
        settings.advertise_port,
    );
    let cluster_ip = settings.service_range.first().map(|ip| ip.to_string());
    let family = if settings.advertise_address.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    let wanted = [
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "sessionAffinity": "None",
                "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]},
        }),
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": address}],
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": family,
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }),
    ];
    // A loopback address leads pods to themselves; the API refuses it as an end point.
    let reachable = !settings.advertise_address.is_loopback();
    for object in wanted.into_iter().take(if reachable { 3 } else { 1 }) {
        if let Value::Object(tree) = object {
            own.ensure(&Object(tree)).await?;
        }
    }
    Ok(())
}
