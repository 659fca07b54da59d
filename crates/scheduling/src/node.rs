//! What scheduling needs to know of a node, with what its pods ask of it.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::pod::{HostPort, PodInfo, PodKey};
use crate::resources::Resources;

/// A node and the pods on it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// It is cordoned.
    pub unschedulable: bool,
    /// What pods may ask for in all.
    pub allocatable: Resources,
    /// What they ask for.
    pub requested: Resources,
    /// The same with something for containers that ask for nothing.
    pub nonzero_requested: Resources,
    /// Sizes of the images that it has, by every name they go by.
    pub images: HashMap<String, i64>,
    /// Its pods.
    pub pods: HashMap<PodKey, PodInfo>,
    pub(crate) host_ports: Vec<HostPort>,
    /// The object is there; pods may be known before their node is.
    pub(crate) exists: bool,
}

impl NodeInfo {
    pub(crate) fn set_node(&mut self, node: &Node) {
        let spec = node.spec.clone().unwrap_or_default();
        let status = node.status.as_ref();
        self.name = node.metadata.name.clone().unwrap_or_default();
        self.labels = node.metadata.labels.clone().unwrap_or_default();
        self.taints = spec.taints.unwrap_or_default();
        self.unschedulable = spec.unschedulable.unwrap_or(false);
        self.allocatable = Resources::from_list(status.and_then(|s| s.allocatable.as_ref()));
        let images = status.into_iter().flat_map(|s| s.images.iter().flatten());
        self.images = images
            .flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image
                    .names
                    .iter()
                    .flatten()
                    .map(move |name| (name.clone(), size))
            })
            .collect();
        self.exists = true;
    }

    pub(crate) fn add(&mut self, pod: PodInfo) {
        self.requested.add(&pod.requests);
        self.nonzero_requested.add(&pod.nonzero_requests);
        self.host_ports.extend(pod.host_ports.iter().cloned());
        self.pods.insert(pod.key.clone(), pod);
    }

    pub(crate) fn remove(&mut self, key: &PodKey) -> Option<PodInfo> {
        let pod = self.pods.remove(key)?;
        self.requested.subtract(&pod.requests);
        self.nonzero_requested.subtract(&pod.nonzero_requests);
        for port in &pod.host_ports {
            if let Some(at) = self.host_ports.iter().position(|p| p == port) {
                self.host_ports.swap_remove(at);
            }
        }
        Some(pod)
    }
}
