//! Checks that the kinds of this group share: names, taints and tolerations, conditions of binding, parameters of drivers.
//!
//! Upstream: `pkg/apis/resource/validation/validation.go`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceToleration, OpaqueDeviceConfiguration};
use machinery::{ErrorList, Path, names};
use serde_json::Value;

use crate::check::{self, ErrorListExt};
use crate::core::volumes::csi_driver_name;
use crate::view::OrEmpty;

const ID_MAX: usize = 32;
const POOL_NAME_MAX: usize = 253;
const BINDING_CONDITIONS_MAX: usize = 4;
/// The longest parameters of a driver and data of a device, in bytes.
pub(super) const RAW_MAX: usize = 10 * 1024;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// The name of a driver: as that of a CSI driver.
pub(super) fn driver_name(errors: &mut ErrorList, path: &Path, name: &str) {
    csi_driver_name(errors, path, name);
}

/// The name of a device, a request or a counter.
pub(super) fn label(errors: &mut ErrorList, path: &Path, name: &str) {
    errors.invalid_each(path, name, names::dns1123_label(name));
}

/// The name of a pool: sub-domains between slashes.
pub(super) fn pool_name(errors: &mut ErrorList, path: &Path, name: &str) {
    if !errors.required_text(path, name, "") {
        return;
    }
    if name.len() > POOL_NAME_MAX {
        errors.too_long(path, POOL_NAME_MAX);
    }
    for part in name.split('/') {
        errors.invalid_each(path, part, names::dns1123_subdomain(part));
    }
}

/// A UID in its normal form.
pub(super) fn uid(errors: &mut ErrorList, path: &Path, uid: &str) {
    let dashes = [8, 13, 18, 23];
    let hex = |(i, b): (usize, u8)| match dashes.contains(&i) {
        true => b == b'-',
        false => b.is_ascii_digit() || (b'a'..=b'f').contains(&b.to_ascii_lowercase()),
    };
    if uid.len() != 36 {
        let detail = format!("error validating uid: invalid UUID length: {}", uid.len());
        errors.invalid(path, uid, detail);
    } else if !uid.bytes().enumerate().all(hex) {
        errors.invalid(path, uid, "error validating uid: invalid UUID format");
    } else if uid != uid.to_lowercase() {
        let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        errors.invalid(path, uid, detail);
    }
}

/// The name of an attribute or a capacity: an identifier, perhaps behind a domain.
pub(super) fn qualified_name(errors: &mut ErrorList, path: &Path, name: &str) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [id] => identifier(errors, path, id),
        [domain, id] => {
            if domain.is_empty() {
                errors.invalid(path, "", "the domain must not be empty");
            } else {
                driver_name(errors, path, domain);
            }
            if id.is_empty() {
                errors.invalid(path, "", "the name must not be empty");
            } else {
                identifier(errors, path, id);
            }
        }
        // Upstream lets names with more slashes pass.
        _ => {}
    }
}

/// The name of an attribute with its domain.
pub(super) fn fully_qualified_name(errors: &mut ErrorList, path: &Path, name: &str) {
    qualified_name(errors, path, name);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path, name, detail);
    }
}

fn identifier(errors: &mut ErrorList, path: &Path, id: &str) {
    if id.len() > ID_MAX {
        errors.too_long(path, ID_MAX);
    }
    errors.invalid_each(path, id, names::c_identifier(id));
}

/// At most `max` entries, each checked; a longer list is refused as a whole.
pub(super) fn each<T>(
    errors: &mut ErrorList,
    path: &Path,
    list: &[T],
    max: usize,
    mut check: impl FnMut(&mut ErrorList, &Path, &T),
) {
    if list.len() > max {
        return errors.too_many(path, list.len(), max);
    }
    for (i, item) in list.iter().enumerate() {
        check(errors, &path.index(i), item);
    }
}

/// As [`each`], and no two entries have the same key.
pub(super) fn set<T>(
    errors: &mut ErrorList,
    path: &Path,
    list: &[T],
    max: usize,
    key: impl Fn(&T) -> String,
    check: impl FnMut(&mut ErrorList, &Path, &T),
) {
    each(errors, path, list, max, check);
    if list.len() > max {
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, item) in list.iter().enumerate() {
        let key = key(item);
        if !seen.insert(key.clone()) {
            errors.duplicate(&path.index(i), key);
        }
    }
}

