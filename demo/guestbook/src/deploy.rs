//! Deploys the manifests through the API, as the tutorial does with kubectl.

use std::path::PathBuf;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod, ReplicationController, Service};
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};

use crate::step;

/// How long pods may take to get ready; on a slow machine the images are large to unpack.
const PATIENCE_SECONDS: u32 = 240;

const CONTROLLERS: [(&str, &str); 3] = [
    (
        "redis-master",
        include_str!("../manifests/redis-master-controller.yaml"),
    ),
    (
        "redis-slave",
        include_str!("../manifests/redis-slave-controller.yaml"),
    ),
    (
        "frontend",
        include_str!("../manifests/frontend-controller.yaml"),
    ),
];
const SERVICES: [(&str, &str); 3] = [
    (
        "redis-master",
        include_str!("../manifests/redis-master-service.yaml"),
    ),
    (
        "redis-slave",
        include_str!("../manifests/redis-slave-service.yaml"),
    ),
    (
        "frontend",
        include_str!("../manifests/frontend-service.yaml"),
    ),
];
const NODE_PORT: &str = include_str!("../manifests/frontend-service-nodeport.yaml");

/// Deploys all and waits; the result is the front end's address as seen from this machine.
pub(crate) async fn deploy(context: &str) -> anyhow::Result<String> {
    let client = client::connect::from_kubeconfig(&kubeconfig()?, Some(context)).await?;
    let controllers: Api<ReplicationController> = Api::namespaced(client.clone(), "default");
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    for ((name, controller), (_, service)) in CONTROLLERS.iter().zip(SERVICES) {
        step(&format!("deploying {name}"));
        controllers
            .create(&PostParams::default(), &parse(controller)?)
            .await?;
        services
            .create(&PostParams::default(), &parse(service)?)
            .await?;
    }
    for (name, controller) in CONTROLLERS {
        let wanted: ReplicationController = parse(controller)?;
        let replicas = wanted.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        step(&format!("waiting for {replicas} x {name}"));
        ready(&client, name, replicas).await?;
    }
    step("opening the front end to this machine: NodePort");
    services
        .delete("frontend", &DeleteParams::default())
        .await?;
    let service = services
        .create(&PostParams::default(), &parse(NODE_PORT)?)
        .await?;
    address(&client, &service).await
}

fn kubeconfig() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".kube/config"))
}

fn parse<T: serde::de::DeserializeOwned>(yaml: &str) -> anyhow::Result<T> {
    Ok(serde_saphyr::from_str(yaml)?)
}

/// Waits, by watching, until this many pods of the controller are ready.
async fn ready(client: &Client, name: &str, replicas: i32) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let selector = format!("name={name}");
    let list = pods.list(&ListParams::default().labels(&selector)).await?;
    let mut known: std::collections::HashMap<String, bool> = list
        .items
        .iter()
        .map(|pod| (name_of(pod), is_ready(pod)))
        .collect();
    let version = list.metadata.resource_version.unwrap_or_default();
    let parameters = WatchParams::default()
        .labels(&selector)
        .timeout(PATIENCE_SECONDS);
    let mut events = pods.watch(&parameters, &version).await?.boxed();
    let enough = |known: &std::collections::HashMap<String, bool>| {
        i32::try_from(known.values().filter(|ready| **ready).count()).is_ok_and(|n| n >= replicas)
    };
    while !enough(&known) {
        let event = events.try_next().await?;
        match event.with_context(|| format!("{name} is not ready after {PATIENCE_SECONDS} s"))? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                known.insert(name_of(&pod), is_ready(&pod));
            }
            WatchEvent::Deleted(pod) => drop(known.remove(&name_of(&pod))),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => anyhow::bail!("{}", status.message),
        }
    }
    Ok(())
}

fn name_of(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn address(client: &Client, service: &Service) -> anyhow::Result<String> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    let port = ports
        .filter_map(|port| port.node_port)
        .next()
        .context("no node port was given")?;
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let mut addresses = nodes.items.iter().flat_map(|node| {
        node.status
            .iter()
            .flat_map(|status| status.addresses.iter().flatten())
    });
    let address = addresses
        .find(|a| a.type_ == "InternalIP")
        .context("the node has no address")?;
    Ok(format!("http://{}:{port}", address.address))
}
