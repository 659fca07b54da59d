//! The decision about a DaemonSet: which nodes need a pod, which pods have to go.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use control::plan::reference;
use control::{Action, Event, EventType, Plan, StatusWrite};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Node, Pod};
use machinery::int_or_string::{Round, scaled};

use super::Observed;
use super::fit::{Fit, Verdict};
use super::pod::{new_pod, target_node};
use super::{rollout, status};
use crate::history::{self, History, REVISION_HASH, Versioned as _};
use crate::ownership::settled_claim;
use crate::{podcontrol, pods};

/// Most pods that one decision makes or removes.
const BURST: usize = 250;
/// A pod that failed within this time after it was made waits as long again: it would fail at once once more.
const SOON: Duration = Duration::from_secs(10);

/// The pods of a set by node.
pub(super) struct Daemons<'a> {
    pub(super) o: &'a Observed,
    pub(super) hash: &'a str,
    fit: Fit<'a>,
    by_node: BTreeMap<String, Vec<Arc<Pod>>>,
}

/// What is to be made and removed.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) nodes: Vec<String>,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) events: Vec<Action>,
    pub(super) again: Option<Duration>,
}

/// Decides about one DaemonSet.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let set = o.root.as_ref();
    if set.metadata.deletion_timestamp.is_some() {
        return Plan::idle("it is being deleted");
    }
    let history = match history::settle(set, &o.history) {
        Ok(history) => history,
        Err(plan) => return *plan,
    };
    let claimed = match settled_claim(set, &o.pods, o.owner_lives, None, "pods") {
        Ok(claimed) => claimed,
        Err(plan) => return *plan,
    };
    let Some(fit) = Fit::of(set) else {
        return Plan::idle("its template has no specification");
    };
    let hash = history.update.metadata.labels.as_ref();
    let hash = hash.and_then(|l| l.get(REVISION_HASH)).cloned();
    let hash = hash.unwrap_or_default();
    let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in &claimed {
        let going = pods::is_terminal(pod) && pods::is_deleting(pod);
        if let Some(node) = target_node(pod).filter(|_| !going) {
            let pods = by_node.entry(node.to_owned()).or_default();
            pods.push(Arc::clone(pod));
        }
    }
    let daemons = Daemons {
        o,
        hash: &hash,
        fit,
        by_node,
    };
    decide(&daemons, &history, &claimed)
}

fn decide(daemons: &Daemons<'_>, history: &History, pods: &[Arc<Pod>]) -> Plan {
    let o = daemons.o;
    let set = o.root.as_ref();
    let mut orders = daemons.manage();
    let strategy = set.spec.update_strategy.as_ref();
    let rolls = strategy.and_then(|s| s.type_.as_deref()) == Some("RollingUpdate");
    // One thing after the other: the update looks at pods that are all where they shall be.
    if rolls && orders.nodes.is_empty() && orders.pods.is_empty() {
        let rollout = rollout::roll(daemons);
        orders.nodes = rollout.nodes;
        orders.pods = rollout.pods;
    }
    let (makes, removes) = (orders.nodes.len(), orders.pods.len());
    let mut actions = orders.events;
    let made = orders.nodes.iter().take(BURST);
    actions.extend(creations(daemons, made));
    let removed = orders.pods.iter().take(BURST);
    actions.extend(removed.map(|pod| podcontrol::delete(set, pod)));
    let live = |r: &ControllerRevision| {
        let hash = r
            .metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(REVISION_HASH));
        let of = |p: &Arc<Pod>| {
            p.metadata
                .labels
                .as_ref()
                .and_then(|l| l.get(REVISION_HASH))
                == hash
        };
        hash.is_some() && pods.iter().any(of)
    };
    let limit = set.history_limit();
    actions.extend(history::truncate(history, limit, live, true));
    let new = status::status(daemons);
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let waits = min_ready > 0 && new.number_ready != new.number_available.unwrap_or(0);
    let later = waits.then(|| pods::next_availability(pods, min_ready, o.now));
    let ready = new.number_ready;
    let wanted = new.desired_number_scheduled;
    let write = (!status::same(set, &new)).then(|| {
        let mut object = set.clone();
        object.status = Some(new);
        StatusWrite::of(&object)
    });
    let because = match (makes, removes) {
        (0, 0) => format!("{ready} of {wanted} nodes run a ready pod"),
        _ => format!("making {makes} pods and removing {removes}"),
    };
    Plan {
        actions,
        status: write,
        requeue_after: later.flatten().into_iter().chain(orders.again).min(),
        because,
        ..Plan::default()
    }
}

/// New pods for these nodes, each under its final name.
fn creations<'a>(daemons: &Daemons<'_>, nodes: impl Iterator<Item = &'a String>) -> Vec<Action> {
    let o = daemons.o;
    let set = o.root.as_ref();
    let taken: HashSet<&str> = o
        .pods
        .iter()
        .filter_map(|p| p.metadata.name.as_deref())
        .collect();
    let base = podcontrol::name_prefix(set.metadata.name.as_deref().unwrap_or_default());
    let names = o.names.unused(&base, |name| taken.contains(name));
    let make = |(node, name): (&String, String)| {
        let mut pod = new_pod(set, daemons.hash, node);
        pod.metadata.name = Some(name);
        podcontrol::create(set, &pod)
    };
    nodes.zip(names).map(make).collect()
}

