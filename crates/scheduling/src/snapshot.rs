//! The cluster as the scheduler knows it, its own decisions included.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Node;

use crate::node::NodeInfo;
use crate::pod::{PodInfo, PodKey};
use crate::storage::Storage;

/// All nodes with the pods on them.
///
/// Invariant: a pod is on one node at most, and every node's sums are those of its pods.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, NodeInfo>,
    places: HashMap<PodKey, String>,
    /// Labels of each name-space, for affinity terms that select name-spaces.
    pub(crate) namespaces: HashMap<String, BTreeMap<String, String>>,
    /// Claims, volumes and classes.
    pub storage: Storage,
}

impl Snapshot {
    /// An empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// The nodes that exist, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|node| node.exists)
    }

    /// A node that exists.
    pub(crate) fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).filter(|node| node.exists)
    }

    /// Takes in a node.
    pub fn set_node(&mut self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.nodes.entry(name).or_default().set_node(node);
    }

    /// Forgets a node; its pods are kept in mind until they are gone themselves.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.exists = false;
            if node.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// Takes in a pod that has a node: bound, or decided for it just now. A finished pod needs nothing any more.
    pub fn set_pod(&mut self, pod: PodInfo) {
        self.remove_pod(&pod.key);
        let Some(node) = pod.node_name.clone().filter(|_| !pod.finished) else {
            return;
        };
        self.places.insert(pod.key.clone(), node.clone());
        self.nodes.entry(node).or_default().add(pod);
    }

    /// Forgets a pod; true if it was known.
    pub fn remove_pod(&mut self, key: &PodKey) -> bool {
        let Some(name) = self.places.remove(key) else {
            return false;
        };
        if let Some(node) = self.nodes.get_mut(&name) {
            node.remove(key);
            if !node.exists && node.pods.is_empty() {
                self.nodes.remove(&name);
            }
        }
        true
    }

    /// The node that a pod is on.
    pub fn place_of(&self, key: &PodKey) -> Option<&str> {
        self.places.get(key).map(String::as_str)
    }

    /// Takes in (or, with `None`, forgets) a name-space's labels.
    pub fn set_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>) {
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.to_owned(), labels)),
            None => drop(self.namespaces.remove(name)),
        }
    }
}
