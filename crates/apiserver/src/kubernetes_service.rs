//! The service `kubernetes` in `default`: how pods reach this server.
//!
//! Behaviour: `pkg/controlplane/controller/kubernetesservice`, `pkg/controlplane/reconcilers`.

use std::sync::Arc;

use machinery::Object;
use serde_json::{Value, json};

use crate::bootstrap::Own;
use crate::server::{Server, StartError};

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
    let cluster_ip = server.books().address(1).to_string();
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
