//! How many volumes of a CSI driver a node can have attached.
//!
//! Behaviour: `pkg/scheduler/framework/plugins/nodevolumelimits`.

use std::collections::{BTreeMap, BTreeSet};

use super::Filter;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

const REASON: &str = "node(s) exceed max volume count";

/// The plug-in `NodeVolumeLimits`.
pub(super) struct NodeVolumeLimits;

/// Driver and the volume's own name with it.
type Attached = BTreeSet<(String, String)>;

impl Filter for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn filter(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        let limits = limits(snapshot, node);
        if limits.is_empty() || pod.claims.is_empty() {
            return Vec::new();
        }
        let mut attached = Attached::new();
        for other in node.pods.values() {
            attach(snapshot, other, &mut attached);
        }
        let before = attached.clone();
        attach(snapshot, pod, &mut attached);
        let count = |all: &Attached, driver: &str| all.iter().filter(|(d, _)| d == driver).count();
        let exceeds = |(driver, limit): (&String, &usize)| {
            let after = count(&attached, driver);
            after > count(&before, driver) && after > *limit
        };
        match limits.iter().any(exceeds) {
            true => vec![REASON.to_owned()],
            false => Vec::new(),
        }
    }
}

fn limits(snapshot: &Snapshot, node: &NodeInfo) -> BTreeMap<String, usize> {
    let csi = snapshot.storage.csi_node(&node.name);
    let drivers = csi.into_iter().flat_map(|csi| &csi.spec.drivers);
    let limit = |driver: &k8s_openapi::api::storage::v1::CSINodeDriver| {
        let count = driver.allocatable.as_ref()?.count?;
        Some((driver.name.clone(), usize::try_from(count).unwrap_or(0)))
    };
    drivers.filter_map(limit).collect()
}

fn attach(snapshot: &Snapshot, pod: &PodInfo, attached: &mut Attached) {
    let storage = &snapshot.storage;
    for (name, _) in &pod.claims {
        let Some(claim) = storage.claim(&pod.key.namespace, name) else {
            continue;
        };
        let volume = storage.volume(volumes::volume_name(claim));
        let source = volume
            .and_then(|v| v.spec.as_ref())
            .and_then(|s| s.csi.as_ref());
        if let Some(source) = source {
            attached.insert((source.driver.clone(), source.volume_handle.clone()));
        } else if volume.is_none()
            && let Some(class) = storage.class(volumes::claim_class(claim))
        {
            // It is going to be that driver's.
            let own = format!("{}/{name}", pod.key.namespace);
            attached.insert((class.provisioner.clone(), own));
        }
    }
}
