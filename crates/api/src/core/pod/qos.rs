//! The quality-of-service class of a pod: what its requests and limits say about who is evicted first.
//!
//! Upstream: `pkg/apis/core/helper/qos`.

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use machinery::quantity::Quantity;

use crate::view::Items;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(spec: &PodSpec) -> &'static str {
    let set = |r: &&ResourceRequirements| {
        [&r.limits, &r.requests]
            .into_iter()
            .flatten()
            .any(|list| !list.is_empty())
    };
    if let Some(requirements) = spec.resources.as_ref().filter(set) {
        return of(Some(requirements));
    }
    let containers = spec.init_containers.items().iter().chain(&spec.containers);
    common(containers.map(|c| of(c.resources.as_ref())))
}

/// The one class of all, or `Burstable` when they differ.
fn common(mut classes: impl Iterator<Item = &'static str>) -> &'static str {
    let Some(first) = classes.next() else {
        return "BestEffort";
    };
    if classes.all(|class| class == first) {
        first
    } else {
        "Burstable"
    }
}

fn of(requirements: Option<&ResourceRequirements>) -> &'static str {
    let Some(requirements) = requirements else {
        return "BestEffort";
    };
    let amount = |list: &Option<std::collections::BTreeMap<_, _>>, name: &str| {
        let text = list.as_ref().and_then(|list| list.get(name));
        text.and_then(|t| Quantity::of(t).ok())
            .unwrap_or_else(Quantity::zero)
    };
    common(["cpu", "memory"].into_iter().map(|name| {
        let request = amount(&requirements.requests, name);
        let limit = amount(&requirements.limits, name);
        match (request == limit, request.is_zero()) {
            (false, _) => "Burstable",
            (true, true) => "BestEffort",
            (true, false) => "Guaranteed",
        }
    }))
}
