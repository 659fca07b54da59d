//! `oxikube node`: the nodes of a cluster, one by one. Adding and starting them stands in [`crate::start`].

use std::fs;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Config};
use crate::commands::{ask_nodes, is_ready, must_exist, must_run, running};
use crate::start::say;
use crate::{checks, kubeconfig, power};

/// Removes a node from the cluster and from this machine.
pub(crate) fn remove(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    checks::root()?;
    must_run(cluster)?;
    let _lock = cluster.lock()?;
    let node = cluster.member_named(&cluster.config()?, name)?;
    let name = node.config.name();
    if node.config.is_first() {
        bail!("node {name} has the control plane: it goes with the cluster (`oxikube delete`)");
    }
    power::off(&node)?;
    forget(cluster, &name).with_context(|| format!("cannot remove node {name} from the API"))?;
    fs::remove_dir_all(&node.dir)
        .with_context(|| format!("cannot remove {}", node.dir.display()))?;
    say(&format!("node {name} is gone"));
    Ok(())
}

/// Deletes the object and its pods: nothing of them runs any more, so nobody need wait to see whether they come back.
fn forget(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let file = kubeconfig::own_file(cluster);
        let client = client::connect::from_kubeconfig(&file, None).await?;
        let nodes: Api<Node> = Api::all(client.clone());
        gone(nodes.delete(name, &DeleteParams::default()).await.map(drop))?;
        let on_it = ListParams::default().fields(&format!("spec.nodeName={name}"));
        for pod in Api::<Pod>::all(client.clone()).list(&on_it).await? {
            let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
            let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            let at_once = DeleteParams::default().grace_period(0);
            gone(pods.delete(&name, &at_once).await.map(drop))?;
        }
        Ok(())
    })
}

/// What is gone already need not be deleted.
fn gone(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result,
    }
}

/// Switches a node off, like a power cut.
pub(crate) fn stop(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    checks::root()?;
    must_exist(cluster)?;
    let _lock = cluster.lock()?;
    let config = cluster.config()?;
    let node = cluster.member_named(&config, name)?;
    let ran = node.init().is_some();
    power::off(&node)?;
    if !cluster.runs(&config) {
        power::cluster_off(cluster, &config)?;
    }
    let name = node.config.name();
    match ran {
        true => say(&format!("node {name} is off")),
        false => say(&format!("node {name} was off already")),
    }
    Ok(())
}

/// A line of the list.
struct Row {
    name: String,
    status: &'static str,
    /// What the API says; `None` when it does not know the node or does not answer.
    ready: Option<bool>,
    address: String,
}

fn rows(cluster: &Cluster, config: &Config) -> Vec<Row> {
    let known = match cluster.first(config).init() {
        // Without an API that answers there is still the list of what runs on this machine.
        Some(_) => ask_nodes(cluster).unwrap_or_default(),
        None => Vec::new(),
    };
    let row = |node: crate::member::Member| {
        let name = node.config.name();
        let known = known
            .iter()
            .find(|known| known.metadata.name.as_ref() == Some(&name));
        Row {
            status: running(node.init().is_some()),
            ready: known.map(is_ready),
            address: node.config.address().to_string(),
            name,
        }
    };
    cluster.members(config).into_iter().map(row).collect()
}

/// Lists the nodes.
pub(crate) fn list(cluster: &Cluster, as_json: bool) -> anyhow::Result<()> {
    checks::root()?;
    must_exist(cluster)?;
    let rows = rows(cluster, &cluster.config()?);
    if as_json {
        let row = |row: &Row| {
            json!({
                "name": row.name, "status": row.status, "ready": row.ready, "address": row.address,
            })
        };
        println!(
            "{:#}",
            Value::from(rows.iter().map(row).collect::<Vec<_>>())
        );
        return Ok(());
    }
    println!("{:<30} {:<10} {:<9} ADDRESS", "NAME", "STATUS", "READY");
    for row in rows {
        let ready = match row.ready {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        println!(
            "{:<30} {:<10} {ready:<9} {}",
            row.name, row.status, row.address
        );
    }
    Ok(())
}
