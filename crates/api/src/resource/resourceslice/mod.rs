//! ResourceSlice: the devices that a driver has to offer, on one node or on many.
//!
//! Upstream: `pkg/registry/resource/resourceslice`, `ValidateResourceSlice`, `printResourceSlice`.

mod device;

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{
    CounterSet, Device, ResourcePool, ResourceSlice as Typed, ResourceSliceSpec,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::Value;

use super::parts;
use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::core::pod::validation::node_selector;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{Items, OrEmpty};

const DEVICES_MAX: usize = 128;
const DEVICES_WITH_TAINTS_OR_COUNTERS_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
/// The most counters of a set, and of what a device takes from one.
const COUNTERS_MAX: usize = 32;

const NODE_TEXT: &str = "NodeName identifies the node which provides the resources in this pool. A field selector can be used \
    to list only ResourceSlice objects belonging to a certain node.\n\nThis field can be used to limit access from nodes to \
    ResourceSlices with the same node name. It also indicates to autoscalers that adding new nodes of the same type as some \
    old node might also make new resources available.\n\nExactly one of NodeName, NodeSelector, AllNodes, and \
    PerDeviceNodeSelection must be set. This field is immutable.";
const DRIVER_TEXT: &str = "Driver identifies the DRA driver providing the capacity information. A field selector can be used \
    to list only ResourceSlice objects with a certain driver name.\n\nMust be a DNS subdomain and should end with a DNS domain \
    owned by the vendor of the driver. It should use only lower case characters. This field is immutable.";
const POOL_TEXT: &str = "Name is used to identify the pool. For node-local devices, this is often the node name, but this is \
    not required. A field selector can be used to list only ResourceSlice objects belonging to a certain pool.\n\nIt must not be \
    longer than 253 characters and must consist of one or more DNS sub-domains separated by slashes. This field is immutable.";

/// The kind `ResourceSlice`.
pub struct ResourceSlice;

impl Kind for ResourceSlice {
    type Object = Typed;
    const NAMES: Names = Names::new(
        super::GROUP,
        "v1",
        "ResourceSlice",
        "resourceslices",
        "resourceslice",
    );
    const SCOPE: Scope = Scope::Cluster;
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text("Node", NODE_TEXT),
        columns::text("Driver", DRIVER_TEXT),
        columns::text("Pool", POOL_TEXT),
        columns::AGE,
    ];
    const SELECTABLE: &'static [&'static str] = &["spec.nodeName", "spec.driver", "spec.pool.name"];
    const HAS_GENERATION: bool = true;

    fn prepare_create(context: &Context, new: &mut Object) {
        drop_disabled(context, new);
    }

    fn prepare_update(context: &Context, _part: Part, new: &mut Object, _old: &Object) {
        drop_disabled(context, new);
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validate(&new.spec, None)
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        validate(&new.spec, Some(&old.spec))
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let driver = &new.spec.driver;
        let upper = *driver != driver.to_lowercase();
        let text = || {
            format!(
                "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
            )
        };
        upper.then(text).into_iter().collect()
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        let text = |path: &[&str]| object.str_at(path).to_owned();
        vec![
            ("spec.nodeName", text(&["spec", "nodeName"])),
            ("spec.driver", text(&["spec", "driver"])),
            ("spec.pool.name", text(&["spec", "pool", "name"])),
        ]
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = &object.spec;
        Row::from(vec![
            tree.name().into(),
            spec.node_name.text().into(),
            spec.driver.as_str().into(),
            spec.pool.name.as_str().into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// Drops the fields of features that are switched off, and notes when taints were added.
fn drop_disabled(context: &Context, object: &mut Object) {
    let Some(Value::Object(spec)) = object.0.get_mut("spec") else {
        return;
    };
    spec.remove("partitionTypeAttribute");
    spec.remove("skipNodeOperations");
    let devices = spec.get_mut("devices").and_then(Value::as_array_mut);
    for device in devices
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        device.remove("nodeAllocatableResources");
        let list = |value: Option<&'_ mut Value>| match value {
            Some(Value::Array(list)) => std::mem::take(list),
            _ => Vec::new(),
        };
        for field in ["consumesCounters", "taints"] {
            let mut entries = list(device.get_mut(field));
            for entry in &mut entries {
                match (field, entry.as_object_mut()) {
                    ("taints", _) => parts::default_time_added(entry, context.now),
                    (_, Some(entry)) => drop(entry.remove("compatibilityGroups")),
                    (_, None) => {}
                }
            }
            if let Some(Value::Array(own)) = device.get_mut(field) {
                *own = entries;
            }
        }
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for (_, attribute) in attributes.into_iter().flatten() {
            for lists in ["bools", "ints", "strings", "versions"] {
                attribute.as_object_mut().map(|a| a.remove(lists));
            }
        }
    }
}

fn validate(new: &ResourceSliceSpec, old: Option<&ResourceSliceSpec>) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    parts::driver_name(&mut errors, &path.child("driver"), &new.driver);
    pool(&mut errors, &path.child("pool"), &new.pool);
    if let Some(old) = old {
        let at = path.child("pool").child("name");
        errors.immutable(&at, &new.pool.name, &old.pool.name);
        errors.immutable(&path.child("driver"), &new.driver, &old.driver);
        errors.immutable(&path.child("nodeName"), &new.node_name, &old.node_name);
    }
    where_to(&mut errors, &path, new);
    if new.shared_counters.is_some() && new.devices.is_some() {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.invalid(&path, "", detail);
    }
    let heavy =
        |d: &Device| !d.taints.items().is_empty() || !d.consumes_counters.items().is_empty();
    let max = match new.devices.items().iter().any(heavy) {
        true => DEVICES_WITH_TAINTS_OR_COUNTERS_MAX,
        false => DEVICES_MAX,
    };
    let per_device = new.per_device_node_selection == Some(true);
    let at = path.child("devices");
    let key = |d: &Device| d.name.clone();
    parts::set(
        &mut errors,
        &at,
        new.devices.items(),
        max,
        key,
        |errors, at, entry| {
            let before = old.and_then(|o| o.devices.items().iter().find(|d| d.name == entry.name));
            device::validate(errors, at, entry, before, per_device);
        },
    );
    let at = path.child("sharedCounters");
    let key = |c: &CounterSet| c.name.clone();
    let sets = new.shared_counters.items();
    parts::set(
        &mut errors,
        &at,
        sets,
        COUNTER_SETS_MAX,
        key,
        |errors, at, set| {
            device::counters(errors, at, ("name", &set.name), set.counters.keys());
        },
    );
    errors
}

