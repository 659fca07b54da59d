//! Requests and limits of containers and pods.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PodSpec, ResourceClaim, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;
use machinery::{ErrorList, Path, names};

use super::Scope;
use crate::check::ErrorListExt;
use crate::core::pod::aggregate::aggregate;
use crate::core::resources;
use crate::view::{Items, OrEmpty};

type NameRule = fn(&mut ErrorList, &Path, &str);

pub(super) fn of_container(
    errors: &mut ErrorList,
    path: &Path,
    requirements: &ResourceRequirements,
    spec: &PodSpec,
) {
    requests_and_limits(
        errors,
        path,
        requirements,
        resources::container_resource_name,
    );
    claims(
        errors,
        &path.child("claims"),
        requirements.claims.items(),
        spec,
    );
}

/// Overhead follows the rules of limits.
pub(crate) fn overhead(errors: &mut ErrorList, path: &Path, overhead: &BTreeMap<String, Text>) {
    let requirements = ResourceRequirements {
        limits: Some(overhead.clone()),
        ..Default::default()
    };
    requests_and_limits(
        errors,
        path,
        &requirements,
        resources::container_resource_name,
    );
}

fn requests_and_limits(
    errors: &mut ErrorList,
    path: &Path,
    requirements: &ResourceRequirements,
    name_rule: NameRule,
) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let empty = BTreeMap::new();
    let limited = requirements.limits.as_ref().unwrap_or(&empty);
    let requested = requirements.requests.as_ref().unwrap_or(&empty);
    for (name, text) in limited {
        one(errors, &limits.key(name), name, text, name_rule);
    }
    for (name, text) in requested {
        one(errors, &requests.key(name), name, text, name_rule);
        let (Ok(request), limit) = (Quantity::of(text), limited.get(name)) else {
            continue;
        };
        let overcommit = resources::is_overcommit_allowed(name);
        match limit.and_then(|l| Quantity::of(l).ok()) {
            Some(limit) if request != limit && !overcommit => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.invalid(&requests, request.to_string(), detail);
            }
            Some(limit) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&requests, request.to_string(), detail);
            }
            None if limit.is_none() && !overcommit => {
                errors.required(
                    &limits,
                    "Limit must be set for non overcommitable resources",
                );
            }
            _ => {}
        }
    }
    let mut all = limited.keys().chain(requested.keys());
    let computes = all.clone().any(|n| matches!(n.as_str(), "cpu" | "memory"));
    if !computes && all.any(|n| resources::is_huge_page(n)) {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

fn one(errors: &mut ErrorList, path: &Path, name: &str, text: &Text, name_rule: NameRule) {
    name_rule(errors, path, name);
    resources::amount(errors, path, name, text);
    let Some(page) = name.strip_prefix(resources::HUGEPAGES) else {
        return;
    };
    let (Ok(amount), page) = (Quantity::of(text), Quantity::parse(page)) else {
        return;
    };
    let divides = page.is_ok_and(|page| {
        page.signum() > 0 && page.milli_value() % 1000 == 0 && amount.value() % page.value() == 0
    });
    if !divides {
        let detail = format!("{amount} is not positive integer multiple of {name}");
        errors.invalid(path, amount.to_string(), detail);
    }
}

fn claims(errors: &mut ErrorList, path: &Path, claims: &[ResourceClaim], spec: &PodSpec) {
    let known: BTreeSet<&str> = spec
        .resource_claims
        .items()
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (i, claim) in claims.iter().enumerate() {
        let at = path.index(i);
        let (name, request) = (claim.name.as_str(), claim.request.text());
        if !errors.required_text(&at, name, "") {
            continue;
        }
        if seen.contains(name) {
            errors.duplicate(&at, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                errors.invalid_each(&at.child("request"), request, names::dns1123_label(request));
                key = format!("{name}/{request}");
            }
            let part = |k: &String| k.split_once('/').is_some_and(|(claim, _)| claim == name);
            if seen.contains(&key) || (request.is_empty() && seen.iter().any(part)) {
                errors.duplicate(&at, key.as_str());
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            errors.not_found(&at, name);
            let list: Vec<&str> = known.iter().copied().filter(|n| !n.is_empty()).collect();
            let rest = if list.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", list.join(", "))
            };
            if let Some(last) = errors.0.last_mut() {
                last.detail = format!("must be one of the names in pod.spec.resourceClaims{rest}");
            }
        }
    }
}

/// Resources of the pod as a whole, and that its containers fit into them.
pub(super) fn of_pod(errors: &mut ErrorList, path: &Path, scope: &Scope<'_>) {
    let Some(own) = &scope.spec.resources else {
        return;
    };
    let path = path.child("resources");
    if scope.windows() {
        return errors.forbidden(&path, "may not be set for a windows pod");
    }
    if own.claims.is_some() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.forbidden(&path.child("claims"), detail);
    }
    requests_and_limits(errors, &path, own, pod_resource_name);
    let total = aggregate(scope.spec, |c| c.resources.as_ref()?.requests.as_ref());
    for (name, sum) in total {
        let request = own.requests.as_ref().and_then(|r| r.get(name));
        if let Some(request) = request
            .and_then(|r| Quantity::of(r).ok())
            .filter(|r| sum > *r)
        {
            let detail =
                format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(
                &path.child("requests").key(name),
                request.to_string(),
                detail,
            );
        }
    }
    for (i, container) in scope.spec.containers.iter().enumerate() {
        let limits = container
            .resources
            .iter()
            .flat_map(|r| r.limits.iter().flatten());
        for (name, text) in limits {
            let bound = own.limits.as_ref().and_then(|l| l.get(name));
            let (Ok(limit), Some(Ok(bound))) = (Quantity::of(text), bound.map(Quantity::of)) else {
                continue;
            };
            if limit > bound {
                let at = path.child("containers").index(i).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {bound}");
                errors.invalid(&at, limit.to_string(), detail);
            }
        }
    }
}

fn pod_resource_name(errors: &mut ErrorList, path: &Path, name: &str) {
    if !matches!(name, "cpu" | "memory") && !resources::is_huge_page(name) {
        errors.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
    }
}
