//! Pods that must be near others, or must not be; and nodes that are better or worse for who is near them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};
use machinery::labels::Selector;

use super::{Filter, MAX_SCORE, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

const NO_AFFINITY: &str = "node(s) didn't match pod affinity rules";
/// How much it counts that a pod there wants this one near, as it must.
const REQUIRED_WEIGHT: i64 = 1;

/// The plug-in `InterPodAffinity`.
pub(super) struct InterPodAffinity;

impl Filter for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn filter(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
        let verdict = if !affinity(snapshot, pod, node) {
            NO_AFFINITY
        } else if anti_affinity(pod)
            .iter()
            .any(|term| near(snapshot, term, pod, node))
        {
            "node(s) didn't match pod anti-affinity rules"
        } else if refused_by_others(snapshot, pod, node) {
            "node(s) didn't satisfy existing pods anti-affinity rules"
        } else {
            return Vec::new();
        };
        vec![verdict.to_owned()]
    }

    fn gives_way(&self, _: &PodInfo, _: &NodeInfo, reasons: &[String]) -> bool {
        reasons.iter().all(|reason| reason != NO_AFFINITY)
    }
}

impl Score for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn score(&self, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        self.score_all(snapshot, pod, &[node])[0]
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "upstream computes with floats and cuts"
    )]
    fn score_all(&self, snapshot: &Snapshot, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
        let liked = liked(snapshot, pod);
        let sum = |node: &&NodeInfo| -> i64 {
            let here = liked.iter().filter_map(|(key, domains)| {
                let domain = node.labels.get(*key)?;
                domains.get(domain.as_str())
            });
            here.sum()
        };
        let sums: Vec<i64> = nodes.iter().map(sum).collect();
        let lowest = sums.iter().min().copied().unwrap_or(0);
        let highest = sums.iter().max().copied().unwrap_or(0);
        let range = (highest - lowest) as f64;
        let scaled = sums.into_iter().map(|sum| match highest > lowest {
            true => (MAX_SCORE as f64 * ((sum - lowest) as f64 / range)) as i64,
            false => 0,
        });
        scaled.collect()
    }
}

/// How much each topology domain is liked, by what the pod prefers and by what the pods there do.
fn liked<'a>(
    snapshot: &'a Snapshot,
    pod: &'a PodInfo,
) -> BTreeMap<&'a str, BTreeMap<&'a str, i64>> {
    let mut liked: BTreeMap<&str, BTreeMap<&str, i64>> = BTreeMap::new();
    let mut note = |term: &'a PodAffinityTerm, there: &'a NodeInfo, weight: i64| {
        if let Some(domain) = there.labels.get(&term.topology_key) {
            let domains = liked.entry(&term.topology_key).or_default();
            *domains.entry(domain).or_insert(0) += weight;
        }
    };
    let own = preferred(pod);
    for there in snapshot.nodes() {
        for other in there.pods.values() {
            for (term, weight) in &own {
                if selects(snapshot, term, pod, other) {
                    note(term, there, *weight);
                }
            }
            for term in terms(other) {
                if selects(snapshot, term, other, pod) {
                    note(term, there, REQUIRED_WEIGHT);
                }
            }
            for (term, weight) in preferred(other) {
                if selects(snapshot, term, other, pod) {
                    note(term, there, weight);
                }
            }
        }
    }
    liked
}