fn pool(errors: &mut ErrorList, path: &Path, pool: &ResourcePool) {
    parts::pool_name(errors, &path.child("name"), &pool.name);
    let count = pool.resource_slice_count;
    if count <= 0 {
        errors.invalid(
            &path.child("resourceSliceCount"),
            count,
            "must be greater than zero",
        );
    }
    if pool.generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("generation"), pool.generation, detail);
    }
}

/// From which nodes the devices can be reached: said in exactly one way.
fn where_to(errors: &mut ErrorList, path: &Path, spec: &ResourceSliceSpec) {
    let mut ways = Vec::new();
    let at = path.child("nodeName");
    match spec.node_name.as_deref() {
        None => {}
        Some("") => errors.invalid(&at, "", "must be either unset or set to a non-empty string"),
        Some(name) => {
            ways.push("`nodeName`");
            errors.invalid_each(&at, name, machinery::names::dns1123_subdomain(name));
        }
    }
    if let Some(selector) = &spec.node_selector {
        ways.push("`nodeSelector`");
        let at = path.child("nodeSelector");
        node_selector(errors, &at, selector);
        if selector.node_selector_terms.len() != 1 {
            let shown = match selector.node_selector_terms.is_empty() {
                true => serde_json::Value::Null,
                false => check::json(&selector.node_selector_terms),
            };
            let detail = "must have exactly one node selector term";
            errors.invalid(&at.child("nodeSelectorTerms"), shown, detail);
        }
    }
    let flags = [
        ("allNodes", "`allNodes`", spec.all_nodes),
        (
            "perDeviceNodeSelection",
            "`perDeviceNodeSelection`",
            spec.per_device_node_selection,
        ),
    ];
    for (field, quoted, flag) in flags {
        match flag {
            None => {}
            Some(true) => ways.push(quoted),
            Some(false) => {
                errors.invalid(
                    &path.child(field),
                    false,
                    "must be either unset or set to true",
                );
            }
        }
    }
    let detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match ways.len() {
        0 => errors.required(path, detail),
        1 => {}
        _ => {
            let detail = format!("{detail}, but multiple fields are set");
            errors.invalid(path, format!("{{{}}}", ways.join(", ")), detail);
        }
    }
}
