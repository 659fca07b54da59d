//! ReplicationController: keeps so many pods of a template running. ReplicaSet is its successor.
//!
//! Upstream: `pkg/registry/core/replicationcontroller`, `ValidateReplicationController*`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ReplicationController as Typed, ReplicationControllerSpec, ReplicationControllerStatus,
};
use machinery::labels::Selector;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::{Value, json};

use crate::check::ErrorListExt;
use crate::columns;
use crate::core::pod::defaults;
use crate::kind::{self, Context, Dependents, Kind, Names, Part, Scope, Subresource};
use crate::view::{OrEmpty, fill_with, format_labels};
use crate::workload::{self, Counts};

/// The kind `ReplicationController`.
pub struct ReplicationController;

impl Kind for ReplicationController {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "",
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        "replicationcontroller",
    )
    .short(&["rc"])
    .in_all();
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] =
        &[workload::SCALE, Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::integer(
            "Desired",
            "Replicas is the number of desired replicas. This is a pointer \
                                     to distinguish between explicit zero and unspecified. Defaults \
                                     to 1. More info: \
                                     https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller",
        ),
        columns::integer(
            "Current",
            "Replicas is the most recently observed number of replicas. \
                                     More info: \
                                     https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller",
        ),
        columns::integer(
            "Ready",
            "The number of ready replicas for this replication controller.",
        ),
        columns::AGE,
        workload::CONTAINERS,
        workload::IMAGES,
        columns::wide(
            "Selector",
            "Selector is a label query over pods that should match the \
                                   Replicas count. If Selector is empty, it is defaulted to the \
                                   labels present on the Pod template. Label keys and values that \
                                   must match in order to be controlled by this replication \
                                   controller, if empty defaulted to labels on Pod template. More \
                                   info: \
                                   https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
        ),
    ];
    const HAS_GENERATION: bool = true;
    const DEPENDENTS: Dependents = Dependents::Orphaned("");
    const SELECTABLE: &'static [&'static str] = &["status.replicas"];

    fn default(object: &mut Typed) {
        let spec = object.spec.get_or_insert_default();
        if let Some(template) = &mut spec.template {
            defaults::template(template);
        }
        let labels = spec
            .template
            .as_ref()
            .and_then(workload::template_labels)
            .cloned();
        if let Some(labels) = labels {
            if spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
                spec.selector = Some(labels.clone());
            }
            if object.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
                object.metadata.labels = Some(labels);
            }
        }
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

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if part == Part::Status {
            let status = new.status.clone().unwrap_or_default();
            workload::counts(&mut errors, &counts(&status));
        } else {
            spec(&mut errors, new, Some(old));
        }
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        // The rule of this kind is the newer one, which counts bytes.
        let messages = kind::dns_subdomain(name, prefix).into_iter();
        messages
            .map(|m| m.replace("253 characters", "253 bytes"))
            .collect()
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let template = new.spec.as_ref().and_then(|s| s.template.as_ref());
        workload::warnings(new.metadata.name.text(), template)
    }

    fn update_warnings(_part: Part, new: &Typed, old: &Typed) -> Vec<String> {
        let path = Path::new("spec").child("template");
        // Upstream looks at the template that was.
        let template = old.spec.as_ref().and_then(|s| s.template.as_ref());
        workload::changed_template_warnings(&new.metadata, &old.metadata, template, &path)
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        let replicas = object.at(&["status", "replicas"]).and_then(Value::as_i64);
        vec![("status.replicas", replicas.unwrap_or(0).to_string())]
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.clone().unwrap_or_default();
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
            format_labels(spec.selector.iter().flatten()).into(),
        ])
    }
}

fn counts(status: &ReplicationControllerStatus) -> Counts {
    Counts {
        replicas: status.replicas,
        ready: status.ready_replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
        observed_generation: status.observed_generation.unwrap_or(0),
        other: (
            "fullyLabeledReplicas",
            status.fully_labeled_replicas.unwrap_or(0),
        ),
        terminating: None,
    }
}

fn spec(errors: &mut ErrorList, new: &Typed, old: Option<&Typed>) {
    let empty = ReplicationControllerSpec::default();
    let spec = new.spec.as_ref().unwrap_or(&empty);
    let path = Path::new("spec");
    errors.not_negative(
        &path.child("minReadySeconds"),
        i64::from(spec.min_ready_seconds.unwrap_or(0)),
    );
    let selector = spec.selector.as_ref().filter(|s| !s.is_empty());
    if selector.is_none() {
        errors.required(&path.child("selector"), "");
    }
    match spec.replicas {
        None => errors.required(&path.child("replicas"), ""),
        Some(replicas) => errors.not_negative(&path.child("replicas"), i64::from(replicas)),
    }
    let path = path.child("template");
    let Some(template) = &spec.template else {
        return errors.required(&path, "");
    };
    if let Some(selector) = selector
        && !Selector::from_map(selector).matches_map(workload::template_labels(template))
    {
        workload::selector_mismatch(errors, &path, template);
    }
    let before = old.and_then(|o| o.spec.as_ref()?.template.as_ref()?.spec.as_ref());
    workload::template(errors, &path, "ReplicationController", template, before);
}
