//! StatefulSet: pods with names, and perhaps storage, that outlive them.
//!
//! Upstream: `pkg/registry/apps/statefulset`, `ValidateStatefulSet*` in `pkg/apis/apps/validation`, `printStatefulSet`.

mod validation;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet as Typed;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::{Value, json};

use super::selector;
use crate::columns;
use crate::core::persistentvolumeclaim;
use crate::core::pod::defaults;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty, fill, fill_with};
use crate::workload;

/// The kind `StatefulSet`.
pub struct StatefulSet;

impl Kind for StatefulSet {
    type Object = Typed;
    const NAMES: Names = Names::new("apps", "v1", "StatefulSet", "statefulsets", "statefulset")
        .short(&["sts"])
        .in_all();
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] =
        &[workload::SCALE, Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text("Ready", "Number of the pod with ready state"),
        columns::AGE,
        workload::CONTAINERS,
        workload::IMAGES,
    ];
    const HAS_GENERATION: bool = true;

    fn default(object: &mut Typed) {
        let spec = &mut object.spec;
        defaults::template(&mut spec.template);
        fill(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.text().is_empty() {
            strategy.type_ = Some("RollingUpdate".to_owned());
            strategy.rolling_update.get_or_insert_default();
        }
        if strategy.type_.text() == "RollingUpdate"
            && let Some(rolling) = &mut strategy.rolling_update
        {
            fill_with(&mut rolling.partition, 0);
            fill_with(&mut rolling.max_unavailable, IntOrString::Int(1));
        }
        let policy = spec
            .persistent_volume_claim_retention_policy
            .get_or_insert_default();
        fill(&mut policy.when_deleted, "Retain");
        fill(&mut policy.when_scaled, "Retain");
        fill_with(&mut spec.replicas, 1);
        fill_with(&mut spec.revision_history_limit, 10);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            persistentvolumeclaim::default_spec(claim.spec.get_or_insert_default());
            fill(&mut claim.status.get_or_insert_default().phase, "Pending");
        }
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert(
            "status".into(),
            json!({"replicas": 0, "availableReplicas": 0}),
        );
        workload::drop_disabled(new);
        type_claims(new);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        workload::drop_disabled(new);
        type_claims(new);
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validation::create(new)
    }

    fn correct(errors: &mut ErrorList, new: &Object) {
        kind::empty_selector(errors, new, "empty selector is invalid for statefulset");
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        match part {
            Part::Status => validation::status(new, old),
            _ => validation::update(new, old),
        }
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        kind::dns_label(name, prefix)
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let path = Path::new("spec");
        let template = &new.spec.template;
        let mut warnings = workload::template_warnings(Some(template), &path.child("template"));
        warnings.extend(about_the_rest(new, |claim| claim));
        warnings
    }

    fn update_warnings(_part: Part, new: &Typed, old: &Typed) -> Vec<String> {
        let path = Path::new("spec").child("template");
        let (now, before) = (&new.metadata, &old.metadata);
        let template = Some(&new.spec.template);
        let mut warnings = workload::changed_template_warnings(now, before, template, &path);
        // Upstream writes the step so.
        warnings.extend(about_the_rest(new, |claim| claim.child("Spec")));
        warnings
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = &object.spec;
        let [containers, images] = workload::containers_and_images(Some(&spec.template));
        let ready = object.status.as_ref().and_then(|s| s.ready_replicas);
        let wanted = spec.replicas.unwrap_or(0);
        Row::from(vec![
            tree.name().into(),
            format!("{}/{wanted}", ready.unwrap_or(0)).into(),
            kind::age(tree, now).into(),
            containers,
            images,
        ])
    }
}

/// Templates of claims say what they are, as if they stood alone.
fn type_claims(object: &mut Object) {
    let spec = object.0.get_mut("spec");
    let claims = spec.and_then(|s| s.get_mut("volumeClaimTemplates"));
    for claim in claims.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(claim) = claim {
            claim.insert("apiVersion".into(), "v1".into());
            claim.insert("kind".into(), "PersistentVolumeClaim".into());
        }
    }
}

/// Warnings about all but the template; `at` leads from a claim to its specification.
fn about_the_rest(set: &Typed, at: impl Fn(Path) -> Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let claims = set.spec.volume_claim_templates.items().iter();
    for (i, claim) in claims.enumerate() {
        let path = at(Path::new("spec").child("volumeClaimTemplates").index(i));
        let spec = claim.spec.as_ref();
        persistentvolumeclaim::spec_warnings(&mut warnings, spec, &path);
    }
    if set.spec.revision_history_limit.is_some_and(|l| l < 0) {
        warnings.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
    warnings
}
