//! What a claim asks for: requests for devices, constraints between them, configuration for their drivers.
//!
//! Upstream: `validateDeviceClaim`, `pkg/apis/resource/v1/defaults.go`, `pkg/api/resourceclaimspec`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceConstraint, DeviceRequest, DeviceSubRequest, DeviceToleration,
    ExactDeviceRequest, ResourceClaimSpec,
};
use machinery::{ErrorList, Object, Path, names};
use serde_json::Value;

use super::parts;
use super::selector::selectors;
use crate::check::ErrorListExt;
use crate::kind::Context;
use crate::view::{Items, OrEmpty, fill};

/// The most requests that one claim makes, and that one reference names.
pub(super) const REQUESTS_MAX: usize = 32;
/// The most configurations of a class or a claim.
pub(super) const CONFIG_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const NO_SUCH_REQUEST: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";

/// The names of requests, and of the alternatives of each.
#[derive(Debug, Default)]
pub(super) struct RequestNames(BTreeMap<String, BTreeSet<String>>);

impl RequestNames {
    /// Those of a claim.
    pub(super) fn of(spec: Option<&ResourceClaimSpec>) -> Self {
        let devices = spec.and_then(|spec| spec.devices.as_ref());
        let requests = devices.map_or(&[][..], |d| d.requests.items());
        let alternatives = |r: &DeviceRequest| {
            let all = r.first_available.items().iter();
            all.map(|sub| sub.name.clone()).collect()
        };
        Self(
            requests
                .iter()
                .map(|r| (r.name.clone(), alternatives(r)))
                .collect(),
        )
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, sub)) => self.0.get(request).is_some_and(|subs| subs.contains(sub)),
        }
    }
}

/// Asks for one device where nothing else is said.
pub(super) fn default(spec: Option<&mut ResourceClaimSpec>) {
    let devices = spec.and_then(|spec| spec.devices.as_mut());
    let requests = devices
        .into_iter()
        .flat_map(|d| d.requests.iter_mut().flatten());
    for request in requests {
        if let Some(exactly) = &mut request.exactly {
            default_mode(&mut exactly.allocation_mode, &mut exactly.count);
            default_tolerations(&mut exactly.tolerations);
        }
        for sub in request.first_available.iter_mut().flatten() {
            default_mode(&mut sub.allocation_mode, &mut sub.count);
            default_tolerations(&mut sub.tolerations);
        }
    }
}

fn default_tolerations(tolerations: &mut Option<Vec<DeviceToleration>>) {
    for toleration in tolerations.iter_mut().flatten() {
        fill(&mut toleration.operator, "Equal");
    }
}

fn default_mode(mode: &mut Option<String>, count: &mut Option<i64>) {
    fill(mode, "ExactCount");
    if mode.text() == "ExactCount" && count.unwrap_or(0) == 0 {
        *count = Some(1);
    }
}

/// Drops the fields of features that are switched off.
pub(super) fn drop_disabled(spec: Option<&mut Value>) {
    let requests = spec.and_then(|spec| spec.pointer_mut("/devices/requests"));
    let requests = requests.and_then(Value::as_array_mut).into_iter().flatten();
    let drop = |request: Option<&mut Value>| {
        if let Some(request) = request.and_then(Value::as_object_mut) {
            request.remove("derivedAttributes");
        }
    };
    for request in requests {
        drop(request.get_mut("exactly"));
        let subs = request
            .get_mut("firstAvailable")
            .and_then(Value::as_array_mut);
        subs.into_iter().flatten().for_each(|sub| drop(Some(sub)));
    }
}

/// Who wants the access of an administrator must do so from a namespace that grants it.
pub(super) fn admin_access(
    errors: &mut ErrorList,
    context: &Context,
    namespace: &str,
    path: impl FnOnce() -> Option<Path>,
) {
    let Some(path) = path() else { return };
    if context
        .surroundings
        .namespace_label(namespace, ADMIN_LABEL)
        .as_deref()
        != Some("true")
    {
        let detail = format!(
            "admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
        );
        errors.forbidden(&path, detail);
    }
}

/// The first request that wants the access of an administrator.
pub(super) fn wants_admin(spec: Option<&ResourceClaimSpec>, path: &Path) -> Option<Path> {
    let requests = spec?.devices.as_ref()?.requests.items();
    let wants = |r: &DeviceRequest| {
        r.exactly
            .as_ref()
            .is_some_and(|e| e.admin_access == Some(true))
    };
    let at = requests.iter().position(wants)?;
    let requests = path.child("devices").child("requests");
    Some(requests.index(at).child("adminAccess"))
}

