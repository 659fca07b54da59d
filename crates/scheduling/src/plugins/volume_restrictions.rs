//! Volumes that only one pod may use: claims for one pod alone, and disks that are attached to one node.
//!
//! Behaviour: `pkg/scheduler/framework/plugins/volumerestrictions`.

use k8s_openapi::api::core::v1::Volume;

use super::Filter;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

const DISK: &str = "node(s) had no available disk";
const ONE_POD: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";

/// The plug-in `VolumeRestrictions`.
pub(super) struct VolumeRestrictions;

impl Filter for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn filter(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        let mut others = node.pods.values().filter(|other| other.key != pod.key);
        let disks = |other: &PodInfo| {
            let mut own = pod.disks.iter();
            own.any(|disk| other.disks.iter().any(|there| conflict(disk, there)))
        };
        if !pod.disks.is_empty() && others.any(disks) {
            return vec![DISK.to_owned()];
        }
        match is_alone(snapshot, pod) {
            true => Vec::new(),
            false => vec![ONE_POD.to_owned()],
        }
    }
}

/// No claim for one pod alone is used by a pod on any node.
fn is_alone(snapshot: &Snapshot, pod: &PodInfo) -> bool {
    let for_one = |name: &&String| {
        let claim = snapshot.storage.claim(&pod.key.namespace, name);
        let spec = claim.and_then(|c| c.spec.as_ref());
        let modes = spec
            .into_iter()
            .flat_map(|s| s.access_modes.iter().flatten());
        modes.into_iter().any(|mode| mode == "ReadWriteOncePod")
    };
    let named = pod.claims.iter().filter(|(_, made)| !made);
    let own: Vec<&String> = named.map(|(name, _)| name).filter(for_one).collect();
    if own.is_empty() {
        return true;
    }
    let uses = |other: &PodInfo| {
        let same_place = other.key.namespace == pod.key.namespace && other.key != pod.key;
        same_place && other.claims.iter().any(|(name, _)| own.contains(&name))
    };
    !snapshot.nodes().any(|node| node.pods.values().any(uses))
}

/// Volumes of a pod that name a disk of a storage system themselves.
pub(crate) fn is_disk(volume: &Volume) -> bool {
    volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.iscsi.is_some()
        || volume.rbd.is_some()
}

fn conflict(a: &Volume, b: &Volume) -> bool {
    let written = |a: Option<bool>, b: Option<bool>| !(a == Some(true) && b == Some(true));
    if let (Some(a), Some(b)) = (&a.gce_persistent_disk, &b.gce_persistent_disk)
        && a.pd_name == b.pd_name
        && written(a.read_only, b.read_only)
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.aws_elastic_block_store, &b.aws_elastic_block_store)
        && a.volume_id == b.volume_id
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.iscsi, &b.iscsi)
        && a.iqn == b.iqn
        && written(a.read_only, b.read_only)
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.rbd, &b.rbd) {
        let common = a.monitors.iter().any(|m| b.monitors.contains(m));
        return common
            && a.pool == b.pool
            && a.image == b.image
            && written(a.read_only, b.read_only);
    }
    false
}
