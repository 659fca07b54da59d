//! What scheduling needs to know of a pod.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Affinity, Pod, Toleration, TopologySpreadConstraint, Volume};

use crate::groups::Owner;
use crate::plugins::is_disk;
use crate::resources::{Resources, pod_requests};

/// The scheduler of pods that name none.
pub const UNNAMED_SCHEDULER: &str = "default-scheduler";

/// Why a pod is disrupted that makes room for another.
pub const PREEMPTION: &str = "PreemptionByScheduler";

/// Name-space and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// Name-space.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A port of the node that a pod wants for itself: address, protocol, number.
pub(crate) type HostPort = (String, String, i32);

/// A pod as scheduling sees it, worked out once.
#[derive(Clone, Debug, PartialEq)]
pub struct PodInfo {
    /// Name-space and name.
    pub key: PodKey,
    /// UID.
    pub uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Priority; 0 when it has none.
    pub priority: i32,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The node that it is bound to or insists on.
    pub node_name: Option<String>,
    /// The scheduler that is to place it.
    pub scheduler: String,
    /// It is being deleted.
    pub terminating: bool,
    /// It has run to its end and needs nothing any more.
    pub finished: bool,
    /// Names of its scheduling gates.
    pub gates: Vec<String>,
    /// What it asks for.
    pub requests: Resources,
    /// The same with something for containers that ask for nothing.
    pub nonzero_requests: Resources,
    /// When its kubelet took it on.
    pub started: Option<Timestamp>,
    /// The node that it gets once other pods have left it.
    pub promised: Option<String>,
    /// It is leaving because it had to make room.
    pub preempted: bool,
    /// It does not push others aside.
    pub never_preempts: bool,
    /// The version of what is wanted of it.
    pub generation: Option<i64>,
    pub(crate) owner: Option<Owner>,
    pub(crate) spread: Vec<TopologySpreadConstraint>,
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) affinity: Affinity,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) images: Vec<String>,
    /// The claims it uses, each with whether it is made for the pod.
    pub(crate) claims: Vec<(String, bool)>,
    /// Its volumes that name a disk themselves.
    pub(crate) disks: Vec<Volume>,
}

impl PodInfo {
    /// The same pod, on this node.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node_name = Some(node.to_owned());
        self
    }

    /// Works out a pod.
    pub fn new(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let meta = &pod.metadata;
        let phase = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or("");
        let status = pod.status.as_ref();
        let gates = spec.scheduling_gates.iter().flatten();
        Self {
            key: PodKey {
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
            },
            uid: meta.uid.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            created: meta.creation_timestamp.as_ref().map(|t| t.0),
            node_name: spec.node_name.clone().filter(|name| !name.is_empty()),
            scheduler: spec
                .scheduler_name
                .clone()
                .unwrap_or_else(|| UNNAMED_SCHEDULER.into()),
            terminating: meta.deletion_timestamp.is_some(),
            finished: matches!(phase, "Succeeded" | "Failed"),
            gates: gates.map(|gate| gate.name.clone()).collect(),
            requests: pod_requests(&spec, false),
            nonzero_requests: pod_requests(&spec, true),
            started: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
            promised: status
                .and_then(|s| s.nominated_node_name.clone())
                .filter(|name| !name.is_empty()),
            preempted: is_preempted(pod),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            generation: meta.generation,
            owner: owner(pod),
            spread: spec.topology_spread_constraints.clone().unwrap_or_default(),
            host_ports: host_ports(&spec),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            affinity: spec.affinity.clone().unwrap_or_default(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            claims: volumes::claims_of(pod),
            disks: {
                let all = spec.volumes.iter().flatten();
                all.filter(|v| is_disk(v)).cloned().collect()
            },
            images: spec
                .containers
                .iter()
                .filter_map(|c| c.image.clone())
                .collect(),
        }
    }
}

fn is_preempted(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_some()
        && conditions.any(|c| {
            c.type_ == "DisruptionTarget"
                && c.status == "True"
                && c.reason.as_deref() == Some(PREEMPTION)
        })
}

fn owner(pod: &Pod) -> Option<Owner> {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some(Owner {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
    })
}

fn host_ports(spec: &k8s_openapi::api::core::v1::PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|ip| !ip.is_empty());
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some((
                address.unwrap_or_else(|| "0.0.0.0".into()),
                protocol,
                number,
            ))
        })
        .collect()
}