/// Everything wrong with what a claim asks for.
pub(super) fn validate(errors: &mut ErrorList, path: &Path, spec: Option<&ResourceClaimSpec>) {
    let known = RequestNames::of(spec);
    let empty = DeviceClaim::default();
    let claim = spec
        .and_then(|spec| spec.devices.as_ref())
        .unwrap_or(&empty);
    let path = path.child("devices");
    let at = path.child("requests");
    let key = |r: &DeviceRequest| r.name.clone();
    parts::set(
        errors,
        &at,
        claim.requests.items(),
        REQUESTS_MAX,
        key,
        request,
    );
    let at = path.child("constraints");
    let list = claim.constraints.items();
    parts::each(errors, &at, list, CONSTRAINTS_MAX, |errors, at, entry| {
        constraint(errors, at, entry, &known);
    });
    let at = path.child("config");
    parts::each(
        errors,
        &at,
        claim.config.items(),
        CONFIG_MAX,
        |errors, at, entry| {
            references(
                errors,
                &at.child("requests"),
                entry.requests.items(),
                &known,
            );
            parts::configuration(errors, at, entry.opaque.as_ref(), false);
        },
    );
}

fn request(errors: &mut ErrorList, path: &Path, request: &DeviceRequest) {
    parts::label(errors, &path.child("name"), &request.name);
    let alternatives = request.first_available.items();
    match (&request.exactly, alternatives.is_empty()) {
        (None, true) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required";
            errors.required(path, detail);
        }
        (Some(_), false) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.invalid(path, Value::Null, detail);
            let at = path.child("firstAvailable");
            for (i, sub) in alternatives.iter().enumerate() {
                let at = at.index(i).child("deviceClassName");
                if sub.device_class_name.is_empty() {
                    errors.required(&at, "");
                }
            }
        }
        (Some(exactly), true) => exact(errors, &path.child("exactly"), exactly),
        (None, false) => {
            let at = path.child("firstAvailable");
            let key = |sub: &DeviceSubRequest| sub.name.clone();
            parts::set(
                errors,
                &at,
                alternatives,
                ALTERNATIVES_MAX,
                key,
                alternative,
            );
        }
    }
}

fn exact(errors: &mut ErrorList, path: &Path, request: &ExactDeviceRequest) {
    class_name(
        errors,
        &path.child("deviceClassName"),
        &request.device_class_name,
    );
    selectors(
        errors,
        &path.child("selectors"),
        request.selectors.items(),
        false,
    );
    mode(errors, path, request.allocation_mode.text(), request.count);
    parts::tolerations(
        errors,
        &path.child("tolerations"),
        request.tolerations.items(),
    );
}

fn alternative(errors: &mut ErrorList, path: &Path, sub: &DeviceSubRequest) {
    parts::label(errors, &path.child("name"), &sub.name);
    class_name(
        errors,
        &path.child("deviceClassName"),
        &sub.device_class_name,
    );
    selectors(
        errors,
        &path.child("selectors"),
        sub.selectors.items(),
        false,
    );
    mode(errors, path, sub.allocation_mode.text(), sub.count);
    parts::tolerations(errors, &path.child("tolerations"), sub.tolerations.items());
}

fn class_name(errors: &mut ErrorList, path: &Path, name: &str) {
    if errors.required_text(path, name, "") {
        errors.invalid_each(path, name, names::dns1123_subdomain(name));
    }
}

fn mode(errors: &mut ErrorList, path: &Path, mode: &str, count: Option<i64>) {
    let (at, count) = (path.child("count"), count.unwrap_or(0));
    match mode {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.invalid(&at, count, detail);
        }
        "All" => {}
        "ExactCount" if count <= 0 => errors.invalid(&at, count, "must be greater than zero"),
        "ExactCount" => {}
        other => errors.not_supported(&path.child("allocationMode"), other, &["All", "ExactCount"]),
    }
}

fn constraint(
    errors: &mut ErrorList,
    path: &Path,
    constraint: &DeviceConstraint,
    known: &RequestNames,
) {
    references(
        errors,
        &path.child("requests"),
        constraint.requests.items(),
        known,
    );
    match (&constraint.match_attribute, &constraint.distinct_attribute) {
        (Some(name), _) => parts::fully_qualified_name(errors, &path.child("matchAttribute"), name),
        (None, Some(name)) => {
            parts::fully_qualified_name(errors, &path.child("distinctAttribute"), name);
        }
        (None, None) => {
            let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.required(path, detail);
        }
    }
}

/// Names of requests that the claim makes, each once.
pub(super) fn references(
    errors: &mut ErrorList,
    path: &Path,
    list: &[String],
    known: &RequestNames,
) {
    parts::set(
        errors,
        path,
        list,
        REQUESTS_MAX,
        Clone::clone,
        |errors, at, name| {
            reference(errors, at, name, known);
        },
    );
}

/// The name of a request that the claim makes, or of one of its alternatives.
pub(super) fn reference(errors: &mut ErrorList, path: &Path, name: &str, known: &RequestNames) {
    let segments: Vec<&str> = name.split('/').collect();
    if segments.len() > 2 {
        return errors.invalid(path, name, NO_SUCH_REQUEST);
    }
    for segment in segments {
        parts::label(errors, path, segment);
    }
    if !known.has(name) {
        errors.invalid(path, name, NO_SUCH_REQUEST);
    }
}

/// The specification of a claim in a tree.
pub(super) fn spec_of(object: &mut Object) -> Option<&mut Value> {
    object.0.get_mut("spec")
}
