//! The status of a claim: what was allocated, for whom it is reserved, how the devices are.
//!
//! Upstream: `validateResourceClaimStatusUpdate`, `dropDeallocatedStatusDevices`.

use std::collections::BTreeSet;

use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, DeviceAllocationConfiguration,
    DeviceRequestAllocationResult, NetworkDeviceData, ResourceClaim,
    ResourceClaimConsumerReference, ResourceClaimStatus,
};
use machinery::{ErrorList, Object, Path, names};
use serde_json::{Value, json};

use super::super::parts;
use super::super::request::{self, CONFIG_MAX, RequestNames};
use crate::check::{self, ErrorListExt};
use crate::core::pod::validation::node_selector;
use crate::view::{Items, OrEmpty};

const RESERVED_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
const CONDITIONS_MAX: usize = 8;
const ADDRESSES_MAX: usize = 16;
const INTERFACE_NAME_MAX: usize = 256;
const HARDWARE_ADDRESS_MAX: usize = 128;

/// Drops what is switched off, and the state of devices that are allocated no more.
pub(super) fn prepare(new: &mut Object, old: &Object) {
    let allocated =
        |object: &Object| -> BTreeSet<String> { results(object).iter().map(tree_key).collect() };
    let (before, now) = (allocated(old), allocated(new));
    let Some(status) = new.0.get_mut("status") else {
        return;
    };
    let path = "/allocation/devices/results";
    let results = status.pointer_mut(path).and_then(Value::as_array_mut);
    for result in results
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        result.remove("skipNodeOperations");
    }
    let Some(status) = status.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(devices)) = status.get_mut("devices") {
        devices.retain(|device| {
            let key = tree_key(device);
            !before.contains(&key) || now.contains(&key)
        });
        if devices.is_empty() {
            status.remove("devices");
        }
    }
}

fn results(object: &Object) -> &[Value] {
    let results = object.at(&["status", "allocation", "devices", "results"]);
    results.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn tree_key(device: &Value) -> String {
    let text = |key: &str| device.get(key).and_then(Value::as_str).unwrap_or("");
    key(
        text("driver"),
        text("pool"),
        text("device"),
        text("shareID"),
    )
}

fn key(driver: &str, pool: &str, device: &str, share: &str) -> String {
    let share = if share.is_empty() {
        String::new()
    } else {
        format!("/{share}")
    };
    format!("{driver}/{pool}/{device}{share}")
}

/// What tells a device in a status from all others.
pub(super) fn device_key(device: &AllocatedDeviceStatus) -> String {
    key(
        &device.driver,
        &device.pool,
        &device.device,
        device.share_id.text(),
    )
}

fn result_key(result: &DeviceRequestAllocationResult) -> String {
    key(
        &result.driver,
        &result.pool,
        &result.device,
        result.share_id.text(),
    )
}

/// The first result that grants the access of an administrator.
pub(super) fn wants_admin(status: &ResourceClaimStatus) -> Option<Path> {
    let devices = status.allocation.as_ref()?.devices.as_ref()?;
    let mut results = devices.results.items().iter();
    let at = results.position(|r| r.admin_access == Some(true))?;
    let path = Path::new("status").child("allocation").child("devices");
    Some(path.child("results").index(at).child("adminAccess"))
}

/// Everything wrong with a new status.
pub(super) fn validate(
    errors: &mut ErrorList,
    claim: &ResourceClaim,
    new: &ResourceClaimStatus,
    old: &ResourceClaimStatus,
) {
    let path = Path::new("status");
    let at = path.child("reservedFor");
    let reserved = new.reserved_for.items();
    let uid = |r: &ResourceClaimConsumerReference| r.uid.clone();
    parts::set(errors, &at, reserved, RESERVED_MAX, uid, consumer);
    let results = new.allocation.as_ref().and_then(|a| a.devices.as_ref());
    let results = results.map_or(&[][..], |d| d.results.items());
    let allocated: BTreeSet<String> = results.iter().map(result_key).collect();
    let at = path.child("devices");
    parts::set(
        errors,
        &at,
        new.devices.items(),
        usize::MAX,
        device_key,
        |errors, at, entry| {
            device(errors, at, entry, &allocated);
        },
    );
    if !reserved.is_empty() {
        let at = path.child("reservedFor");
        let before = old.reserved_for.items();
        let deleted = claim.metadata.deletion_timestamp.is_some();
        if new.allocation.is_none() {
            errors.forbidden(&at, "may not be specified when `allocated` is not set");
        } else if deleted && reserved.iter().any(|r| !before.contains(r)) {
            let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&at, detail);
        }
    }
    let at = path.child("allocation");
    match (&new.allocation, &old.allocation) {
        (Some(now), Some(before)) => errors.immutable(&at, now, before),
        (Some(now), None) => allocation(errors, &at, now, &RequestNames::of(claim.spec.as_ref())),
        (None, _) => {}
    }
}

