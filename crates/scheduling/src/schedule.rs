//! The decision for one pod.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::node::NodeInfo;
use crate::plugins::{FILTERS, MAX_SCORE, SCORES, volume_binding};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::storage::VolumePlan;

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
}

impl fmt::Display for Unschedulable {
    /// The message of the `PodScheduled` condition and of `FailedScheduling` events.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        if let Some(why) = &self.everywhere {
            return write!(f, " {why}.");
        }
        let mut reasons: Vec<_> = self
            .reasons
            .iter()
            .map(|(r, n)| format!("{n} {r}"))
            .collect();
        reasons.sort();
        match reasons.is_empty() {
            true => Ok(()),
            false => write!(f, " {}.", reasons.join(", ")),
        }
    }
}

/// The name of the best node for the pod; `tie` picks among equals.
///
/// # Errors
/// No node takes it; the reasons of every node are told.
pub fn schedule(snapshot: &Snapshot, pod: &PodInfo, tie: usize) -> Result<String, Unschedulable> {
    let mut refused = Unschedulable::default();
    for plugin in FILTERS {
        refused.everywhere = plugin.pre_filter(snapshot, pod);
        if refused.everywhere.is_some() {
            refused.nodes = snapshot.nodes().count();
            refused.plugins.insert(plugin.name());
            return Err(refused);
        }
    }
    let mut feasible = Vec::new();
    for node in snapshot.nodes() {
        refused.nodes += 1;
        match filter(snapshot, pod, node, &mut refused) {
            true => feasible.push(node),
            false => continue,
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

/// The first plug-in that refuses a node tells all its reasons.
fn filter(
    snapshot: &Snapshot,
    pod: &PodInfo,
    node: &NodeInfo,
    refused: &mut Unschedulable,
) -> bool {
    for plugin in FILTERS {
        let reasons = plugin.filter(snapshot, pod, node);
        if !reasons.is_empty() {
            refused.plugins.insert(plugin.name());
            for reason in reasons {
                *refused.reasons.entry(reason).or_insert(0) += 1;
            }
            return false;
        }
    }
    true
}

fn best(snapshot: &Snapshot, pod: &PodInfo, nodes: &[&NodeInfo], tie: usize) -> String {
    let mut totals = vec![0_i64; nodes.len()];
    for (plugin, weight) in SCORES {
        let scores: Vec<i64> = nodes
            .iter()
            .map(|n| plugin.score(snapshot, pod, n))
            .collect();
        let scores = plugin.normalize(scores);
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
