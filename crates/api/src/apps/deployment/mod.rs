//! Deployment: pods of a template, brought from one revision to the next by way of ReplicaSets.
//!
//! Upstream: `pkg/registry/apps/deployment`, `ValidateDeployment*` in `pkg/apis/apps/validation`, `printDeployment`.

mod validation;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment as Typed;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::json;

use super::selector;
use crate::columns;
use crate::core::pod::defaults;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{OrEmpty, fill, fill_with};
use crate::workload;

/// The kind `Deployment`.
pub struct Deployment;

impl Kind for Deployment {
    type Object = Typed;
    const NAMES: Names = Names::new("apps", "v1", "Deployment", "deployments", "deployment")
        .short(&["deploy"])
        .in_all();
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] =
        &[workload::SCALE, Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text("Ready", "Number of the pod with ready state"),
        columns::text(
            "Up-to-date",
            "Total number of non-terminating pods targeted by this \
                                     deployment that have the desired template spec.",
        ),
        columns::text(
            "Available",
            "Total number of available non-terminating pods (ready for at \
                                    least minReadySeconds) targeted by this deployment.",
        ),
        columns::AGE,
        workload::CONTAINERS,
        workload::IMAGES,
        columns::wide(
            "Selector",
            "Label selector for pods. Existing ReplicaSets whose pods are \
                                   selected by this will be the ones affected by this deployment. \
                                   It must match the pod template's labels.",
        ),
    ];
    const HAS_GENERATION: bool = true;
    const STATUS_RESETS: &'static [&'static [&'static str]] = &[&["metadata", "labels"], &["spec"]];
    const GENERATION_COUNTS_ANNOTATIONS: bool = true;

    fn default(object: &mut Typed) {
        let spec = &mut object.spec;
        defaults::template(&mut spec.template);
        fill_with(&mut spec.replicas, 1);
        let strategy = spec.strategy.get_or_insert_default();
        fill(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.text() == "RollingUpdate" {
            let quarter = || IntOrString::String("25%".into());
            let rolling = strategy.rolling_update.get_or_insert_default();
            fill_with(&mut rolling.max_unavailable, quarter());
            fill_with(&mut rolling.max_surge, quarter());
        }
        fill_with(&mut spec.revision_history_limit, 10);
        fill_with(&mut spec.progress_deadline_seconds, 600);
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert("status".into(), json!({}));
        workload::drop_disabled(new);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        workload::drop_disabled(new);
        if part == Part::Status {
            let labels = old.at(&["metadata", "labels"]).cloned();
            kind::set_at(new, &["metadata"], "labels", labels);
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        validation::spec(&mut errors, new, None);
        errors
    }

    fn correct(errors: &mut ErrorList, new: &Object) {
        kind::empty_selector(errors, new, "empty selector is invalid for deployment");
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        match part {
            Part::Status => validation::status(new, old),
            _ => validation::update(new, old),
        }
    }

    fn warnings(new: &Typed) -> Vec<String> {
        workload::warnings(new.metadata.name.text(), Some(&new.spec.template))
    }

    fn update_warnings(_part: Part, new: &Typed, old: &Typed) -> Vec<String> {
        let path = Path::new("spec").child("template");
        let (now, before) = (&new.metadata, &old.metadata);
        workload::changed_template_warnings(now, before, Some(&new.spec.template), &path)
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = &object.spec;
        let status = object.status.clone().unwrap_or_default();
        let [containers, images] = workload::containers_and_images(Some(&spec.template));
        let ready = status.ready_replicas.unwrap_or(0);
        Row::from(vec![
            tree.name().into(),
            format!("{ready}/{}", spec.replicas.unwrap_or(0)).into(),
            status.updated_replicas.unwrap_or(0).into(),
            status.available_replicas.unwrap_or(0).into(),
            kind::age(tree, now).into(),
            containers,
            images,
            selector::format_plainly(&spec.selector).into(),
        ])
    }
}
