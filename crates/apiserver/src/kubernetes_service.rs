//! The service `kubernetes` in `default`: how pods reach this server, and every other one that shares its store.
//!
//! Behaviour: `pkg/controlplane/controller/kubernetesservice`, `pkg/controlplane/reconcilers`.

mod servers;

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use machinery::Object;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

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

/// Puts the service and its end points right whenever somebody has changed or removed them, or another server has come
/// or gone, until this server ends.
pub(crate) async fn keep(server: Weak<Server>) {
    let Some(strong) = server.upgrade() else {
        return;
    };
    let leaving = strong.leaving_token();
    let found = PLACES
        .iter()
        .filter_map(|(group, name)| strong.resources().storage(group, name));
    let caches: Vec<Arc<Cache>> = found.map(|storage| storage.cache.clone()).collect();
    let is_shared = strong.store().is_shared();
    let mut servers = servers::Following::begin(strong.store()).await;
    drop(strong);
    let mut changes: Vec<_> = caches.iter().map(|cache| cache.subscribe()).collect();
    let present = || -> Vec<_> {
        caches
            .iter()
            .map(|c| c.get(KEY).map(|e| e.revision))
            .collect()
    };
    let mut renewal = tokio::time::interval(servers::RENEW_EVERY);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = present();
    // Somebody may have come since it was settled last.
    let mut is_settled = !is_shared;
    loop {
        let any = futures::future::select_all(changes.iter_mut().map(|c| Box::pin(c.changed())));
        let renews = tokio::select! {
            _ = any => false,
            () = servers.changed(), if is_shared => {
                is_settled = false;
                false
            }
            _ = renewal.tick(), if is_shared => true,
            () = leaving.cancelled() => return,
        };
        let Some(server) = server.upgrade() else {
            return;
        };
        // Looked at before it is put right: what happens meanwhile is a reason to come again.
        let now = present();
        let kept = keep_once(&server, &mut servers, renews, is_settled && now == seen).await;
        seen = now;
        is_settled = kept.is_ok();
        if let Err(error) = kept {
            let error = chain(&error);
            tracing::warn!(error, "the service kubernetes cannot be kept");
        }
    }
}

async fn keep_once(
    server: &Arc<Server>,
    servers: &mut servers::Following,
    renews: bool,
    mut is_settled: bool,
) -> Result<(), StartError> {
    if renews {
        say_here(server).await?;
        if servers.is_over() {
            *servers = servers::Following::begin(server.store()).await;
            is_settled = false;
        }
    }
    match is_settled {
        true => Ok(()),
        false => settle(server, &Own::of(server)).await,
    }
}

/// An error and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Where several servers share a store, tells the others that this one is there.
///
/// # Errors
/// The store cannot be written.
pub(crate) async fn say_here(server: &Server) -> Result<(), StartError> {
    let address = server.settings.advertise_address;
    if server.store().is_shared() && !address.is_loopback() {
        servers::renew(server.store(), address).await?;
    }
    Ok(())
}

/// Makes the service and its end points say where this server and its peers are.
///
/// # Errors
/// They cannot be written.
pub(crate) async fn settle(server: &Arc<Server>, own: &Own) -> Result<(), StartError> {
    let address = server.settings.advertise_address;
    // A loopback address leads pods to themselves; the API refuses it as an end point.
    if address.is_loopback() {
        return write(server, own, None).await;
    }
    let addresses = match server.store().is_shared() {
        true => servers::all(server.store()).await?,
        false => vec![address],
    };
    if addresses.is_empty() {
        // Its own was written not long ago: something is wrong with the store, not with the servers.
        return Err(StartError::NoServers);
    }
    write(server, own, Some(&addresses)).await
}

/// Takes this server out of the end points, so that nobody is led to it any more; the others stay.
///
/// # Errors
/// They cannot be written.
pub(crate) async fn leave(server: &Arc<Server>) -> Result<(), StartError> {
    let address = server.settings.advertise_address;
    if !server.store().is_shared() || address.is_loopback() {
        return Ok(());
    }
    servers::remove(server.store(), address).await?;
    let others = servers::all(server.store()).await?;
    write(server, &Own::of(server), Some(&others)).await
}

/// Writes the service, and the end points if there are any to be told.
async fn write(
    server: &Arc<Server>,
    own: &Own,
    addresses: Option<&[IpAddr]>,
) -> Result<(), StartError> {
    let (settings, port) = (&server.settings, server.settings.advertise_port);
    let cluster_ip = settings.service_range.first().map(|ip| ip.to_string());
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]},
    });
    let mut wanted = vec![service];
    if let Some(addresses) = addresses {
        wanted.extend(end_points(addresses, port));
    }
    for object in wanted {
        if let Value::Object(tree) = object {
            own.ensure(&Object(tree)).await?;
        }
    }
    Ok(())
}

fn end_points(addresses: &[IpAddr], port: u16) -> [Value; 2] {
    let family = match addresses.iter().any(IpAddr::is_ipv6) {
        true => "IPv6",
        false => "IPv4",
    };
    let subsets: Vec<Value> = match addresses {
        [] => Vec::new(),
        some => {
            let addresses: Vec<Value> = some.iter().map(|ip| json!({"ip": ip})).collect();
            vec![json!({"addresses": addresses,
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}]})]
        }
    };
    let endpoints = addresses
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}));
    let endpoints: Vec<Value> = endpoints.collect();
    [
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": subsets,
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": family,
            "endpoints": endpoints,
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }),
    ]
}
