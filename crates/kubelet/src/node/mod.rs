//! The Node object: registered, kept up to date, and its lease renewed.

mod machine;
mod report;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::context::Context;

pub(crate) use machine::Machine;
pub(crate) use report::Reporter;

/// How long the lease of a node holds.
pub(crate) const LEASE_SECONDS: i32 = 40;

/// Renews the node's lease for ever.
pub(crate) async fn keep_lease(context: Arc<Context>) {
    if !context.nodes.synced().await {
        return;
    }
    let mut uid = None;
    // The lease goes away with its node, so that is waited for.
    while uid.is_none() {
        let node = context.nodes.get("", &context.node_name);
        uid = node.and_then(|n| n.metadata.uid.clone());
        if uid.is_none() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let keep = client::lease::Keep {
        namespace: "kube-node-lease".to_owned(),
        name: context.node_name.clone(),
        holder: context.node_name.clone(),
        duration_seconds: LEASE_SECONDS,
        every: Duration::from_secs(10),
        owner: Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: context.node_name.clone(),
            uid: uid.unwrap_or_default(),
            ..OwnerReference::default()
        }),
    };
    client::lease::keep(context.client.clone(), keep).await;
}
