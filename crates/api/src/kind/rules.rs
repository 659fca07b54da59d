//! Rules that many kinds share: parts that are kept, names, columns.

use jiff::Timestamp;
use machinery::Object;
use machinery::table::{Column, Row};
use serde_json::Value;

use super::Part;

/// Keeps `status` on a write to the main resource and everything else on a write to `status`.
pub fn keep_other_part(part: Part, new: &mut Object, old: &Object) {
    match part {
        Part::Status => {
            let status = new.0.remove("status");
            let metadata = new.0.remove("metadata");
            new.0.clone_from(&old.0);
            set_or_remove(new, "status", status);
            // A status write may carry metadata changes that generic rules sort out (labels are kept, finalizers too).
            set_or_remove(new, "metadata", metadata);
        }
        _ => set_or_remove(new, "status", old.0.get("status").cloned()),
    }
}

/// What a write to `status` takes no notice of where it changes no metadata ([`super::Kind::STATUS_RESETS`]).
pub const METADATA_AND_SPEC: &[&[&str]] = &[&["metadata"], &["spec"]];

/// Puts the metadata of clients back, for writes to `status` that change nothing of it.
pub fn keep_metadata(new: &mut Object, old: &Object) {
    let own = [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
    ];
    for key in own {
        let value = old.metadata().and_then(|m| m.get(key)).cloned();
        set_at(new, &["metadata"], key, value);
    }
}

/// Sets or removes one top-level field.
pub fn set_or_remove(object: &mut Object, key: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(object.0.insert(key.into(), value)),
        None => drop(object.0.remove(key)),
    }
}

/// Sets or removes one field of the object at `path`, which is made only to hold a value.
pub fn set_at(object: &mut Object, path: &[&str], key: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(object.object_at_mut(path).insert(key.into(), value)),
        None if object.at(path).is_some_and(Value::is_object) => {
            object.object_at_mut(path).remove(key);
        }
        None => {}
    }
}

/// The columns of kinds that have none of their own.
pub const NAME_AND_AGE: &[Column] = &[crate::columns::NAME, crate::columns::AGE];

/// Name and age.
pub fn name_and_age(object: &Object, now: Timestamp) -> Row {
    Row::from(vec![object.name().into(), age(object, now).into()])
}

/// The AGE column: `<unknown>` without a creation time.
pub fn age(object: &Object, now: Timestamp) -> String {
    crate::columns::since(object.meta_str("creationTimestamp").parse().ok(), now)
}

/// The provided rule for names: a DNS sub-domain. `prefix`: the name is a `generateName`.
pub fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    machinery::names::dns1123_subdomain(&masked(name, prefix))
}

/// A name that must be one DNS label.
pub fn dns_label(name: &str, prefix: bool) -> Vec<String> {
    machinery::names::dns1123_label(&masked(name, prefix))
}

/// A name that must be one DNS label and start with a letter.
pub fn dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    machinery::names::dns1035_label(&masked(name, prefix))
}

/// A name that need only be safe in a path, as those of roles.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix {
        machinery::names::path_segment_prefix(name)
    } else {
        machinery::names::path_segment_name(name)
    }
}

/// A prefix may end in a dash: something will be appended to it.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(rest) if prefix && !rest.is_empty() => {
            let mut end = rest.len() - 1;
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            format!("{}a", &rest[..end]).into()
        }
        _ => name.into(),
    }
}
