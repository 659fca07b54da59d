//! The cluster as the scheduler knows it, its own decisions included.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::budgets::Budgets;
use crate::groups::{Group, Groups};
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
    /// Pods that wait for others to leave the node that they were promised.
    promised: BTreeMap<PodKey, PodInfo>,
    budgets: Budgets,
    pub(crate) groups: Groups,
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

    /// One node that exists.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).filter(|node| node.exists)
    }

    /// Takes in a pod that waits for the node that it was promised; one that was promised none is forgotten.
    pub fn promise(&mut self, pod: PodInfo) {
        match pod.promised {
            Some(_) => drop(self.promised.insert(pod.key.clone(), pod)),
            None => drop(self.promised.remove(&pod.key)),
        }
    }

    /// Forgets what a pod was promised.
    pub fn unpromise(&mut self, key: &PodKey) {
        self.promised.remove(key);
    }

    /// The pods that a node is promised to.
    pub fn promised(&self, node: &str) -> impl Iterator<Item = &PodInfo> {
        let all = self.promised.values();
        all.filter(move |pod| pod.promised.as_deref() == Some(node))
    }

    /// Takes in a disruption budget.
    pub fn set_budget(&mut self, budget: &PodDisruptionBudget) {
        self.budgets.set(budget);
    }

    /// Forgets a disruption budget.
    pub fn remove_budget(&mut self, budget: &PodDisruptionBudget) {
        self.budgets.remove(budget);
    }

    /// Which of the pods would break a disruption budget by going, in this order.
    pub(crate) fn breaking(&self, pods: &[PodInfo]) -> BTreeSet<PodKey> {
        self.budgets.breaking(pods)
    }

    /// Takes in something that selects pods, or forgets it.
    pub fn set_group(&mut self, group: &Group<'_>, gone: bool) {
        self.groups.set(group, gone);
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
