//! Room for a pod that fits nowhere: which pods of lower priority would have to go, and from which node.
//!
//! Of every node that could give way, the least important pods are chosen whose going is enough; disruption budgets are
//! kept where that is possible. Among the nodes the one wins whose loss is the smallest.
//! Behaviour: `pkg/scheduler/framework/preemption`, `.../plugins/defaultpreemption`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::pod::{PodInfo, PodKey};
use crate::schedule::{Unschedulable, message, refusal};
use crate::snapshot::Snapshot;

const UNHELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
/// Nodes that are looked at: a tenth, but not fewer than these.
const CANDIDATES_MIN: usize = 100;

/// Pods that go so that another may come.
#[derive(Clone, Debug, PartialEq)]
pub struct Preemption {
    /// The node that gets room.
    pub node: String,
    /// Who has to leave it; those that are leaving already among them.
    pub victims: Vec<PodInfo>,
}

struct Candidate {
    node: String,
    /// The most important first.
    victims: Vec<PodInfo>,
    violations: usize,
}

/// What makes room for the pod that nobody takes, as `why` tells; `tie` says at which node the search begins.
///
/// # Errors
/// Nothing does; the text for people.
pub fn preempt(
    snapshot: &Snapshot,
    pod: &PodInfo,
    why: &Unschedulable,
    tie: usize,
) -> Result<Preemption, String> {
    eligible(snapshot, pod, why)?;
    let open: Vec<&String> = why
        .by_node
        .iter()
        .filter(|(_, refusal)| refusal.gives_way)
        .map(|(node, _)| node)
        .collect();
    let enough = (open.len() / 10).max(CANDIDATES_MIN);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut told = 0;
    let mut picture = snapshot.clone();
    for i in 0..open.len() {
        let node = open[(tie + i) % open.len()];
        match victims(&mut picture, pod, node) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => {
                told += 1;
                for reason in why {
                    *reasons.entry(reason).or_insert(0) += 1;
                }
            }
        }
        let harmless = candidates.iter().any(|c| c.violations == 0);
        if harmless && candidates.len() >= enough {
            break;
        }
    }
    if let Some(best) = pick(candidates) {
        return Ok(Preemption {
            node: best.node,
            victims: best.victims,
        });
    }
    let rest = why.nodes.saturating_sub(told);
    if rest > 0 {
        *reasons.entry(UNHELPFUL.to_owned()).or_insert(0) += rest;
    }
    Err(message(why.nodes, &reasons))
}

/// Whether the pod may push others aside, and is not waiting for some to go already.
fn eligible(snapshot: &Snapshot, pod: &PodInfo, why: &Unschedulable) -> Result<(), String> {
    if pod.never_preempts {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let Some(promised) = &pod.promised else {
        return Ok(());
    };
    if why.by_node.get(promised).is_some_and(|r| !r.gives_way) {
        return Ok(());
    }
    let mut there = snapshot
        .node(promised)
        .into_iter()
        .flat_map(|n| n.pods.values());
    match there.any(|other| other.priority < pod.priority && other.preempted) {
        true => Err("not eligible due to a terminating pod on the nominated node.".to_owned()),
        false => Ok(()),
    }
}

/// Who has to leave the node. The picture is as before afterwards.
fn victims(picture: &mut Snapshot, pod: &PodInfo, node: &str) -> Result<Candidate, Vec<String>> {
    let info = picture.node(node);
    let mut lower: Vec<PodInfo> = info
        .into_iter()
        .flat_map(|n| n.pods.values())
        .filter(|other| other.priority < pod.priority)
        .cloned()
        .collect();
    if lower.is_empty() {
        return Err(vec![NO_VICTIMS.to_owned()]);
    }
    lower.sort_by(|a, b| importance(a).cmp(&importance(b)));
    for other in &lower {
        picture.remove_pod(&other.key);
    }
    let chosen = match refuses(picture, pod, node) {
        None => Ok(reprieve(picture, pod, node, &lower)),
        Some(reasons) => Err(reasons),
    };
    for other in lower {
        picture.set_pod(other);
    }
    let (victims, violations) = chosen?;
    if victims.is_empty() {
        return Err(vec![format!(
            "expected at least one victim pod on node {node:?}"
        )]);
    }
    Ok(Candidate {
        node: node.to_owned(),
        victims,
        violations,
    })
}

fn refuses(picture: &Snapshot, pod: &PodInfo, node: &str) -> Option<Vec<String>> {
    let info = picture.node(node)?;
    refusal(picture, pod, info).map(|refusal| refusal.reasons)
}

/// Lets as many pods stay as possible, first those whose budget has no room; the others, and how many of them break one.
fn reprieve(
    picture: &mut Snapshot,
    pod: &PodInfo,
    node: &str,
    lower: &[PodInfo],
) -> (Vec<PodInfo>, usize) {
    let breaking = picture.breaking(lower);
    let is_breaking = |other: &&PodInfo| breaking.contains(&other.key);
    let (first, second): (Vec<&PodInfo>, Vec<&PodInfo>) = lower.iter().partition(is_breaking);
    let mut gone: Vec<&PodKey> = Vec::new();
    for other in first.into_iter().chain(second) {
        picture.set_pod(other.clone());
        if refuses(picture, pod, node).is_some() {
            picture.remove_pod(&other.key);
            gone.push(&other.key);
        }
    }
    let victims: Vec<PodInfo> = lower
        .iter()
        .filter(|other| gone.contains(&&other.key))
        .cloned()
        .collect();
    let violations = victims.iter().filter(|v| breaking.contains(&v.key)).count();
    (victims, violations)
}

/// Higher priority first, then who has been running longer.
fn importance(pod: &PodInfo) -> (Reverse<i32>, Timestamp, &PodKey) {
    (Reverse(pod.priority), started(pod), &pod.key)
}

/// A pod that has not started counts as started now.
fn started(pod: &PodInfo) -> Timestamp {
    pod.started.unwrap_or(Timestamp::MAX)
}

/// The candidate whose loss is the smallest: fewest broken budgets, lowest highest priority, lowest sum of priorities,
/// fewest pods, and then the one whose most important pods have run for the shortest time.
fn pick(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|candidate| {
        let victims = &candidate.victims;
        let highest = victims.first().map_or(i32::MIN, |v| v.priority);
        // Counted from the lowest priority there is, so that more pods are never less.
        let sum: i64 = victims
            .iter()
            .map(|v| i64::from(v.priority) + i64::from(i32::MAX) + 1)
            .sum();
        let earliest = victims
            .iter()
            .filter(|v| v.priority == highest)
            .map(started)
            .min();
        (
            candidate.violations,
            highest,
            sum,
            victims.len(),
            Reverse(earliest),
        )
    })
}
