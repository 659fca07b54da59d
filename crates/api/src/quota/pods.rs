//! Pods: how many, and what they request and may use until they end.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    Affinity, Container, Pod, PodAffinityTerm, PodSpec, ScopedResourceSelectorRequirement,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::{Amounts, amounts, selects, whole};
use crate::core::pod::{aggregate, qos};
use crate::core::resources;
use crate::view::{Items, OrEmpty};

const MEASURED: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// What every container must say something about when a quota limits it.
const DEMANDED: &[&str] = &[
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const REQUESTS: &str = "requests.";

pub(super) fn measures(name: &str) -> bool {
    MEASURED.contains(&name)
        || name.starts_with(resources::HUGEPAGES)
        || name.strip_prefix(REQUESTS).is_some_and(|rest| {
            rest.starts_with(resources::HUGEPAGES) || !resources::is_native(name)
        })
}

/// A pod that has ended, or should have gone, is counted as an object only.
fn is_alive(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().map_or("", |s| s.phase.text());
    let meta = &pod.metadata;
    let overdue = meta.deletion_timestamp.as_ref().is_some_and(|deleted| {
        let grace = meta.deletion_grace_period_seconds;
        grace.is_some_and(|seconds| {
            let end = deleted.0.checked_add(SignedDuration::from_secs(seconds));
            end.is_ok_and(|end| now > end)
        })
    });
    !matches!(phase, "Succeeded" | "Failed") && !overdue
}

pub(super) fn usage(pod: &Pod, now: Timestamp) -> Amounts {
    match &pod.spec {
        Some(spec) if is_alive(pod, now) => compute(&whole_requests_of_pod(spec), &limits(spec)),
        _ => Amounts::new(),
    }
}

fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::from([("pods".to_owned(), whole(1))]);
    for (name, amount) in requests {
        let bare = resources::is_standard_for_containers(name);
        if bare {
            used.insert(name.clone(), amount.clone());
        }
        if bare || resources::is_extended(name) {
            used.insert(format!("{REQUESTS}{name}"), amount.clone());
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            used.insert(format!("limits.{name}"), amount.clone());
        }
    }
    used
}

type List = for<'a> fn(&'a Container) -> Option<&'a BTreeMap<String, Text>>;

/// What the containers need together, or what the pod as a whole says instead.
fn total(spec: &PodSpec, list: List, own: Option<&BTreeMap<String, Text>>) -> Amounts {
    let sums = aggregate::aggregate(spec, list).into_iter();
    let mut total: Amounts = sums.map(|(name, sum)| (name.to_owned(), sum)).collect();
    let of_pods =
        |name: &String| matches!(name.as_str(), "cpu" | "memory") || resources::is_huge_page(name);
    total.extend(amounts(own).into_iter().filter(|(name, _)| of_pods(name)));
    total
}

/// What a pod requests, without its overhead.
pub fn requests_of_pod(spec: &PodSpec) -> Amounts {
    let own = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    total(spec, |c| c.resources.as_ref()?.requests.as_ref(), own)
}

/// What a pod may use, without its overhead.
pub fn limits_of_pod(spec: &PodSpec) -> Amounts {
    let own = spec.resources.as_ref().and_then(|r| r.limits.as_ref());
    total(spec, |c| c.resources.as_ref()?.limits.as_ref(), own)
}

/// What a pod requests, with its overhead.
pub fn whole_requests_of_pod(spec: &PodSpec) -> Amounts {
    let mut all = requests_of_pod(spec);
    super::add(&mut all, &amounts(spec.overhead.as_ref()));
    all
}

/// Overhead adds to limits where there are any.
fn limits(spec: &PodSpec) -> Amounts {
    let mut all = limits_of_pod(spec);
    for (name, amount) in amounts(spec.overhead.as_ref()) {
        if let Some(slot) = all.get_mut(&name).filter(|limit| !limit.is_zero()) {
            slot.add(&amount);
        }
    }
    all
}

pub(super) fn shortfall(pod: &Pod, required: &[&str]) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let says = |list: &Option<BTreeMap<String, Text>>| list.iter().flatten().next().is_some();
    if spec
        .resources
        .as_ref()
        .is_some_and(|r| says(&r.requests) || says(&r.limits))
    {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in spec.containers.iter().chain(spec.init_containers.items()) {
        let given = container.resources.clone().unwrap_or_default();
        let given = compute(
            &amounts(given.requests.as_ref()),
            &amounts(given.limits.as_ref()),
        );
        for name in required.iter().filter(|name| DEMANDED.contains(name)) {
            if !given.contains_key(*name) {
                missing.entry(name).or_default().insert(&container.name);
            }
        }
    }
    let line = |(name, containers): (&&str, &BTreeSet<&str>)| {
        let containers: Vec<&str> = containers.iter().copied().collect();
        format!("{name} for: {}", containers.join(","))
    };
    let lines: Vec<String> = missing.iter().map(line).collect();
    (!lines.is_empty()).then(|| format!("must specify {}", lines.join("; ")))
}

/// Whether the pod is meant to end.
pub(super) fn is_terminating(pod: &Pod) -> bool {
    let deadline = pod.spec.as_ref().and_then(|s| s.active_deadline_seconds);
    deadline.is_some_and(|seconds| seconds >= 0)
}

pub(super) fn in_scope(pod: &Pod, scope: &ScopedResourceSelectorRequirement) -> bool {
    let spec = pod.spec.clone().unwrap_or_default();
    match scope.scope_name.as_str() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => qos::class(&spec) == "BestEffort",
        "NotBestEffort" => qos::class(&spec) != "BestEffort",
        "PriorityClass" => {
            let class = spec.priority_class_name.text();
            let there: &[&str] = if class.is_empty() { &[] } else { &[class] };
            selects(scope, there)
        }
        "CrossNamespacePodAffinity" => spec.affinity.as_ref().is_some_and(reaches_out),
        _ => false,
    }
}

/// Whether an affinity is about pods of other namespaces.
fn reaches_out(affinity: &Affinity) -> bool {
    let out =
        |t: &PodAffinityTerm| !t.namespaces.items().is_empty() || t.namespace_selector.is_some();
    let weighted = |t: &WeightedPodAffinityTerm| out(&t.pod_affinity_term);
    let near = affinity.pod_affinity.as_ref();
    let far = affinity.pod_anti_affinity.as_ref();
    near.is_some_and(|a| {
        a.required_during_scheduling_ignored_during_execution
            .items()
            .iter()
            .any(out)
            || a.preferred_during_scheduling_ignored_during_execution
                .items()
                .iter()
                .any(weighted)
    }) || far.is_some_and(|a| {
        a.required_during_scheduling_ignored_during_execution
            .items()
            .iter()
            .any(out)
            || a.preferred_during_scheduling_ignored_during_execution
                .items()
                .iter()
                .any(weighted)
    })
}
