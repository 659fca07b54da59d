//! What the containers of a pod need together, and what a pod needs that says only half of it.
//!
//! Upstream: `AggregateContainerRequests` in `component-helpers/resource`, `DefaultPodLevelResources` in `pkg/api/pod`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;

use crate::core::resources;
use crate::view::{Items, OrEmpty};

/// What the containers need together: the regular ones and the sidecars at once, or any init container with the sidecars
/// started before it, whichever is more.
pub fn aggregate<'a>(
    spec: &'a PodSpec,
    list: impl Fn(&'a Container) -> Option<&'a BTreeMap<String, Text>>,
) -> BTreeMap<&'a str, Quantity> {
    let add = |total: &mut BTreeMap<&'a str, Quantity>, container: &'a Container| {
        for (name, text) in list(container).into_iter().flatten() {
            if let Ok(amount) = Quantity::of(text) {
                total
                    .entry(name)
                    .or_insert_with(Quantity::zero)
                    .add(&amount);
            }
        }
    };
    let mut total = BTreeMap::new();
    spec.containers.iter().for_each(|c| add(&mut total, c));
    let (mut sidecars, mut most) = (BTreeMap::new(), BTreeMap::<&str, Quantity>::new());
    for container in spec.init_containers.items() {
        let mut now = sidecars.clone();
        if container.restart_policy.text() == "Always" {
            add(&mut total, container);
            add(&mut sidecars, container);
            now.clone_from(&sidecars);
        } else {
            add(&mut now, container);
        }
        for (name, amount) in now {
            let slot = most.entry(name).or_insert_with(Quantity::zero);
            if amount > *slot {
                *slot = amount;
            }
        }
    }
    for (name, amount) in most {
        let slot = total.entry(name).or_insert_with(Quantity::zero);
        if amount > *slot {
            *slot = amount;
        }
    }
    total
}

/// Fills in the requests of a pod that has limits of its own: what its containers request together, or else the limits.
/// Huge pages cannot be overcommitted: their limit is that of the containers. Whether anything was filled in.
pub fn fill_pod_level(spec: &mut PodSpec) -> bool {
    let Some(own) = spec.resources.clone() else {
        return false;
    };
    let mut filled = own.clone();
    let (limits, requests) = (
        own.limits.unwrap_or_default(),
        own.requests.unwrap_or_default(),
    );
    if limits.is_empty() && requests.is_empty() {
        return false;
    }
    let mut limits = limits;
    for (name, sum) in aggregate(spec, |c| c.resources.as_ref()?.limits.as_ref()) {
        if resources::is_huge_page(name) && !requests.contains_key(name) {
            limits
                .entry(name.to_owned())
                .or_insert_with(|| Text(sum.to_string()));
        }
    }
    if !limits.is_empty() {
        filled.requests = Some(requests_of_pod(spec, &limits, requests));
        filled.limits = Some(limits);
    }
    let changed = spec.resources.as_ref() != Some(&filled);
    spec.resources = Some(filled);
    changed
}

fn requests_of_pod(
    spec: &PodSpec,
    limits: &BTreeMap<String, Text>,
    mut requests: BTreeMap<String, Text>,
) -> BTreeMap<String, Text> {
    let of_pods = |name: &str| matches!(name, "cpu" | "memory");
    for (name, sum) in aggregate(spec, requested) {
        if of_pods(name) {
            requests
                .entry(name.to_owned())
                .or_insert_with(|| Text(sum.to_string()));
        }
    }
    for (name, limit) in limits {
        if of_pods(name) || resources::is_huge_page(name) {
            requests
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
    requests
}

fn requested(container: &Container) -> Option<&BTreeMap<String, Text>> {
    container
        .resources
        .as_ref()
        .and_then(|r: &ResourceRequirements| r.requests.as_ref())
}