/// Preferred terms with their weights; those of anti-affinity weigh less than nothing.
fn preferred(pod: &PodInfo) -> Vec<(&PodAffinityTerm, i64)> {
    let near = pod.affinity.pod_affinity.as_ref();
    let near = near.and_then(|a| {
        a.preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let far = pod.affinity.pod_anti_affinity.as_ref();
    let far = far.and_then(|a| {
        a.preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let mut all = weighed(near, 1);
    all.extend(weighed(far, -1));
    all
}

fn weighed(
    terms: Option<&Vec<WeightedPodAffinityTerm>>,
    sign: i64,
) -> Vec<(&PodAffinityTerm, i64)> {
    let terms = terms.into_iter().flatten();
    let weight = |t: &WeightedPodAffinityTerm| sign * i64::from(t.weight);
    terms.map(|t| (&t.pod_affinity_term, weight(t))).collect()
}

fn terms(pod: &PodInfo) -> Vec<&PodAffinityTerm> {
    let affinity = pod.affinity.pod_affinity.as_ref();
    let terms = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    terms.into_iter().flatten().collect()
}

fn anti_affinity(pod: &PodInfo) -> Vec<&PodAffinityTerm> {
    let affinity = pod.affinity.pod_anti_affinity.as_ref();
    let terms = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    terms.into_iter().flatten().collect()
}

/// Every term finds a pod in the node's neighbourhood; the first pod of a group that is to stay together may start it.
fn affinity(snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> bool {
    let terms = terms(pod);
    if terms.iter().all(|term| near(snapshot, term, pod, node)) {
        return true;
    }
    let all_pods = || {
        snapshot
            .nodes()
            .flat_map(|n| n.pods.values().map(move |p| (n, p)))
    };
    let matched_anywhere = all_pods().any(|(there, other)| {
        terms
            .iter()
            .any(|t| there.labels.contains_key(&t.topology_key) && selects(snapshot, t, pod, other))
    });
    let starts_the_group = terms.iter().all(|term| selects(snapshot, term, pod, pod));
    let has_topology = terms
        .iter()
        .all(|term| node.labels.contains_key(&term.topology_key));
    !matched_anywhere && starts_the_group && has_topology
}

/// Some pod that the term (of `owner`) selects runs in the same topology domain as the node.
fn near(snapshot: &Snapshot, term: &PodAffinityTerm, owner: &PodInfo, node: &NodeInfo) -> bool {
    let Some(domain) = node.labels.get(&term.topology_key) else {
        return false;
    };
    let same = snapshot
        .nodes()
        .filter(|n| n.labels.get(&term.topology_key) == Some(domain));
    same.flat_map(|n| n.pods.values())
        .any(|other| selects(snapshot, term, owner, other))
}

/// A pod that runs in the node's neighbourhood does not want this one near.
fn refused_by_others(snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> bool {
    snapshot.nodes().any(|there| {
        there.pods.values().any(|other| {
            anti_affinity(other).into_iter().any(|term| {
                let domain = there.labels.get(&term.topology_key);
                domain.is_some()
                    && domain == node.labels.get(&term.topology_key)
                    && selects(snapshot, term, other, pod)
            })
        })
    })
}

/// The term of `owner` selects `other`, by name-space and labels.
fn selects(snapshot: &Snapshot, term: &PodAffinityTerm, owner: &PodInfo, other: &PodInfo) -> bool {
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let by_name = listed.contains(&other.key.namespace);
    let by_label = term.namespace_selector.as_ref().is_some_and(|selector| {
        let labels = snapshot.namespaces.get(&other.key.namespace);
        Selector::from_label_selector(selector).is_ok_and(|s| s.matches_map(labels))
    });
    let own = listed.is_empty()
        && term.namespace_selector.is_none()
        && owner.key.namespace == other.key.namespace;
    (by_name || by_label || own) && selects_labels(term, owner, &other.labels)
}

fn selects_labels(
    term: &PodAffinityTerm,
    owner: &PodInfo,
    labels: &BTreeMap<String, String>,
) -> bool {
    let selector = Selector::from_optional(term.label_selector.as_ref());
    let selected = selector.is_ok_and(|s| s.matches_map(Some(labels)));
    // Keys whose values must (or must not) be the owner's own; a key that the owner lacks says nothing.
    let same = |key: &String| {
        owner
            .labels
            .get(key)
            .is_none_or(|v| labels.get(key) == Some(v))
    };
    let different = |key: &String| {
        owner
            .labels
            .get(key)
            .is_none_or(|v| labels.get(key) != Some(v))
    };
    selected
        && term.match_label_keys.iter().flatten().all(same)
        && term.mismatch_label_keys.iter().flatten().all(different)
}
