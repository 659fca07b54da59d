//! The picture of the cluster and the queue, kept in step with what is seen and decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::watch::Change;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod};
use scheduling::{
    Group, PodInfo, PodKey, Preemption, Queue, Snapshot, Storage, Tries, Unschedulable, VolumePlan,
    Wake, key_of, preempt, schedule, volume_plan,
};

use crate::Seen;

/// What upstream calls it that a pod is gone from its node.
const POD_LEFT: &str = "AssignedPodDelete";
/// How many kinds are watched.
const KINDS: usize = 12;

/// A decision to be carried out.
pub(crate) struct Step {
    pub(crate) pod: PodInfo,
    /// The node, and what must happen to the pod's claims before it is bound there.
    pub(crate) decision: Result<(String, VolumePlan), Box<Unschedulable>>,
    /// Who makes room for the pod.
    pub(crate) preemption: Option<Preemption>,
    /// Pods of lower priority to which the same node was promised.
    pub(crate) disappointed: Vec<PodInfo>,
    /// How the pod fared before.
    pub(crate) tries: Tries,
    /// When this attempt began.
    pub(crate) started: Instant,
}

/// How long the parts of a decision took; none where nothing was decided.
#[derive(Clone, Copy, Default)]
pub(crate) struct Took {
    /// Looking for a node.
    pub(crate) algorithm: Duration,
    /// Looking for somebody who makes room, and whether there was one.
    pub(crate) preemption: Option<(Duration, bool)>,
}

/// How that went.
pub(crate) enum Outcome {
    /// The pod is bound, or its message written: nothing more to do.
    Done(PodKey),
    /// The binding failed; the pod is to be tried again.
    Failed(Box<PodInfo>),
}

pub(crate) struct Cluster {
    scheduler: String,
    snapshot: Snapshot,
    queue: Queue,
    /// Pods decided for but not seen bound yet, with the UID they had.
    assumed: HashMap<PodKey, String>,
    synced: [bool; KINDS],
    /// Moves on with every decision, so that equal nodes take turns.
    turn: usize,
}

impl Cluster {
    pub(crate) fn new(scheduler: &str) -> Self {
        Self {
            scheduler: scheduler.to_owned(),
            snapshot: Snapshot::new(),
            queue: Queue::new(),
            assumed: HashMap::new(),
            synced: [false; KINDS],
            turn: 0,
        }
    }

