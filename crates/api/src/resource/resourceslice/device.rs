//! One device of a slice: attributes, capacities, taints, counters that it takes from, nodes that reach it.
//!
//! Upstream: `validateDevice`.

use std::sync::LazyLock;

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceCounterConsumption};
use machinery::{ErrorList, Path, names};
use regex::Regex;
use serde_json::Value;

use super::super::{capacity, parts};
use crate::check::{self, ErrorListExt, same};
use crate::core::pod::validation::node_selector;
use crate::view::{Items, OrEmpty};

const ATTRIBUTES_AND_CAPACITIES_MAX: usize = 32;
const ATTRIBUTE_VALUES_MAX: usize = 48;
const VALUE_MAX: usize = 64;
const TAINTS_MAX: usize = 16;
const CONSUMPTIONS_MAX: usize = 2;
const ONE_WAY: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

static SEMVER: LazyLock<Regex> = LazyLock::new(|| {
    const NUMBER: &str = r"(0|[1-9]\d*)";
    const PRE: &str = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)";
    const BUILD: &str = r"[0-9a-zA-Z-]+";
    let text =
        format!(r"^{NUMBER}\.{NUMBER}\.{NUMBER}(-{PRE}(\.{PRE})*)?(\+{BUILD}(\.{BUILD})*)?$");
    Regex::new(&text).expect("the expression above is one")
});

/// Everything wrong with a device; parts that are as before are not looked at again.
pub(super) fn validate(
    errors: &mut ErrorList,
    path: &Path,
    device: &Device,
    old: Option<&Device>,
    per_device: bool,
) {
    parts::label(errors, &path.child("name"), &device.name);
    sizes(errors, path, device);
    let at = path.child("attributes");
    for (name, entry) in device.attributes.iter().flatten() {
        parts::qualified_name(errors, &at, name);
        attribute(errors, &at.key(name), entry);
    }
    if old.is_none_or(|old| !same(&old.capacity, &device.capacity)) {
        let shared = device.allow_multiple_allocations == Some(true);
        let at = path.child("capacity");
        for (name, entry) in device.capacity.iter().flatten() {
            parts::qualified_name(errors, &at, name);
            capacity::validate(errors, &at.key(name), entry, shared);
        }
    }
    if old.is_none_or(|old| !same(&old.taints, &device.taints)) {
        let at = path.child("taints");
        parts::each(
            errors,
            &at,
            device.taints.items(),
            TAINTS_MAX,
            |errors, at, entry| {
                parts::taint(errors, at, entry, None);
            },
        );
    }
    let at = path.child("consumesCounters");
    let key = |c: &DeviceCounterConsumption| c.counter_set.clone();
    let list = device.consumes_counters.items();
    parts::set(
        errors,
        &at,
        list,
        CONSUMPTIONS_MAX,
        key,
        |errors, at, entry| {
            counters(
                errors,
                at,
                ("counterSet", &entry.counter_set),
                entry.counters.keys(),
            );
        },
    );
    nodes(errors, path, device, per_device);
    let (wanted, failures) = (
        &device.binding_conditions,
        &device.binding_failure_conditions,
    );
    parts::binding_conditions(errors, path, wanted.items(), failures.items());
}

fn sizes(errors: &mut ErrorList, path: &Path, device: &Device) {
    let attributes = device.attributes.as_ref().map_or(0, |a| a.len());
    let all = attributes + device.capacity.as_ref().map_or(0, |c| c.len());
    if all > ATTRIBUTES_AND_CAPACITIES_MAX {
        let detail = format!(
            "the total number of attributes and capacities must not exceed {ATTRIBUTES_AND_CAPACITIES_MAX}"
        );
        errors.invalid(path, all, detail);
    }
    if attributes > ATTRIBUTE_VALUES_MAX {
        let detail =
            format!("the total number of attribute values must not exceed {ATTRIBUTE_VALUES_MAX}");
        errors.invalid(path, attributes, detail);
    }
}

fn attribute(errors: &mut ErrorList, path: &Path, attribute: &DeviceAttribute) {
    if attribute.string.text().len() > VALUE_MAX {
        errors.too_long(&path.child("string"), VALUE_MAX);
    }
    if let Some(version) = &attribute.version {
        let at = path.child("version");
        if !SEMVER.is_match(version) {
            let detail = "must be a string compatible with semver.org spec 2.0.0";
            errors.invalid(&at, version.as_str(), detail);
        }
        if version.len() > VALUE_MAX {
            errors.too_long(&at, VALUE_MAX);
        }
    }
    let values = [
        attribute.bool.is_some(),
        attribute.int.is_some(),
        attribute.string.is_some(),
        attribute.version.is_some(),
    ];
    match values.iter().filter(|set| **set).count() {
        0 => errors.invalid(path, "", "exactly one value must be specified"),
        1 => {}
        _ => errors.invalid(
            path,
            check::json(attribute),
            "exactly one value must be specified",
        ),
    }
}

/// A named set of counters, or what is taken from one: some, each with a name.
pub(super) fn counters<'a>(
    errors: &mut ErrorList,
    path: &Path,
    (field, name): (&str, &str),
    keys: impl ExactSizeIterator<Item = &'a String>,
) {
    let at = path.child(field);
    if errors.required_text(&at, name, "") {
        parts::label(errors, &at, name);
    }
    let at = path.child("counters");
    match keys.len() {
        0 => errors.required(&at, ""),
        count if count > super::COUNTERS_MAX => errors.too_many(&at, count, super::COUNTERS_MAX),
        _ => keys.for_each(|key| parts::label(errors, &at, key)),
    }
}

/// Where the device is said to be, if the slice leaves that to its devices.
fn nodes(errors: &mut ErrorList, path: &Path, device: &Device, per_device: bool) {
    if !per_device {
        let said = device.node_name.is_some() || device.node_selector.is_some();
        if said || device.all_nodes.is_some() {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.invalid(path, Value::Null, detail);
        }
        return;
    }
    let mut ways = Vec::new();
    let at = path.child("nodeName");
    match device.node_name.as_deref() {
        None => {}
        Some("") => errors.invalid(&at, "", "must not be empty"),
        Some(name) => {
            ways.push("`nodeName`");
            errors.invalid_each(&at, name, names::dns1123_subdomain(name));
        }
    }
    if let Some(selector) = &device.node_selector {
        ways.push("`nodeSelector`");
        node_selector(errors, &path.child("nodeSelector"), selector);
    }
    match device.all_nodes {
        None => {}
        Some(true) => ways.push("`allNodes`"),
        Some(false) => {
            errors.invalid(
                &path.child("allNodes"),
                false,
                "must be either unset or set to true",
            );
        }
    }
    match ways.len() {
        0 => errors.required(path, ONE_WAY),
        1 => {}
        _ => errors.invalid(path, format!("{{{}}}", ways.join(", ")), ONE_WAY),
    }
}
