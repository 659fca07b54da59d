//! Selector and template of a controller, which must fit each other.

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::labels::Selector;
use machinery::{ErrorList, Path};

use crate::check::{self, ErrorListExt as _};
use crate::workload;

/// A selector does not change.
pub(super) fn unchanged(errors: &mut ErrorList, new: &LabelSelector, old: &LabelSelector) {
    let at = Path::new("spec").child("selector");
    let nothing = LabelSelector::default();
    let given = [new, old].map(|s| (*s != nothing).then_some(s));
    errors.immutable(&at, &given[0], &given[1]);
}

/// A selector that is there, well-formed, not empty, and matches the template, which is checked too.
pub(super) fn selector_and_template(
    errors: &mut ErrorList,
    path: &Path,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    old: Option<&PodSpec>,
) {
    let at = path.child("selector");
    // The typed view has no way to be absent; a selector that says nothing at all was not given.
    let absent = *selector == LabelSelector::default();
    let empty = check::is_empty_selector(selector);
    if absent {
        errors.required(&at, "");
    } else {
        check::label_selector(errors, &at, Some(selector));
        if empty {
            // This wording serves ReplicaSets too.
            let detail = "empty selector is invalid for deployment";
            errors.invalid(&at, check::prune(check::json(selector)), detail);
        }
    }
    let Ok(compiled) = Selector::from_label_selector(selector) else {
        return errors.invalid(&at, check::json(selector), "invalid label selector");
    };
    let at = path.child("template");
    let matches = !absent && compiled.matches_map(workload::template_labels(template));
    if absent || (!empty && !matches) {
        workload::selector_mismatch(errors, &at, template);
    }
    workload::template(errors, &at, "ReplicaSet", template, old);
}

/// A selector as the columns of a ReplicaSet show it.
pub(super) fn format(selector: &LabelSelector) -> String {
    match Selector::from_label_selector(selector) {
        Ok(compiled) if compiled.is_everything() => "<none>".to_owned(),
        Ok(compiled) => compiled.to_string(),
        Err(_) => "<error>".to_owned(),
    }
}

/// A selector as the columns of a Deployment show it.
pub(super) fn format_plainly(selector: &LabelSelector) -> String {
    let compiled = Selector::from_label_selector(selector);
    compiled.map_or_else(|_| "<invalid>".to_owned(), |s| s.to_string())
}
