//! What to write so that all defaults are there, without taking away what an administrator added.
//!
//! Behaviour: `k8s.io/component-helpers/auth/rbac/reconciliation`.

use k8s_openapi::api::rbac::v1::{PolicyRule, Subject};
use machinery::Object;
use serde_json::{Map, Value, json};

use super::AUTO_UPDATE;
use crate::rbac::{GROUP, rule};

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Make this object.
    Create(Object),
    /// Put this object in place of the one whose resourceVersion it carries.
    Update(Object),
    /// Delete the object of this UID and make this one: a binding's role cannot be changed.
    Recreate {
        /// UID of the object to delete.
        uid: String,
        /// The new one.
        object: Object,
    },
}

/// What to write for one wanted object, given what is there; `None`: nothing.
///
/// Kinds other than the four of RBAC are made when missing and else left alone.
pub fn reconcile(existing: Option<&Object>, wanted: &Object) -> Option<Write> {
    let Some(existing) = existing else {
        return Some(Write::Create(wanted.clone()));
    };
    let protected = existing
        .annotations()
        .any(|(k, v)| k == AUTO_UPDATE && v == "false");
    if protected || !wanted.api_version().starts_with(GROUP) {
        return None;
    }
    let mut merged = existing.clone();
    for key in ["annotations", "labels"] {
        merge_map(&mut merged, wanted, key);
    }
    if wanted.0.contains_key("roleRef") {
        if wanted.0.get("roleRef") != existing.0.get("roleRef") {
            let uid = existing.uid().to_owned();
            return Some(Write::Recreate {
                uid,
                object: wanted.clone(),
            });
        }
        add_subjects(&mut merged, wanted);
    } else {
        add_rules(&mut merged, wanted);
        add_selectors(&mut merged, wanted);
    }
    (merged != *existing).then_some(Write::Update(merged))
}

/// Adds wanted labels or annotations; those that are there win.
fn merge_map(merged: &mut Object, wanted: &Object, key: &str) {
    let Some(wanted) = wanted.at(&["metadata", key]).and_then(Value::as_object) else {
        return;
    };
    let there: &mut Map<String, Value> = merged.object_at_mut(&["metadata", key]);
    for (key, value) in wanted {
        there.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

fn list_of<T: serde::de::DeserializeOwned>(object: &Object, key: &str) -> Vec<T> {
    let list = object.0.get(key).cloned().unwrap_or(Value::Null);
    serde_json::from_value::<Option<Vec<T>>>(list)
        .ok()
        .flatten()
        .unwrap_or_default()
}

fn append(merged: &mut Object, key: &str, missing: Vec<Value>) {
    let slot = merged.0.entry(key.to_owned()).or_insert(Value::Null);
    match slot {
        Value::Array(there) => there.extend(missing),
        other => *other = Value::Array(missing),
    }
}

fn add_subjects(merged: &mut Object, wanted: &Object) {
    let there: Vec<Subject> = list_of(merged, "subjects");
    let missing = list_of::<Subject>(wanted, "subjects").into_iter();
    let missing: Vec<Value> = missing
        .filter(|s| !there.contains(s))
        .map(|s| json!(s))
        .collect();
    if !missing.is_empty() {
        append(merged, "subjects", missing);
    }
}

fn add_rules(merged: &mut Object, wanted: &Object) {
    let (there, wanted): (Vec<PolicyRule>, Vec<PolicyRule>) =
        (list_of(merged, "rules"), list_of(wanted, "rules"));
    let missing = rule::uncovered(&there, &wanted);
    if !missing.is_empty() {
        append(
            merged,
            "rules",
            missing.iter().map(|rule| json!(rule)).collect(),
        );
    }
}

fn add_selectors(merged: &mut Object, wanted: &Object) {
    const PATH: [&str; 2] = ["aggregationRule", "clusterRoleSelectors"];
    let Some(wanted) = wanted.at(&PATH).and_then(Value::as_array) else {
        merged.0.remove(PATH[0]);
        return;
    };
    let there = merged
        .at(&PATH)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let missing = wanted.iter().filter(|s| !there.contains(s)).cloned();
    let all: Vec<Value> = there.iter().cloned().chain(missing).collect();
    if all.len() != there.len() {
        merged
            .object_at_mut(&[PATH[0]])
            .insert(PATH[1].into(), all.into());
    }
}