    /// All first lists are complete.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced == [true; KINDS]
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.queue.next_due()
    }

    /// The decision for the next pod; it counts as made from now on.
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<(Step, Took)> {
        let pod = self.queue.pop(now)?;
        let (started, tries) = (Instant::now(), self.queue.tries(&pod.key));
        self.turn = self.turn.wrapping_add(1);
        let decision = schedule(&self.snapshot, &pod, self.turn);
        let mut took = Took {
            algorithm: started.elapsed(),
            preemption: None,
        };
        let step = match decision {
            Ok(node) => {
                let volumes = volume_plan(&self.snapshot, &pod, &node);
                self.snapshot.storage.promise(&pod.key, &node, &volumes);
                let placed = pod.clone().on(&node);
                self.assumed.insert(pod.key.clone(), pod.uid.clone());
                self.snapshot.unpromise(&pod.key);
                self.snapshot.set_pod(placed);
                Step {
                    pod,
                    decision: Ok((node, volumes)),
                    preemption: None,
                    disappointed: Vec::new(),
                    tries,
                    started,
                }
            }
            Err(why) => {
                let began = Instant::now();
                let asked = why.nodes > 0;
                let step = self.make_room(pod, why, (tries, started), now);
                let found = step.preemption.is_some();
                took.preemption = asked.then(|| (began.elapsed(), found));
                step
            }
        };
        Some((step, took))
    }

    /// Nobody takes the pod: perhaps others go for it. What is promised to it counts from now on.
    fn make_room(
        &mut self,
        pod: PodInfo,
        mut why: Box<Unschedulable>,
        (tries, started): (Tries, Instant),
        now: Timestamp,
    ) -> Step {
        let plugins = why.plugins.clone();
        let mut preemption = None;
        let mut disappointed = Vec::new();
        if why.nodes > 0 {
            match preempt(&self.snapshot, &pod, &why, self.turn) {
                Err(text) => why.preemption = text,
                Ok(found) => {
                    why.preemption = format!(
                        "found a potential placement for pod on node {}, preempting {} victims",
                        found.node,
                        found.victims.len()
                    );
                    let promised = self.snapshot.promised(&found.node);
                    let lower = promised.filter(|other| other.priority < pod.priority);
                    disappointed = lower.cloned().collect();
                    for other in &disappointed {
                        self.snapshot.unpromise(&other.key);
                    }
                    let mut promised = pod.clone();
                    promised.promised = Some(found.node.clone());
                    self.snapshot.promise(promised);
                    preemption = Some(found);
                }
            }
        }
        self.queue.unschedulable(&pod.key, plugins, now);
        Step {
            pod,
            decision: Err(why),
            preemption,
            disappointed,
            tries,
            started,
        }
    }

    /// How many pods wait, and how they came to.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// How many pods are assumed, nodes and pods on nodes there are.
    pub(crate) fn size(&self) -> [usize; 3] {
        let nodes = self.snapshot.nodes();
        let (nodes, pods) = nodes.fold((0, 0), |(nodes, pods), node| {
            (nodes + 1, pods + node.pods.len())
        });
        [self.assumed.len(), nodes, pods]
    }

    pub(crate) fn finish(&mut self, outcome: Outcome, now: Timestamp) {
        let pod = match outcome {
            Outcome::Done(key) => return self.snapshot.storage.settle(&key),
            Outcome::Failed(pod) => pod,
        };
        self.snapshot.storage.settle(&pod.key);
        if self.assumed.get(&pod.key) == Some(&pod.uid) {
            self.assumed.remove(&pod.key);
            self.snapshot.remove_pod(&pod.key);
            self.queue.wake(Wake::PodLeft, POD_LEFT, now);
        }
        self.queue.failed(&pod.key, now);
    }

    pub(crate) fn see(&mut self, seen: Seen, now: Timestamp) {
        match seen {
            Seen::Pod(change) => self.see_pod(change, now),
            Seen::Node(change) => self.see_node(change, now),
            Seen::Namespace(change) => self.see_namespace(change),
            Seen::Claim(change) => self.see_claim(change, now),
            Seen::Volume(change) => {
                let event = event_of(&change, ["PersistentVolumeAdd", "PersistentVolumeUpdate"]);
                let changed = self.see_storage(change, 4, |storage, name, volume| {
                    storage.set_volume(name, volume);
                });
                self.storage_changed(changed, event, now);
            }
            Seen::Class(change) => {
                let events = [
                    "storage.k8s.io/StorageClassAdd",
                    "storage.k8s.io/StorageClassUpdate",
                ];
                let event = event_of(&change, events);
                let changed = self.see_storage(change, 5, |storage, name, class| {
                    storage.set_class(name, class);
                });
                self.storage_changed(changed, event, now);
            }
            Seen::CsiNode(change) => {
                let events = ["storage.k8s.io/CSINodeAdd", "storage.k8s.io/CSINodeUpdate"];
                let event = event_of(&change, events);
                let changed = self.see_storage(change, 6, |storage, name, node| {
                    storage.set_csi_node(name, node);
                });
                self.storage_changed(changed, event, now);
            }
            Seen::Budget(change) => match change {
                Change::Synced => self.synced[7] = true,
                Change::Applied { new, .. } => self.snapshot.set_budget(&new),
                Change::Deleted(old) => self.snapshot.remove_budget(&old),
            },
            Seen::Service(change) => self.see_group(8, change),
            Seen::ReplicationController(change) => self.see_group(9, change),
            Seen::ReplicaSet(change) => self.see_group(10, change),
            Seen::StatefulSet(change) => self.see_group(11, change),
        }
    }

    fn see_group<K>(&mut self, place: usize, change: Change<K>)
    where
        for<'a> Group<'a>: From<&'a K>,
    {
        match change {
            Change::Synced => self.synced[place] = true,
            Change::Applied { new, .. } => self.snapshot.set_group(&(&*new).into(), false),
            Change::Deleted(old) => self.snapshot.set_group(&(&*old).into(), true),
        }
    }

    fn see_pod(&mut self, change: Change<Pod>, now: Timestamp) {
        match change {
            Change::Synced => self.synced[0] = true,
            Change::Applied { new, .. } => self.pod_is(PodInfo::new(&new), now),
            Change::Deleted(old) => self.pod_left(&PodInfo::new(&old).key, now),
        }
    }

    fn pod_is(&mut self, pod: PodInfo, now: Timestamp) {
        let bound = pod.node_name.is_some();
        if pod.finished {
            return self.pod_left(&pod.key, now);
        }
        if bound {
            self.queue.delete(&pod.key);
            self.snapshot.unpromise(&pod.key);
            let known = self.assumed.remove(&pod.key).is_some()
                || self.snapshot.place_of(&pod.key).is_some();
            self.snapshot.set_pod(pod);
            if !known {
                self.queue.wake(Wake::PodBound, "AssignedPodAdd", now);
            }
            return;
        }
        // An assumed pod is on its way; what is seen of it until it is bound is old news, unless it is another pod.
        if self.assumed.get(&pod.key) == Some(&pod.uid) {
            return;
        }
        if pod.scheduler == self.scheduler && !pod.terminating {
            self.snapshot.promise(pod.clone());
            self.queue.set(pod, now);
        } else {
            self.snapshot.unpromise(&pod.key);
            self.queue.delete(&pod.key);
        }
    }

    fn pod_left(&mut self, key: &PodKey, now: Timestamp) {
        self.queue.delete(key);
        self.snapshot.unpromise(key);
        self.assumed.remove(key);
        if self.snapshot.remove_pod(key) {
            self.queue.wake(Wake::PodLeft, POD_LEFT, now);
        }
    }

    fn see_node(&mut self, change: Change<Node>, now: Timestamp) {
        match change {
            Change::Synced => self.synced[1] = true,
            Change::Applied { new, old } => {
                self.snapshot.set_node(&new);
                let event = match old {
                    None => Some("NodeAdd"),
                    Some(old) => what_matters(&old, &new),
                };
                if let Some(event) = event {
                    self.queue.wake(Wake::NodeChanged, event, now);
                }
            }
            Change::Deleted(old) => {
                self.snapshot
                    .remove_node(old.metadata.name.as_deref().unwrap_or_default());
            }
        }
    }

    fn see_claim(&mut self, change: Change<PersistentVolumeClaim>, now: Timestamp) {
        let storage = &mut self.snapshot.storage;
        match change {
            Change::Synced => self.synced[3] = true,
            Change::Applied { new, old } => {
                storage.set_claim(key_of(&new), Some(new));
                let events = ["PersistentVolumeClaimAdd", "PersistentVolumeClaimUpdate"];
                let event = events[usize::from(old.is_some())];
                self.queue.wake(Wake::StorageChanged, event, now);
            }
            Change::Deleted(old) => storage.set_claim(key_of(&old), None),
        }
    }

    /// Takes in a change of a cluster-scoped kind; true if it may help a pod.
    fn see_storage<K: kube::Resource>(
        &mut self,
        change: Change<K>,
        kind: usize,
        set: impl FnOnce(&mut Storage, &str, Option<Arc<K>>),
    ) -> bool {
        let storage = &mut self.snapshot.storage;
        let name = |object: &K| object.meta().name.clone().unwrap_or_default();
        match change {
            Change::Synced => self.synced[kind] = true,
            Change::Applied { new, .. } => {
                set(storage, &name(&new), Some(new));
                return true;
            }
            Change::Deleted(old) => set(storage, &name(&old), None),
        }
        false
    }

    fn storage_changed(&mut self, changed: bool, event: &'static str, now: Timestamp) {
        if changed {
            self.queue.wake(Wake::StorageChanged, event, now);
        }
    }

    fn see_namespace(&mut self, change: Change<Namespace>) {
        match change {
            Change::Synced => self.synced[2] = true,
            Change::Applied { new, .. } => {
                let labels = new.metadata.labels.clone().unwrap_or_default();
                self.snapshot.set_namespace(name(&new), Some(labels));
            }
            Change::Deleted(old) => self.snapshot.set_namespace(name(&old), None),
        }
    }
}

fn name(namespace: &Namespace) -> &str {
    namespace.metadata.name.as_deref().unwrap_or_default()
}

/// One of two events: something came, or it changed.
fn event_of<K>(change: &Change<K>, [came, changed]: [&'static str; 2]) -> &'static str {
    match change {
        Change::Applied { old: Some(_), .. } => changed,
        _ => came,
    }
}

/// The change that can make room for a pod, as upstream calls it; a heartbeat cannot.
fn what_matters(old: &Node, new: &Node) -> Option<&'static str> {
    let allocatable = |node: &Node| node.status.as_ref().and_then(|s| s.allocatable.clone());
    let taints = |node: &Node| node.spec.as_ref().and_then(|s| s.taints.clone());
    match () {
        () if allocatable(old) != allocatable(new) => Some("NodeUpdateNodeAllocatable"),
        () if old.metadata.labels != new.metadata.labels => Some("NodeUpdateNodeLabel"),
        () if taints(old) != taints(new) => Some("NodeUpdateNodeTaint"),
        () if old.spec != new.spec => Some("NodeUpdate"),
        () => None,
    }
}
