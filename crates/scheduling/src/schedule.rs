//! The decision for one pod.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::node::NodeInfo;
use crate::plugins::{Check, FILTERS, Filter, MAX_SCORE, SCORES, volume_binding};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::storage::VolumePlan;

/// Why one node does not take the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The plug-in that said no.
    pub plugin: &'static str,
    /// All its reasons.
    pub reasons: Vec<String>,
    /// It may say yes when pods leave the node.
    pub gives_way: bool,
}

/// No node takes the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unschedulable {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many nodes gave each reason.
    pub reasons: BTreeMap<String, usize>,
    /// The plug-ins that said no.
    pub plugins: BTreeSet<&'static str>,
    /// What holds for all nodes alike; they were not looked at then.
    pub everywhere: Option<String>,
    /// What each node said.
    pub by_node: BTreeMap<String, Refusal>,
    /// What came of the attempt to make room; empty when nobody tried.
    pub preemption: String,
}

impl fmt::Display for Unschedulable {
    /// The message of the `PodScheduled` condition and of `FailedScheduling` events.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        match &self.everywhere {
            Some(why) => write!(f, "0/{} nodes are available: {why}.", self.nodes)?,
            None => f.write_str(&message(self.nodes, &self.reasons))?,
        }
        match self.preemption.as_str() {
            "" => Ok(()),
            preemption => write!(f, " preemption: {preemption}"),
        }
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 Too many pods.`
pub(crate) fn message(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    let mut reasons: Vec<_> = reasons.iter().map(|(r, n)| format!("{n} {r}")).collect();
    reasons.sort();
    match reasons.is_empty() {
        true => format!("0/{nodes} nodes are available:"),
        false => format!("0/{nodes} nodes are available: {}.", reasons.join(", ")),
    }
}

impl Unschedulable {
    fn note(&mut self, node: &NodeInfo, refusal: Refusal) {
        self.plugins.insert(refusal.plugin);
        for reason in &refusal.reasons {
            *self.reasons.entry(reason.clone()).or_insert(0) += 1;
        }
        self.by_node.insert(node.name.clone(), refusal);
    }
}

/// The name of the best node for the pod; `tie` picks among equals.
///
/// # Errors
/// No node takes it; the reasons of every node are told.
pub fn schedule(
    snapshot: &Snapshot,
    pod: &PodInfo,
    tie: usize,
) -> Result<String, Box<Unschedulable>> {
    let mut refused = Box::<Unschedulable>::default();
    for plugin in FILTERS {
        refused.everywhere = plugin.pre_filter(snapshot, pod);
        if refused.everywhere.is_some() {
            refused.nodes = snapshot.nodes().count();
            refused.plugins.insert(plugin.name());
            return Err(refused);
        }
    }
    let mut feasible = Vec::new();
    let asked = Asked::of(snapshot, pod);
    for node in snapshot.nodes() {
        refused.nodes += 1;
        let refusal = crowded(snapshot, pod, node).or_else(|| asked.refusal(pod, node));
        match refusal {
            None => feasible.push(node),
            Some(refusal) => refused.note(node, refusal),
        }
    }
    match feasible.as_slice() {
        [] => Err(refused),
        [only] => Ok(only.name.clone()),
        _ => Ok(best(snapshot, pod, &feasible, tie)),
    }
}

/// What must happen to the claims of a pod before it can be bound to the node that [`schedule`] gave.
pub fn volume_plan(snapshot: &Snapshot, pod: &PodInfo, node: &str) -> VolumePlan {
    let node = snapshot.node(node);
    node.map_or_else(VolumePlan::default, |node| {
        volume_binding::plan(snapshot, pod, node)
    })
}

/// All filters, each having looked at the whole picture once.
struct Asked<'a>(Vec<(&'static dyn Filter, Check<'a>)>);

impl<'a> Asked<'a> {
    fn of(snapshot: &'a Snapshot, pod: &'a PodInfo) -> Self {
        let checks = FILTERS.iter().map(|f| (*f, f.over(snapshot, pod)));
        Self(checks.collect())
    }

    /// The first plug-in that refuses a node tells all its reasons.
    fn refusal(&self, pod: &PodInfo, node: &NodeInfo) -> Option<Refusal> {
        self.0.iter().find_map(|(filter, check)| {
            let reasons = check(node);
            (!reasons.is_empty()).then(|| Refusal {
                plugin: filter.name(),
                gives_way: filter.gives_way(pod, node, &reasons),
                reasons,
            })
        })
    }
}

/// Why this node does not take the pod, the pods that it is promised to included.
pub(crate) fn refusal(snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Option<Refusal> {
    crowded(snapshot, pod, node).or_else(|| Asked::of(snapshot, pod).refusal(pod, node))
}

/// Why the node would not take the pod if the pods were there already that it is promised to and that go before this one.
fn crowded(snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Option<Refusal> {
    let promised: Vec<PodInfo> = snapshot
        .promised(&node.name)
        .filter(|other| other.key != pod.key && other.priority >= pod.priority)
        .cloned()
        .collect();
    if promised.is_empty() {
        return None;
    }
    let mut crowded = snapshot.clone();
    for other in promised {
        crowded.set_pod(other.on(&node.name));
    }
    let node = crowded.node(&node.name)?;
    Asked::of(&crowded, pod).refusal(pod, node)
}

fn best(snapshot: &Snapshot, pod: &PodInfo, nodes: &[&NodeInfo], tie: usize) -> String {
    let mut totals = vec![0_i64; nodes.len()];
    for (plugin, weight) in SCORES {
        let scores = plugin.score_all(snapshot, pod, nodes);
        for (total, score) in totals.iter_mut().zip(scores) {
            debug_assert!(
                (0..=MAX_SCORE).contains(&score),
                "{} scored {score}",
                plugin.name()
            );
            *total += weight * score;
        }
    }
    let top = totals.iter().max().copied().unwrap_or(0);
    let equals: Vec<_> = nodes
        .iter()
        .zip(&totals)
        .filter(|(_, t)| **t == top)
        .collect();
    equals[tie % equals.len()].0.name.clone()
}
