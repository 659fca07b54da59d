//! Which collections have to be read for an answer.

use control::{Key, Kind, Resource};
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Endpoints, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;

/// Where nodes renew their leases.
const NODE_LEASES: &str = "kube-node-lease";

/// A collection to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The kind.
    pub resource: Resource,
    /// The namespace; all of them when it is empty.
    pub namespace: String,
}

/// The collections that an answer about an object of this kind may use. An object that is being deleted needs the
/// metadata of everything in its namespace as well, which the caller lists by discovery.
pub fn needs(resource: &Resource, key: &Key) -> Vec<Need> {
    let mut needs = vec![
        cluster::<Node>(),
        within::<Lease>(NODE_LEASES),
        cluster::<Pod>(),
        cluster::<Namespace>(),
    ];
    let place = match (resource.kind.as_ref(), key.namespace.as_str()) {
        ("Namespace", _) => key.name.as_str(),
        (_, "") => {
            needs.push(cluster::<Event>());
            needs.push(cluster::<PersistentVolumeClaim>());
            needs.push(cluster::<PersistentVolume>());
            return needs;
        }
        (_, namespace) => namespace,
    };
    needs.extend([
        within::<Event>(place),
        within::<Service>(place),
        within::<Endpoints>(place),
        within::<EndpointSlice>(place),
        within::<Deployment>(place),
        within::<ReplicaSet>(place),
        within::<ReplicationController>(place),
        within::<StatefulSet>(place),
        within::<DaemonSet>(place),
        within::<ControllerRevision>(place),
        within::<Job>(place),
        within::<CronJob>(place),
        within::<ResourceQuota>(place),
        within::<PersistentVolumeClaim>(place),
        cluster::<PersistentVolume>(),
        cluster::<StorageClass>(),
    ]);
    needs
}

fn cluster<K: Kind>() -> Need {
    within::<K>("")
}

fn within<K: Kind>(namespace: &str) -> Need {
    Need {
        resource: Resource::of::<K>(),
        namespace: namespace.to_owned(),
    }
}
