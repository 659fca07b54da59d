//! What all parts of a kubelet share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::events::Recorder;
use client::watch::Reader;
use cri::{ImageService, RuntimeService};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use parking_lot::Mutex;
use pod_lifecycle::view::NodeFacts;
use std::collections::BTreeMap;

use crate::images::Puller;
use crate::logs::rotate::Rotation;
use crate::objects::Objects;
use crate::pods::Mailbox;
use crate::static_pods::StaticPods;

/// See the module.
pub(crate) struct Context {
    pub(crate) node_name: String,
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn RuntimeService>,
    pub(crate) images: Arc<dyn ImageService>,
    pub(crate) root_dir: PathBuf,
    pub(crate) facts: NodeFacts,
    pub(crate) node: pod_lifecycle::config::Node,
    /// What the node has to give.
    pub(crate) allocatable: BTreeMap<String, Quantity>,
    pub(crate) recorder: Recorder,
    pub(crate) services: Reader<Service>,
    pub(crate) nodes: Reader<Node>,
    pub(crate) objects: Objects,
    pub(crate) puller: Puller,
    pub(crate) cgroups: crate::cgroups::Cgroups,
    pub(crate) tokens: crate::volumes::tokens::Tokens,
    pub(crate) certificates: crate::volumes::certificates::Certificates,
    /// Where the claims' volumes of pods lie.
    pub(crate) claimed: crate::volumes::claims::Claimed,
    pub(crate) rotation: Rotation,
    pub(crate) measures: Arc<crate::measures::Measures>,
    /// Something that the node's status tells of has changed.
    pub(crate) node_changed: tokio::sync::Notify,
    /// The pods of this node by UID.
    pub(crate) pods: Arc<Mutex<HashMap<String, Arc<Mailbox>>>>,
    /// Those that files name, and their mirrors.
    pub(crate) static_pods: StaticPods,
}

impl Context {
    /// Where the files of a pod lie.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        pod_dir(&self.root_dir, uid)
    }

    /// The pod of that name that is on this node now.
    pub(crate) fn find_pod(&self, namespace: &str, name: &str) -> Option<Arc<Mailbox>> {
        let pods = self.pods.lock();
        let mut found: Vec<_> = pods
            .values()
            .filter(|m| {
                let pod = m.pod();
                pod_lifecycle::pod::name(&pod) == name
                    && pod_lifecycle::pod::namespace(&pod) == namespace
            })
            .collect();
        // A pod that is on its way out makes room for its successor of the same name.
        found.sort_by_key(|m| m.is_removed());
        found.first().map(|m| Arc::clone(m))
    }
}

/// Where the files of a pod lie below `root`. A UID is a name, never a path.
pub(crate) fn pod_dir(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid.replace('/', "_"))
}