/// A taint of a device; an effect that was there before is not looked at again.
pub(super) fn taint(
    errors: &mut ErrorList,
    path: &Path,
    taint: &DeviceTaint,
    old: Option<&DeviceTaint>,
) {
    check::label_name(errors, &path.child("key"), &taint.key);
    label_value(errors, &path.child("value"), taint.value.text());
    if old.is_none_or(|old| old.effect != taint.effect) {
        let at = path.child("effect");
        if errors.required_text(&at, &taint.effect, "") {
            errors.one_of(&at, &taint.effect, EFFECTS);
        }
    }
}

fn label_value(errors: &mut ErrorList, path: &Path, value: &str) {
    errors.invalid_each(path, value, names::label_value(value));
}

/// A toleration of taints of devices.
pub(super) fn toleration(errors: &mut ErrorList, path: &Path, toleration: &DeviceToleration) {
    if !toleration.key.text().is_empty() {
        check::label_name(errors, &path.child("key"), toleration.key.text());
    }
    let (at, value) = (path.child("value"), toleration.value.text());
    match toleration.operator.text() {
        "Exists" if !value.is_empty() => {
            errors.invalid(&at, value, "must be empty for operator `Exists`");
        }
        "Exists" => {}
        "Equal" => label_value(errors, &at, value),
        "" => errors.required(&path.child("operator"), ""),
        other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
    }
    if !toleration.effect.text().is_empty() {
        errors.one_of(&path.child("effect"), toleration.effect.text(), EFFECTS);
    }
}

/// The tolerations of a request or of a result.
pub(super) fn tolerations(errors: &mut ErrorList, path: &Path, tolerations: &[DeviceToleration]) {
    for (i, entry) in tolerations.iter().enumerate() {
        toleration(errors, &path.index(i), entry);
    }
}

/// The conditions that a device waits for before a pod is bound, and those that end the wait.
pub(super) fn binding_conditions(
    errors: &mut ErrorList,
    path: &Path,
    wanted: &[String],
    failures: &[String],
) {
    let lists = [
        ("bindingConditions", wanted),
        ("bindingFailureConditions", failures),
    ];
    for (field, list) in lists {
        let at = path.child(field);
        each(errors, &at, list, BINDING_CONDITIONS_MAX, |e, at, name| {
            check::label_name(e, at, name);
        });
    }
    for (field, list) in lists {
        for (i, name) in list.iter().enumerate() {
            let at = path.child(field).index(i);
            if list[..i].contains(name) {
                errors.duplicate(&at, name.as_str());
            }
            if field == "bindingFailureConditions" && wanted.contains(name) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                errors.invalid(&at, name.as_str(), detail);
            }
        }
    }
    if wanted.is_empty() && !failures.is_empty() {
        let detail = "bindingConditions are required to use bindingFailureConditions";
        errors.invalid(
            &path.child("bindingConditions"),
            check::json(&wanted),
            detail,
        );
    }
    if failures.is_empty() && !wanted.is_empty() {
        let detail = "bindingFailureConditions are required to use bindingConditions";
        let at = path.child("bindingFailureConditions");
        errors.invalid(&at, check::json(&failures), detail);
    }
}

/// The configuration of a class or a request: parameters for one driver. `stored`: not too long, as it is there already.
pub(super) fn configuration(
    errors: &mut ErrorList,
    path: &Path,
    opaque: Option<&OpaqueDeviceConfiguration>,
    stored: bool,
) {
    let path = path.child("opaque");
    let Some(opaque) = opaque else {
        return errors.required(&path, "");
    };
    driver_name(errors, &path.child("driver"), &opaque.driver);
    raw(
        errors,
        &path.child("parameters"),
        &opaque.parameters.0,
        stored,
    );
}

/// A JSON object that only a driver understands.
pub(super) fn raw(errors: &mut ErrorList, path: &Path, value: &Value, stored: bool) {
    match value {
        Value::Null => errors.required(path, ""),
        value if !stored && value.to_string().len() > RAW_MAX => errors.too_long(path, RAW_MAX),
        Value::Object(_) => {}
        _ => errors.invalid(path, "<value omitted>", "must be a valid JSON object"),
    }
}

/// Fills in when a taint was added.
pub(super) fn default_time_added(taint: &mut Value, now: Timestamp) {
    if let Some(taint) = taint.as_object_mut()
        && taint.get("timeAdded").is_none_or(Value::is_null)
    {
        taint.insert("timeAdded".into(), machinery::time::rfc3339(now).into());
    }
}