fn consumer(errors: &mut ErrorList, path: &Path, reference: &ResourceClaimConsumerReference) {
    errors.required_text(&path.child("resource"), &reference.resource, "");
    errors.required_text(&path.child("name"), &reference.name, "");
    errors.required_text(&path.child("uid"), &reference.uid, "");
}

fn allocation(errors: &mut ErrorList, path: &Path, new: &AllocationResult, known: &RequestNames) {
    let at = path.child("devices");
    let devices = new.devices.clone().unwrap_or_default();
    let results = devices.results.items();
    parts::each(
        errors,
        &at.child("results"),
        results,
        RESULTS_MAX,
        |errors, at, entry| {
            result(errors, at, entry, known);
        },
    );
    let config = devices.config.items();
    parts::each(
        errors,
        &at.child("config"),
        config,
        2 * CONFIG_MAX,
        |errors, at, entry| {
            configuration(errors, at, entry, known);
        },
    );
    if let Some(selector) = &new.node_selector {
        node_selector(errors, &path.child("nodeSelector"), selector);
    }
}

fn result(
    errors: &mut ErrorList,
    path: &Path,
    result: &DeviceRequestAllocationResult,
    known: &RequestNames,
) {
    request::reference(errors, &path.child("request"), &result.request, known);
    parts::driver_name(errors, &path.child("driver"), &result.driver);
    parts::pool_name(errors, &path.child("pool"), &result.pool);
    parts::label(errors, &path.child("device"), &result.device);
    let (wanted, failures) = (
        &result.binding_conditions,
        &result.binding_failure_conditions,
    );
    parts::binding_conditions(errors, path, wanted.items(), failures.items());
    parts::tolerations(
        errors,
        &path.child("tolerations"),
        result.tolerations.items(),
    );
    if let Some(uid) = &result.share_id {
        parts::uid(errors, &path.child("shareID"), uid);
    }
}

fn configuration(
    errors: &mut ErrorList,
    path: &Path,
    config: &DeviceAllocationConfiguration,
    known: &RequestNames,
) {
    let at = path.child("source");
    if errors.required_text(&at, &config.source, "") {
        errors.one_of(&at, &config.source, &["FromClaim", "FromClass"]);
    }
    request::references(
        errors,
        &path.child("requests"),
        config.requests.items(),
        known,
    );
    parts::configuration(errors, path, config.opaque.as_ref(), false);
}

fn device(
    errors: &mut ErrorList,
    path: &Path,
    device: &AllocatedDeviceStatus,
    allocated: &BTreeSet<String>,
) {
    parts::driver_name(errors, &path.child("driver"), &device.driver);
    parts::pool_name(errors, &path.child("pool"), &device.pool);
    parts::label(errors, &path.child("device"), &device.device);
    if let Some(uid) = &device.share_id {
        parts::uid(errors, &path.child("shareID"), uid);
    }
    let key = device_key(device);
    if !allocated.contains(&key) {
        let [driver, pool, name, share] = [
            &*device.driver,
            &*device.pool,
            &*device.device,
            device.share_id.text(),
        ]
        .map(|t| json!(t));
        errors.invalid(path, key, "must be an allocated device in the claim");
        if let Some(error) = errors.0.last_mut() {
            error.shown = Some(format!(
                "{{\"Driver\":{driver},\"Pool\":{pool},\"Device\":{name},\"ShareID\":{share}}}"
            ));
        }
    }
    let (at, conditions) = (path.child("conditions"), device.conditions.items());
    if conditions.len() > CONDITIONS_MAX {
        errors.too_many(&at, conditions.len(), CONDITIONS_MAX);
    }
    check::conditions(errors, &at, conditions);
    if let Some(data) = device.data.as_ref().filter(|d| !d.0.is_null()) {
        parts::raw(errors, &path.child("data"), &data.0, false);
    }
    if let Some(data) = &device.network_data {
        network(errors, &path.child("networkData"), data);
    }
}

fn network(errors: &mut ErrorList, path: &Path, data: &NetworkDeviceData) {
    let texts = [
        (
            "interfaceName",
            data.interface_name.text(),
            INTERFACE_NAME_MAX,
        ),
        (
            "hardwareAddress",
            data.hardware_address.text(),
            HARDWARE_ADDRESS_MAX,
        ),
    ];
    for (field, text, max) in texts {
        if text.len() > max {
            errors.too_long(&path.child(field), max);
        }
    }
    let (at, ips) = (path.child("ips"), data.ips.items());
    parts::set(
        errors,
        &at,
        ips,
        ADDRESSES_MAX,
        Clone::clone,
        |errors, at, address| {
            errors.invalid_each(at, address, names::interface_address(address));
        },
    );
}
