//! The group `storage.k8s.io`: classes of storage, and what CSI drivers say about themselves, their nodes and volumes.

pub mod csidriver;
pub mod csinode;
pub mod csistoragecapacity;
pub mod storageclass;
pub mod volumeattachment;
pub mod volumeattributesclass;

use std::collections::BTreeMap;

use machinery::{ErrorList, Path, names};

use crate::check::ErrorListExt;

const GROUP: &str = "storage.k8s.io";
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_SIZE_MAX: usize = 256 * 1024;

/// The name of a provisioner or driver of a class.
fn provisioner(errors: &mut ErrorList, path: &Path, name: &str) {
    if errors.required_text(path, name, "") {
        let lower = name.to_lowercase();
        errors.invalid_each(path, &lower, names::qualified_name(&lower));
    }
}

/// The parameters of a class: not too many, not too long.
fn parameters(
    errors: &mut ErrorList,
    path: &Path,
    parameters: Option<&BTreeMap<String, String>>,
    may_be_empty: bool,
) {
    let count = parameters.map_or(0, BTreeMap::len);
    if count > PARAMETERS_MAX {
        return errors.too_long(path, PARAMETERS_MAX);
    }
    let mut size = 0;
    for (key, value) in parameters.into_iter().flatten() {
        if key.is_empty() {
            errors.invalid(path, key.as_str(), "field can not be empty.");
        }
        size += key.len() + value.len();
    }
    if size > PARAMETERS_SIZE_MAX {
        errors.too_long(path, PARAMETERS_SIZE_MAX);
    }
    if !may_be_empty && count == 0 {
        errors.required(path, "must contain at least one key/value pair");
    }
}

#[cfg(test)]
mod tests;
