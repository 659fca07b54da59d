//! What a Node must look like, and what may change.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Taint};
use machinery::{ErrorList, Path, names};
use serde_json::Value;

use crate::check::{self, ErrorListExt};
use crate::core::resources;
use crate::view::{Items, OrEmpty};

const POD_CIDR: &str = "node updates may not change podCIDR except from \"\" to valid";

pub(super) fn create(node: &Node) -> ErrorList {
    let mut errors = ErrorList::new();
    taints_and_resources(&mut errors, node);
    let cidrs = pod_cidrs(node);
    let path = Path::new("spec").child("podCIDRs");
    for (i, cidr) in cidrs.iter().enumerate() {
        errors.invalid_each(&path.index(i), cidr, names::legacy_cidr(cidr, true));
    }
    if cidrs.len() > 1 {
        let sixes = cidrs.iter().filter(|c| c.contains(':')).count();
        if cidrs.len() > 2 || sixes != 1 {
            let detail = "may specify no more than one CIDR for each IP family";
            errors.invalid(&path, cidrs.to_vec(), detail);
        }
    }
    let declared = node.status.as_ref();
    let declared = declared.map_or(&[][..], |status| status.declared_features.items());
    declared_features(&mut errors, declared);
    errors
}

/// Features are named once each, in order.
fn declared_features(errors: &mut ErrorList, features: &[String]) {
    const LONGEST: usize = 253;
    let path = Path::new("status").child("declaredFeatures");
    for (i, feature) in features.iter().enumerate() {
        let problem = match () {
            () if feature.len() > LONGEST => {
                Some(format!("must be no more than {LONGEST} characters"))
            }
            () if !is_feature(feature) => Some(
                "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature \
                 or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
                    .to_owned(),
            ),
            () => None,
        };
        if let Some(why) = problem {
            let why = format!("invalid feature name {feature:?}: {why}");
            errors.invalid(&path.index(i), feature.as_str(), why);
        }
        match features.get(i + 1) {
            Some(next) if next == feature => errors.duplicate(&path.index(i + 1), next.as_str()),
            Some(next) if next < feature => {
                let why = "list must be sorted alphabetically";
                errors.invalid(&path.index(i + 1), next.as_str(), why);
            }
            _ => {}
        }
    }
}

fn is_feature(name: &str) -> bool {
    let starts_large = name.starts_with(|c: char| c.is_ascii_uppercase());
    let segment = |segment: &str| {
        segment.starts_with(|c: char| c.is_ascii_alphabetic())
            && segment.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    starts_large && name.split('/').all(segment)
}

pub(super) fn update(new: &Node, old: &Node) -> ErrorList {
    let mut errors = create(new);
    let addresses = new.status.as_ref().map_or(&[][..], |s| s.addresses.items());
    let path = Path::new("status").child("addresses");
    for (i, address) in addresses.iter().enumerate() {
        if addresses[..i].contains(address) {
            errors.duplicate(&path.index(i), check::json(address));
        }
    }
    let before = pod_cidrs(old);
    if !before.is_empty() && before != pod_cidrs(new) {
        errors.forbidden(&Path::new("spec").child("podCIDRs"), POD_CIDR);
    }
    let (id, was) = (super::provider_id(new), super::provider_id(old));
    let path = Path::new("spec").child("providerID");
    if !was.is_empty() && id != was {
        let word = if id.is_empty() { "cleared" } else { "modified" };
        errors.invalid(
            &path,
            Value::Null,
            format!("field cannot be {word} once set"),
        );
    }
    let external_id = |node: &Node| node.spec.as_ref().and_then(|s| s.external_id.clone());
    if external_id(new) != external_id(old) {
        errors.forbidden(&Path::new("spec").child("externalID"), "may not be updated");
    }
    errors
}

fn pod_cidrs(node: &Node) -> &[String] {
    let Some(spec) = node.spec.as_ref() else {
        return &[];
    };
    match spec.pod_cidrs.items() {
        // `podCIDR` is the old name of the first element.
        [] => spec
            .pod_cidr
            .as_ref()
            .filter(|c| !c.is_empty())
            .map_or(&[], std::slice::from_ref),
        cidrs => cidrs,
    }
}

fn taints_and_resources(errors: &mut ErrorList, node: &Node) {
    let taints = node.spec.as_ref().map_or(&[][..], |s| s.taints.items());
    validate_taints(errors, &Path::new("metadata").child("taints"), taints);
    let Some(status) = node.status.as_ref() else {
        return;
    };
    for (key, list) in [
        ("capacity", &status.capacity),
        ("allocatable", &status.allocatable),
    ] {
        let path = Path::new("status").child(key);
        for (name, amount) in list.iter().flatten() {
            resources::amount(errors, &path.child(name), name, amount);
        }
    }
}

/// Taints: keys, values, effects, and no two of the same key and effect.
pub fn validate_taints(errors: &mut ErrorList, path: &Path, taints: &[Taint]) {
    let mut seen = BTreeSet::new();
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        check::label_name(errors, &path.child("key"), &taint.key);
        let value = taint.value.text();
        let messages = names::label_value(value);
        if !messages.is_empty() {
            errors.invalid(&path.child("value"), value, messages.join(";"));
        }
        taint_effect(errors, &path.child("effect"), &taint.effect);
        if !seen.insert((&taint.key, &taint.effect)) {
            errors.duplicate(&path, check::json(taint));
            if let Some(last) = errors.0.last_mut() {
                last.detail = "taints must be unique by key and effect pair".into();
            }
        }
    }
}

/// The effect of a taint, which must be given.
fn taint_effect(errors: &mut ErrorList, path: &Path, effect: &str) {
    if errors.required_text(path, effect, "") {
        errors.one_of(
            path,
            effect,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
    }
}
