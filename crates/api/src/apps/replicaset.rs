//! ReplicaSet: keeps so many pods of a template running. Deployments own them, one per revision.
//!
//! Upstream: `pkg/registry/apps/replicaset`, `ValidateReplicaSet*` in `pkg/apis/apps/validation`.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet as Typed, ReplicaSetStatus};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::json;

use super::selector;
use crate::check::ErrorListExt;
use crate::columns;
use crate::core::pod::defaults;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{OrEmpty, fill_with};
use crate::workload::{self, Counts};

/// The kind `ReplicaSet`.
pub struct ReplicaSet;

impl Kind for ReplicaSet {
    type Object = Typed;
    const NAMES: Names = Names::new("apps", "v1", "ReplicaSet", "replicasets", "replicaset")
        .short(&["rs"])
        .in_all();
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] =
        &[workload::SCALE, Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::integer(
            "Desired",
            "Replicas is the number of desired pods. This is a pointer to \
                                     distinguish between explicit zero and unspecified. Defaults to \
                                     1. More info: \
                                     https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
        ),
        columns::integer(
            "Current",
            "Replicas is the most recently observed number of \
                                     non-terminating pods. More info: \
                                     https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
        ),
        columns::integer(
            "Ready",
            "The number of non-terminating pods targeted by this ReplicaSet \
                                   with a Ready Condition.",
        ),
        columns::AGE,
        workload::CONTAINERS,
        workload::IMAGES,
        columns::wide(
            "Selector",
            "Selector is a label query over pods that should match the \
                                   replica count. Label keys and values that must match in order to \
                                   be controlled by this replica set. It must match the pod \
                                   template's labels. More info: \
                                   https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
        ),
    ];
    const HAS_GENERATION: bool = true;

    fn default(object: &mut Typed) {
        let spec = &mut object.spec;
        defaults::template(spec.template.get_or_insert_default());
        fill_with(&mut spec.replicas, 1);
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert("status".into(), json!({"replicas": 0}));
        workload::drop_disabled(new);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        workload::drop_disabled(new);
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, new, None);
        errors
    }

    fn correct(errors: &mut ErrorList, new: &Object) {
        // This wording serves ReplicaSets too.
        kind::empty_selector(errors, new, "empty selector is invalid for deployment");
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if part == Part::Status {
            workload::counts(
                &mut errors,
                &counts(&new.status.clone().unwrap_or_default()),
            );
            return errors;
        }
        spec(&mut errors, new, Some(old));
        selector::unchanged(&mut errors, &new.spec.selector, &old.spec.selector);
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        workload::warnings(new.metadata.name.text(), new.spec.template.as_ref())
    }

    fn update_warnings(_part: Part, new: &Typed, old: &Typed) -> Vec<String> {
        let path = Path::new("spec").child("template");
        let (now, before) = (&new.metadata, &old.metadata);
        workload::changed_template_warnings(now, before, new.spec.template.as_ref(), &path)
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = &object.spec;
        let status = object.status.clone().unwrap_or_default();
        let [containers, images] = workload::containers_and_images(spec.template.as_ref());
        Row::from(vec![
            tree.name().into(),
            spec.replicas.unwrap_or(0).into(),
            status.replicas.into(),
            status.ready_replicas.unwrap_or(0).into(),
            kind::age(tree, now).into(),
            containers,
            images,
            selector::format(&spec.selector).into(),
        ])
    }
}

fn counts(status: &ReplicaSetStatus) -> Counts {
    Counts {
        replicas: status.replicas,
        ready: status.ready_replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
        observed_generation: status.observed_generation.unwrap_or(0),
        other: (
            "fullyLabeledReplicas",
            status.fully_labeled_replicas.unwrap_or(0),
        ),
        terminating: status.terminating_replicas,
    }
}

fn spec(errors: &mut ErrorList, new: &Typed, old: Option<&Typed>) {
    let spec = &new.spec;
    let path = Path::new("spec");
    let numbers = [
        ("replicas", spec.replicas),
        ("minReadySeconds", spec.min_ready_seconds),
    ];
    for (key, number) in numbers {
        errors.not_negative(&path.child(key), i64::from(number.unwrap_or(0)));
    }
    let before = old.and_then(|o| o.spec.template.as_ref()?.spec.as_ref());
    let template = spec.template.clone().unwrap_or_default();
    selector::selector_and_template(errors, &path, &spec.selector, &template, before);
}
