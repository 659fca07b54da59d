//! A cluster of three nodes: how fast it starts, how fast many pods start on it, a rolling update under load, and what the
//! tunnel between nodes costs.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use demo_images::{Image, samples};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::load::Load;
use crate::report::Report;
use crate::throughput;

const PODS: i32 = 100;
const UPDATED_PODS: i32 = 30;
const NODE_PORT: u16 = 30080;
/// What takes longer than this does not come to pass.
const PATIENCE: Duration = Duration::from_secs(180);
/// Throughput is measured so often each way, in turn: the machine is not the same at every moment.
const STREAMS: usize = 5;

pub(crate) fn run(cluster: &Cluster, report: &mut Report) -> anyhow::Result<()> {
    let ready = cluster.oxikube(&["start", "--nodes", "3"])?;
    report.figure("three nodes, new cluster to ready with DNS", ready, "s")?;
    let app = cluster.program().with_file_name("demo-app");
    for image in [
        samples::busybox()?,
        samples::hello_world(&app, 1)?,
        samples::hello_world(&app, 2)?,
    ] {
        load(cluster, &image)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = cluster.client().await?;
        let taken = many_pods(&client).await?;
        report.figure("100 pods of one Deployment, all ready", taken, "s")?;
        rolling_update(&client, report).await
    })?;
    let by_vxlan = between_nodes(cluster, &runtime)?;
    cluster.oxikube(&["delete"])?;
    cluster.oxikube(&["start", "--nodes", "2", "--network-backend", "host-gw"])?;
    load(cluster, &samples::busybox()?)?;
    let plain = between_nodes(cluster, &runtime)?;
    report.figure("pod to pod of another node, VXLAN", by_vxlan, "Gbit/s")?;
    report.figure("pod to pod of another node, plain routes", plain, "Gbit/s")?;
    report.figure(
        "VXLAN, share of plain routes",
        by_vxlan / plain * 100.0,
        "%",
    )
}

fn load(cluster: &Cluster, image: &Image) -> anyhow::Result<()> {
    let archive = cluster.data().with_file_name("image.tar");
    image.build()?.archive(File::create(&archive)?)?;
    let archive = archive.to_str().context("a path that is not text")?;
    cluster.oxikube(&["image", "load", archive]).map(drop)
}

async fn within<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => bail!(
            "{what} did not come to pass within {} s",
            PATIENCE.as_secs()
        ),
    }
}

fn deployment(name: &str, replicas: i32, container: &Value) -> anyhow::Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container]},
            },
        },
    }))?)
}

/// All pods are of the newest template, and ready.
fn is_rolled_out(deployment: Option<&Deployment>) -> bool {
    let Some(deployment) = deployment else {
        return false;
    };
    let wanted = deployment.spec.replicas;
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == wanted
            && status.replicas == wanted
            && status.available_replicas == wanted
    })
}

async fn rolled_out(api: &Api<Deployment>, name: &str) -> anyhow::Result<()> {
    let condition = await_condition(api.clone(), name, is_rolled_out);
    within("the rollout", async { Ok(condition.await.map(drop)?) }).await
}

/// Seconds from the request to the event that says that all are ready.
async fn many_pods(client: &Client) -> anyhow::Result<f64> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let container = json!({
        "name": "main", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
    });
    let began = Instant::now();
    api.create(
        &PostParams::default(),
        &deployment("many", PODS, &container)?,
    )
    .await?;
    rolled_out(&api, "many").await?;
    let taken = began.elapsed().as_secs_f64();
    api.delete("many", &DeleteParams::foreground()).await?;
    let gone = await_condition(api, "many", |found: Option<&Deployment>| found.is_none());
    within("the removal", async { Ok(gone.await.map(drop)?) }).await?;
    Ok(taken)
}

