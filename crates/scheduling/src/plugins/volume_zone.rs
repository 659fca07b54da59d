//! Zones and regions on the labels of bound volumes against those of the node.
//!
//! Behaviour: `pkg/scheduler/framework/plugins/volumezone`.

use super::Filter;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

const REASON: &str = "node(s) had no available volume zone";
/// The label on volumes, and its name of today.
const LABELS: [(&str, &str); 4] = [
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    (
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
];
/// Between the zones of a volume that is in several.
const DELIMITER: &str = "__";

/// The plug-in `VolumeZone`.
pub(super) struct VolumeZone;

impl Filter for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn filter(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        // A node that says nothing of zones is in a cluster that has none.
        if !LABELS
            .iter()
            .any(|(label, _)| node.labels.contains_key(*label))
        {
            return Vec::new();
        }
        let claims = pod.claims.iter();
        let claims = claims.filter_map(|(n, _)| snapshot.storage.claim(&pod.key.namespace, n));
        let mut volumes =
            claims.filter_map(|claim| snapshot.storage.volume(volumes::volume_name(claim)));
        let elsewhere = volumes.any(|volume| {
            let labels = volume.metadata.labels.iter().flatten();
            labels.into_iter().any(|(key, zones)| {
                let Some((own, today)) = LABELS.iter().find(|(label, _)| label == key) else {
                    return false;
                };
                let there = node.labels.get(*own).or_else(|| node.labels.get(*today));
                there.is_none_or(|there| !zones.split(DELIMITER).any(|zone| zone == there))
            })
        });
        match elsewhere {
            true => vec![REASON.to_owned()],
            false => Vec::new(),
        }
    }

    fn gives_way(&self, _: &PodInfo, _: &NodeInfo, _: &[String]) -> bool {
        false
    }
}
