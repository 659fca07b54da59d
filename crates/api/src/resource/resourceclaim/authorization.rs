//! Who may write which part of a claim's status: allocation and reservations need `resourceclaims/binding`, the state of a
//! driver's devices `resourceclaims/driver` under the driver's name. Neither sub-resource exists but as a permission.
//!
//! Upstream: `pkg/registry/resource/utils.go`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, ResourceClaimStatus,
};
use machinery::{ErrorList, Path, names};

use super::status::device_key;
use crate::check::same;
use crate::kind::{Ask, Context};
use crate::view::Items;

const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Every permission that the change needs and its writer lacks.
pub(super) fn check(
    errors: &mut ErrorList,
    context: &Context,
    new: &ResourceClaimStatus,
    old: &ResourceClaimStatus,
) {
    let path = Path::new("status");
    let bound =
        !same(&new.allocation, &old.allocation) || !same(&new.reserved_for, &old.reserved_for);
    if bound {
        binding(errors, context, &path.child("allocation"));
    }
    // The state of devices goes with the allocation, whoever takes that away.
    if let Some(allocation) = &new.allocation {
        drivers(
            errors,
            context,
            &path.child("devices"),
            new,
            old,
            allocation,
        );
    }
}

fn binding(errors: &mut ErrorList, context: &Context, path: &Path) {
    let ask = Ask {
        verb_prefix: "",
        subresource: "binding",
        namespaced: false,
        name: "",
    };
    if let Err(why) = context.surroundings.may(ask) {
        let verb = context.surroundings.verb();
        let detail = format!(
            "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", \
             verb=\"{verb}\" permission: {why}"
        );
        errors.forbidden(path, detail);
    }
}

fn drivers(
    errors: &mut ErrorList,
    context: &Context,
    path: &Path,
    new: &ResourceClaimStatus,
    old: &ResourceClaimStatus,
    allocation: &AllocationResult,
) {
    let prefixes: &[&str] = match is_on_node_of(context, allocation) {
        true => &["associated-node:", "arbitrary-node:"],
        false => &["arbitrary-node:"],
    };
    for driver in changed_drivers(new.devices.items(), old.devices.items()) {
        let ask = |prefix: &&'static str| {
            context.surroundings.may(Ask {
                verb_prefix: prefix,
                subresource: "driver",
                namespaced: true,
                name: driver,
            })
        };
        let answers: Vec<Result<(), String>> = prefixes.iter().map(ask).collect();
        if answers.iter().any(Result::is_ok) {
            continue;
        }
        let why = answers
            .into_iter()
            .find_map(Result::err)
            .unwrap_or_default();
        let verb = context.surroundings.verb();
        let verbs: Vec<String> = prefixes.iter().map(|p| format!("{p}{verb}")).collect();
        let detail = format!(
            "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: {why}",
            verbs.join(" ")
        );
        errors.forbidden(path, detail);
    }
}

fn changed_drivers<'a>(
    new: &'a [AllocatedDeviceStatus],
    old: &'a [AllocatedDeviceStatus],
) -> BTreeSet<&'a str> {
    let mut before: BTreeMap<String, &AllocatedDeviceStatus> =
        old.iter().map(|d| (device_key(d), d)).collect();
    let mut changed = BTreeSet::new();
    for device in new {
        let old = before.remove(&device_key(device));
        if old.is_none_or(|old| !same(old, device)) {
            changed.insert(device.driver.as_str());
        }
    }
    changed.extend(before.into_values().map(|d| d.driver.as_str()));
    changed
}

/// Whether a service account's pod asks that runs on the one node for which the devices are allocated.
fn is_on_node_of(context: &Context, allocation: &AllocationResult) -> bool {
    let nodes = context.requester.extra.get(NODE_NAME);
    let Some([own]) = nodes.map(Vec::as_slice) else {
        return false;
    };
    context.user.starts_with("system:serviceaccount:")
        && names::dns1123_subdomain(own).is_empty()
        && allocated_node(allocation) == Some(own)
}

fn allocated_node(allocation: &AllocationResult) -> Option<&str> {
    let [term] = &allocation.node_selector.as_ref()?.node_selector_terms[..] else {
        return None;
    };
    let [field] = term.match_fields.items() else {
        return None;
    };
    let whole = term.match_expressions.items().is_empty();
    match field.values.items() {
        [name] if whole && field.key == "metadata.name" && field.operator == "In" => Some(name),
        _ => None,
    }
}
