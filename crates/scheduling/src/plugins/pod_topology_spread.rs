//! Pods of a kind are spread over topology domains: evenly within limits where they must be, as evenly as possible where
//! they should be. Pods that say nothing are spread over hosts and zones with those of their service and controller.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use machinery::labels::{Operator, Requirement, Selector};

use super::node_affinity::required;
use super::taint_toleration::is_kept_away;
use super::{Check, Filter, MAX_SCORE, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

const MISMATCH: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";
const HOST: &str = "kubernetes.io/hostname";
/// How unevenly pods may lie that say nothing: over which domains, and by how many.
const DEFAULTS: [(&str, i32); 2] = [(HOST, 3), ("topology.kubernetes.io/zone", 5)];

/// The plug-in `PodTopologySpread`.
pub(super) struct PodTopologySpread;

struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: usize,
    selector: Selector,
    /// Nodes that the pod's affinity rules out do not count.
    by_affinity: bool,
    /// Nodes whose taints keep the pod away do not count.
    by_taints: bool,
}

impl Constraint {
    fn new(given: &TopologySpreadConstraint, pod: &PodInfo) -> Self {
        let selector = Selector::from_optional(given.label_selector.as_ref());
        let mut selector = selector.unwrap_or_else(|_| Selector::nothing());
        let keys = given.match_label_keys.iter().flatten();
        let own = keys.filter_map(|key| {
            let value = pod.labels.get(key)?.clone();
            Requirement::new(key, Operator::In, vec![value]).ok()
        });
        let own: Vec<Requirement> = own.collect();
        if !own.is_empty() && !selector.is_nothing() {
            let all = selector.requirements().iter().cloned().chain(own);
            selector = Selector::new(all.collect());
        }
        let policy = |policy: &Option<String>, default: bool| match policy.as_deref() {
            None => default,
            Some(policy) => policy == "Honor",
        };
        Self {
            key: given.topology_key.clone(),
            max_skew: i64::from(given.max_skew),
            min_domains: usize::try_from(given.min_domains.unwrap_or(1)).unwrap_or(1),
            selector,
            by_affinity: policy(&given.node_affinity_policy, true),
            by_taints: policy(&given.node_taints_policy, false),
        }
    }

    fn all(pod: &PodInfo, action: &str) -> Vec<Self> {
        let given = pod.spread.iter();
        given
            .filter(|c| c.when_unsatisfiable == action)
            .map(|c| Self::new(c, pod))
            .collect()
    }

    fn counts(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        !(self.by_affinity && !required(pod, node) || self.by_taints && is_kept_away(pod, node))
    }

    /// Pods of the kind on a node.
    fn pods_on(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        if self.selector.is_everything() {
            return 0;
        }
        let same = node.pods.values().filter(|other| {
            !other.terminating
                && other.key.namespace == pod.key.namespace
                && self.selector.matches_map(Some(&other.labels))
        });
        i64::try_from(same.count()).unwrap_or(i64::MAX)
    }
}

fn has_all_keys(node: &NodeInfo, constraints: &[Constraint]) -> bool {
    constraints.iter().all(|c| node.labels.contains_key(&c.key))
}

type Domains = BTreeMap<String, i64>;

impl Filter for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn filter(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        self.over(snapshot, pod)(node)
    }

    fn over<'a>(&'a self, snapshot: &'a Snapshot, pod: &'a PodInfo) -> Check<'a> {
        let constraints = Constraint::all(pod, "DoNotSchedule");
        let mut counts: Vec<Domains> = vec![Domains::new(); constraints.len()];
        if !constraints.is_empty() {
            let full = |node: &&NodeInfo| has_all_keys(node, &constraints);
            for node in snapshot.nodes().filter(full) {
                for (constraint, domains) in constraints.iter().zip(&mut counts) {
                    if constraint.counts(pod, node) {
                        let domain = node.labels[&constraint.key].clone();
                        *domains.entry(domain).or_insert(0) += constraint.pods_on(pod, node);
                    }
                }
            }
        }
        Box::new(move |node| {
            let refused = constraints
                .iter()
                .zip(&counts)
                .find_map(|(constraint, domains)| {
                    let Some(domain) = node.labels.get(&constraint.key) else {
                        return Some(NO_LABEL);
                    };
                    let fewest = match domains.len() < constraint.min_domains {
                        true => 0,
                        false => domains.values().min().copied().unwrap_or(0),
                    };
                    let own = i64::from(constraint.selector.matches_map(Some(&pod.labels)));
                    let there = domains.get(domain).copied().unwrap_or(0);
                    (there + own - fewest > constraint.max_skew).then_some(MISMATCH)
                });
            refused.map(str::to_owned).into_iter().collect()
        })
    }

    fn gives_way(&self, _: &PodInfo, _: &NodeInfo, reasons: &[String]) -> bool {
        reasons.iter().all(|reason| reason != NO_LABEL)
    }
}