impl Daemons<'_> {
    /// The pods on a node or made for it.
    pub(super) fn on_node(&self, node: &str) -> &[Arc<Pod>] {
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }

    /// All nodes with pods, whether they are there or not.
    pub(super) fn nodes_with_pods(&self) -> impl Iterator<Item = (&String, &Vec<Arc<Pod>>)> {
        self.by_node.iter()
    }

    /// What becomes of a node.
    pub(super) fn verdict(&self, node: &Node) -> Verdict {
        self.fit.verdict(node)
    }

    /// How many pods may be there beside the old ones, for so many nodes.
    pub(super) fn surge(&self, nodes: i32) -> i32 {
        let strategy = self.o.root.spec.update_strategy.as_ref();
        let rolling = strategy.filter(|s| s.type_.as_deref() == Some("RollingUpdate"));
        let surge = rolling.and_then(|s| s.rolling_update.as_ref()?.max_surge.as_ref());
        surge.map_or(0, |s| scaled(s, nodes, Round::Up).unwrap_or(0))
    }

    pub(super) fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.o.root.spec.min_ready_seconds.unwrap_or(0);
        pods::is_available(pod, min_ready, self.o.now)
    }

    /// A pod on every node that shall have one, none where none may be.
    fn manage(&self) -> Orders {
        let mut orders = Orders::default();
        for node in &self.o.nodes {
            self.manage_node(node, &mut orders);
        }
        let there = |name: &str| {
            let mut nodes = self.o.nodes.iter();
            nodes.any(|n| n.metadata.name.as_deref() == Some(name))
        };
        // Nobody will ever bind a pod that was made for a node that is gone.
        for (_, pods) in self.by_node.iter().filter(|(name, _)| !there(name)) {
            let waiting = pods
                .iter()
                .filter(|p| pods::node_name(p).is_empty() && !pods::is_deleting(p));
            orders.pods.extend(waiting.cloned());
        }
        orders
    }

    fn manage_node(&self, node: &Node, orders: &mut Orders) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let Verdict { runs, keeps } = self.verdict(node);
        let pods = self.on_node(name);
        if runs && pods.is_empty() {
            orders.nodes.push(name.to_owned());
            return;
        }
        if !keeps {
            let left = pods.iter().filter(|p| !pods::is_deleting(p));
            return orders.pods.extend(left.cloned());
        }
        let mut running = Vec::new();
        for pod in pods.iter().filter(|p| !pods::is_deleting(p)) {
            match pods::phase(pod) {
                "Failed" => self.replace_failed(pod, name, orders),
                "Succeeded" => {
                    let (reason, what) = ("SucceededDaemonPod", "succeeded");
                    orders.events.push(self.tell(
                        EventType::Normal,
                        reason,
                        what,
                        "delete",
                        pod,
                        name,
                    ));
                    orders.pods.push(Arc::clone(pod));
                }
                _ => running.push(Arc::clone(pod)),
            }
        }
        running.sort_by(|a, b| by_age(a, b));
        if self.surge(1) == 0 {
            orders.pods.extend(running.into_iter().skip(1));
        } else if running.len() > 1 {
            self.one_of_each(&running, orders);
        } else if running.is_empty() && runs {
            orders.nodes.push(name.to_owned());
        }
    }

    /// While one pod takes over from another, one of the old template and one of the new may be there.
    fn one_of_each(&self, running: &[Arc<Pod>], orders: &mut Orders) {
        let is_new = |p: &Arc<Pod>| {
            let labels = p.metadata.labels.as_ref();
            labels
                .and_then(|l| l.get(REVISION_HASH))
                .map(String::as_str)
                == Some(self.hash)
        };
        let new = running.iter().position(is_new);
        let old = running.iter().position(|p| !is_new(p));
        let surplus = running.iter().enumerate();
        let surplus = surplus.filter(|(at, _)| Some(*at) != new && Some(*at) != old);
        orders.pods.extend(surplus.map(|(_, p)| Arc::clone(p)));
        if let (Some(new), Some(old)) = (new, old)
            && (!pods::is_ready(&running[old]) || self.is_available(&running[new]))
        {
            orders.pods.push(Arc::clone(&running[old]));
        }
    }

    fn replace_failed(&self, pod: &Arc<Pod>, node: &str, orders: &mut Orders) {
        let wait = failed_soon(pod, self.o.now);
        if let Some(wait) = wait {
            orders.again = orders.again.into_iter().chain([wait]).min();
            return;
        }
        let (reason, what) = ("FailedDaemonPod", "failed");
        let event = self.tell(EventType::Warning, reason, what, "kill", pod, node);
        orders.events.push(event);
        orders.pods.push(Arc::clone(pod));
    }

    fn tell(
        &self,
        event_type: EventType,
        reason: &str,
        what: &str,
        verb: &str,
        pod: &Pod,
        node: &str,
    ) -> Action {
        let name = control::Key::of(pod);
        Action::Event(Event {
            about: reference(self.o.root.as_ref()),
            event_type,
            reason: reason.to_owned(),
            message: format!(
                "Found {what} daemon pod {name} on node {node}, will try to {verb} it"
            ),
        })
    }
}

/// How long a pod is kept that failed right after it was made.
fn failed_soon(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let made = pod.metadata.creation_timestamp.as_ref()?.0;
    let ended = pods::finished_at(pod)?;
    let lived = Duration::try_from(made.duration_until(ended)).unwrap_or_default();
    let again = ended.checked_add(SOON).ok()?;
    let wait = Duration::try_from(now.duration_until(again)).ok()?;
    (lived < SOON && !wait.is_zero()).then_some(wait)
}

/// Bound ones first, then the oldest.
pub(super) fn by_age(a: &Pod, b: &Pod) -> Ordering {
    let key = |p: &Pod| {
        (
            pods::node_name(p).is_empty(),
            p.metadata.creation_timestamp.clone(),
            p.metadata.name.clone(),
        )
    };
    key(a).cmp(&key(b))
}
