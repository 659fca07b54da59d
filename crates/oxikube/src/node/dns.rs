//! The cluster DNS as objects of the cluster: the service `kube-dns` with this node as its end point, and the rights of
//! the server behind it.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use cluster_dns::{Listeners, Upstreams};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Who the DNS server is; the name is the usual one of its service account.
pub(crate) const USER: &str = "system:serviceaccount:kube-system:coredns";
/// Where it listens on the node: port 53 is left to pods on the node's network.
pub(crate) const PORT: u16 = 10053;

const NAMESPACE: &str = "kube-system";
const ROLE: &str = "system:coredns";

/// Where the cluster DNS runs, and the address of its service.
pub(crate) struct Place {
    pub(crate) node: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) service: Ipv4Addr,
}

/// Makes the objects, or brings them back to what they must be.
pub(crate) async fn settle(client: Client, place: &Place) -> Result<(), kube::Error> {
    for object in objects(place) {
        apply(&client, object).await?;
    }
    Ok(())
}

/// Makes an object of the cluster, or makes one that is there say what it must.
pub(crate) async fn apply(client: &Client, object: Value) -> Result<(), kube::Error> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&object["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let kind = GroupVersionKind::gvk(group, version, &text(&object["kind"]));
    let resource = ApiResource::from_gvk(&kind);
    let namespace = text(&object["metadata"]["namespace"]);
    let api: Api<DynamicObject> = match namespace.as_str() {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let name = text(&object["metadata"]["name"]);
    let parameters = PatchParams::apply("oxikube").force();
    api.patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .map(drop)
}

fn objects(place: &Place) -> Vec<Value> {
    let rbac = "rbac.authorization.k8s.io";
    let labels = json!({
        "k8s-app": "kube-dns",
        "kubernetes.io/cluster-service": "true",
        "kubernetes.io/name": "CoreDNS",
    });
    let ports = |number: u16, key: &str| {
        json!([
            {"name": "dns", "protocol": "UDP", key: number},
            {"name": "dns-tcp", "protocol": "TCP", key: number},
        ])
    };
    let read = json!(["list", "watch"]);
    vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "coredns", "namespace": NAMESPACE},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": ROLE},
            "rules": [
                {"apiGroups": [""], "verbs": read,
                 "resources": ["endpoints", "services", "pods", "namespaces"]},
                {"apiGroups": ["discovery.k8s.io"], "verbs": read,
                 "resources": ["endpointslices"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": ROLE},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": ROLE},
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": NAMESPACE}],
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": NAMESPACE, "labels": labels},
            "spec": {"clusterIP": place.service, "ports": ports(53, "port")},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns", "namespace": NAMESPACE,
                "labels": {
                    "kubernetes.io/service-name": "kube-dns",
                    "endpointslice.kubernetes.io/managed-by": "oxikube",
                },
            },
            "addressType": "IPv4",
            "endpoints": [{
                "addresses": [place.address],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": place.node,
            }],
            "ports": ports(PORT, "port"),
        }),
    ]
}

/// Listens, and returns the future that serves.
pub(crate) async fn serve(
    client: Client,
    domain: &str,
    address: SocketAddr,
    ready: watch::Sender<bool>,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let listeners = Listeners::bind(address).await;
    let listeners = listeners.with_context(|| format!("the DNS cannot listen on {address}"))?;
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let upstreams = Upstreams::parse(&resolv_conf);
    let domain = domain.to_owned();
    Ok(async move {
        cluster_dns::run(client, &domain, upstreams, listeners, ready).await;
    })
}
