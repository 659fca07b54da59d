//! The group `flowcontrol.apiserver.k8s.io`.

pub mod flowschema;
pub mod prioritylevelconfiguration;

use machinery::{ErrorList, Path};
use std::collections::BTreeSet;

use crate::check::ErrorListExt;

/// Each type of condition stands once and is named.
fn condition_types<'a>(types: impl Iterator<Item = &'a str>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    let path = Path::new("status").child("conditions");
    for (i, kind) in types.enumerate() {
        let path = path.index(i).child("type");
        if !seen.insert(kind) {
            errors.duplicate(&path, kind);
        }
        errors.required_text(&path, kind, "");
    }
    errors
}