impl Score for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn score(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        self.score_all(snapshot, pod, &[node])[0]
    }

    fn score_all(&self, snapshot: &Snapshot, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
        let strict = !pod.spread.is_empty();
        let constraints = match strict {
            true => Constraint::all(pod, "ScheduleAnyway"),
            false => defaults(snapshot, pod),
        };
        if constraints.is_empty() {
            return vec![0; nodes.len()];
        }
        let ignored = |node: &NodeInfo| strict && !has_all_keys(node, &constraints);
        let domains = domains(snapshot, pod, nodes, &constraints, &ignored);
        let scores: Vec<Option<i64>> = nodes
            .iter()
            .map(|node| (!ignored(node)).then(|| raw(pod, node, &constraints, &domains)))
            .collect();
        let lowest = scores.iter().flatten().min().copied().unwrap_or(0);
        let highest = scores.iter().flatten().max().copied().unwrap_or(0);
        let scaled = scores.into_iter().map(|score| match score {
            None => 0,
            Some(_) if highest == 0 => MAX_SCORE,
            Some(score) => MAX_SCORE * (highest + lowest - score) / highest,
        });
        scaled.collect()
    }
}

/// How pods are spread that say nothing.
fn defaults(snapshot: &Snapshot, pod: &PodInfo) -> Vec<Constraint> {
    let Some(selector) = snapshot.groups.around(pod) else {
        return Vec::new();
    };
    let constraint = |(key, max_skew): (&str, i32)| Constraint {
        key: key.to_owned(),
        max_skew: i64::from(max_skew),
        min_domains: 1,
        selector: selector.clone(),
        by_affinity: true,
        by_taints: false,
    };
    DEFAULTS.into_iter().map(constraint).collect()
}

/// What there is of each domain that the nodes left belong to, and how much a constraint weighs.
struct Weighed {
    pods: Domains,
    weight: f64,
}

fn domains(
    snapshot: &Snapshot,
    pod: &PodInfo,
    nodes: &[&NodeInfo],
    constraints: &[Constraint],
    ignored: &dyn Fn(&NodeInfo) -> bool,
) -> Vec<Weighed> {
    let left: Vec<&&NodeInfo> = nodes.iter().filter(|node| !ignored(node)).collect();
    let weighed = |constraint: &Constraint| {
        let mut pods = Domains::new();
        if constraint.key != HOST {
            let values = left.iter().map(|node| node.labels.get(&constraint.key));
            // A node without the label is in the domain without a name.
            pods.extend(values.map(|value| (value.cloned().unwrap_or_default(), 0)));
            for node in snapshot.nodes().filter(|node| !ignored(node)) {
                let value = node
                    .labels
                    .get(&constraint.key)
                    .cloned()
                    .unwrap_or_default();
                let slot = pods
                    .get_mut(&value)
                    .filter(|_| constraint.counts(pod, node));
                if let Some(slot) = slot {
                    *slot += constraint.pods_on(pod, node);
                }
            }
        }
        let size = match constraint.key.as_str() {
            HOST => left.len(),
            _ => pods.len(),
        };
        Weighed {
            pods,
            weight: f64::from(u32::try_from(size + 2).unwrap_or(u32::MAX)).ln(),
        }
    };
    constraints.iter().map(weighed).collect()
}

/// More is worse.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "upstream computes with floats and rounds"
)]
fn raw(pod: &PodInfo, node: &NodeInfo, constraints: &[Constraint], domains: &[Weighed]) -> i64 {
    let each = constraints
        .iter()
        .zip(domains)
        .filter_map(|(constraint, domains)| {
            let domain = node.labels.get(&constraint.key)?;
            let there = match constraint.key.as_str() {
                HOST => constraint.pods_on(pod, node),
                _ => domains.pods.get(domain).copied().unwrap_or(0),
            };
            Some(there as f64 * domains.weight + (constraint.max_skew - 1) as f64)
        });
    each.sum::<f64>().round() as i64
}