async fn rolling_update(client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let image = |version: u32| format!("registry.hnaresearch.com/public/hello-world:v{version}.0");
    let container = json!({
        "name": "main", "image": image(1), "imagePullPolicy": "IfNotPresent",
        "readinessProbe": {"httpGet": {"path": "/", "port": 8090}, "periodSeconds": 1},
    });
    api.create(
        &PostParams::default(),
        &deployment("hello", UPDATED_PODS, &container)?,
    )
    .await?;
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "hello"},
        "spec": {
            "type": "NodePort", "selector": {"app": "hello"},
            "ports": [{"port": 8090, "nodePort": NODE_PORT}],
        },
    }))?;
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    services.create(&PostParams::default(), &service).await?;
    rolled_out(&api, "hello").await?;
    let load = Load::start(node_addresses(client).await?, NODE_PORT);
    let began = Instant::now();
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "main", "image": image(2)},
    ]}}}});
    api.patch("hello", &PatchParams::default(), &Patch::Strategic(patch))
        .await?;
    let rolled_out = rolled_out(&api, "hello").await;
    let taken = began.elapsed().as_secs_f64();
    let counted = load.stop();
    rolled_out?;
    report.figure("rolling update of 30 pods under load", taken, "s")?;
    report.figure("requests during the update", counted.answered as f64, "")?;
    report.figure("of them failed", counted.failed as f64, "")?;
    if let Some(why) = counted.first_failure {
        println!("the first failure: {why}");
    }
    Ok(())
}

async fn node_addresses(client: &Client) -> anyhow::Result<Vec<String>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let address = |node: &Node| {
        let addresses = node.status.as_ref()?.addresses.as_ref()?;
        let internal = addresses
            .iter()
            .find(|address| address.type_ == "InternalIP")?;
        Some(internal.address.clone())
    };
    let nodes = nodes.list(&ListParams::default()).await?;
    Ok(nodes.iter().filter_map(address).collect())
}

/// Gbit/s of one stream between pods of two nodes: the best of several, as the machine does other things, too.
fn between_nodes(cluster: &Cluster, runtime: &tokio::runtime::Runtime) -> anyhow::Result<f64> {
    let addresses = runtime.block_on(async {
        let client = cluster.client().await?;
        let nodes: Api<Node> = Api::all(client.clone());
        let nodes = nodes.list(&ListParams::default().limit(2)).await?;
        let mut addresses = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            let node = node.metadata.name.as_deref().unwrap_or_default();
            addresses.push(idle_pod(&client, &format!("stream-{number}"), node).await?);
        }
        anyhow::Ok(addresses)
    })?;
    let [from, to] = addresses.as_slice() else {
        bail!("two nodes are needed");
    };
    let processes = cluster.processes()?;
    let from = throughput::namespace_of(&processes, *from)?;
    let mut best: f64 = 0.0;
    for _ in 0..STREAMS {
        let there = throughput::namespace_of(&processes, *to)?;
        best = best.max(throughput::stream(&from, &there, *to)?);
    }
    Ok(best)
}

/// A pod that does nothing on a node, and its address.
async fn idle_pod(client: &Client, name: &str, node: &str) -> anyhow::Result<std::net::Ipv4Addr> {
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [{
            "name": "main", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "3600"],
        }]},
    }))?;
    api.create(&PostParams::default(), &pod).await?;
    let runs = kube::runtime::conditions::is_pod_running();
    let pod = within("a pod", async {
        Ok(await_condition(api, name, runs).await?)
    })
    .await?;
    let address = pod
        .and_then(|pod| pod.status)
        .and_then(|status| status.pod_ip);
    address
        .context("a running pod has no address")?
        .parse()
        .context("no IPv4 address")
}

/// Where the programs of the build are.
pub(crate) fn needs(program: &Path) -> anyhow::Result<()> {
    let app = program.with_file_name("demo-app");
    match app.exists() {
        true => Ok(()),
        false => bail!("{} is not built", app.display()),
    }
}
