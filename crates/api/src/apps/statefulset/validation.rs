//! What a StatefulSet must look like, and what may change.

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::labels::Selector;
use machinery::{ErrorList, Path, names};

use super::selector;
use crate::check::{self, ErrorListExt};
use crate::core::persistentvolumeclaim;
use crate::core::pod::validation;
use crate::view::{Items, OrEmpty};
use crate::workload;

/// What of a new specification is not looked at again.
#[derive(Clone, Copy, Default)]
struct Leniency<'a> {
    /// It replaces another: what cannot change is not checked.
    update: bool,
    /// The template of before was wrong already.
    template: bool,
    before: Option<&'a PodSpec>,
}

pub(super) fn create(new: &StatefulSet) -> ErrorList {
    let mut errors = ErrorList::new();
    spec(&mut errors, &new.spec, Leniency::default());
    errors
}

pub(super) fn update(new: &StatefulSet, old: &StatefulSet) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let before = old.spec.template.spec.as_ref();
    let mut leniency = Leniency {
        update: true,
        template: false,
        before,
    };
    let mut old_errors = ErrorList::new();
    spec(&mut old_errors, &old.spec, leniency);
    leniency.template = !old_errors.is_empty();
    spec(&mut errors, &new.spec, leniency);
    let (new, old) = (&new.spec, &old.spec);
    selector::unchanged(&mut errors, &new.selector, &old.selector);
    let at = path.child("volumeClaimTemplates");
    errors.immutable(
        &at,
        &new.volume_claim_templates,
        &old.volume_claim_templates,
    );
    let texts = [
        ("serviceName", &new.service_name, &old.service_name),
        (
            "podManagementPolicy",
            &new.pod_management_policy,
            &old.pod_management_policy,
        ),
    ];
    for (key, new, old) in texts {
        errors.immutable(&path.child(key), &new.text(), &old.text());
    }
    errors
}

fn spec(errors: &mut ErrorList, spec: &StatefulSetSpec, leniency: Leniency<'_>) {
    let path = Path::new("spec");
    let (at, policy) = (
        path.child("podManagementPolicy"),
        spec.pod_management_policy.text(),
    );
    if errors.required_text(&at, policy, "") && !matches!(policy, "OrderedReady" | "Parallel") {
        errors.invalid(&at, policy, "must be 'OrderedReady' or 'Parallel'");
    }
    let at = path.child("updateStrategy");
    strategy(errors, &at, spec.update_strategy.as_ref());
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        let policies = [
            ("whenDeleted", policy.when_deleted.text()),
            ("whenScaled", policy.when_scaled.text()),
        ];
        for (key, value) in policies {
            errors.one_of(&path.child(key), value, &["Retain", "Delete"]);
        }
    }
    if !leniency.update {
        let path = path.child("volumeClaimTemplates");
        for (i, claim) in spec.volume_claim_templates.items().iter().enumerate() {
            let claim = claim.spec.clone().unwrap_or_default();
            persistentvolumeclaim::spec(errors, &path.index(i).child("spec"), &claim);
        }
    }
    let start = spec.ordinals.as_ref().and_then(|o| o.start);
    let numbers = [
        ("replicas", spec.replicas),
        ("minReadySeconds", spec.min_ready_seconds),
        ("ordinals.start", start),
    ];
    for (key, number) in numbers {
        errors.not_negative(&path.child(key), i64::from(number.unwrap_or(0)));
    }
    let service = spec.service_name.text();
    if !leniency.update && !service.is_empty() {
        let messages = names::dns1123_label(service);
        errors.invalid_each(&path.child("serviceName"), service, messages);
    }
    selector_and_template(errors, &path, spec, leniency);
}

fn strategy(errors: &mut ErrorList, path: &Path, strategy: Option<&StatefulSetUpdateStrategy>) {
    let empty = StatefulSetUpdateStrategy::default();
    let strategy = strategy.unwrap_or(&empty);
    let at = path.child("rollingUpdate");
    match (strategy.type_.text(), &strategy.rolling_update) {
        ("", _) => errors.required(path, ""),
        ("OnDelete", None) | ("RollingUpdate", None) => {}
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.invalid(&at, check::json(rolling), detail);
        }
        ("RollingUpdate", Some(rolling)) => rolling_update(errors, &at, rolling),
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.invalid(path, check::json(strategy), detail);
        }
    }
}

fn rolling_update(errors: &mut ErrorList, path: &Path, rolling: &RollingUpdateStatefulSetStrategy) {
    let partition = rolling.partition.unwrap_or(0);
    errors.not_negative(&path.child("partition"), i64::from(partition));
    if let Some(unavailable) = &rolling.max_unavailable {
        let at = path.child("maxUnavailable");
        check::positive_int_or_percent(errors, &at, unavailable);
        if check::amount(unavailable) == 0 {
            errors.invalid(&at, check::json(unavailable), "cannot be 0");
        }
        check::at_most_100_percent(errors, &at, unavailable);
    }
}

fn selector_and_template(
    errors: &mut ErrorList,
    path: &Path,
    spec: &StatefulSetSpec,
    leniency: Leniency<'_>,
) {
    let at = path.child("selector");
    // The typed view has no way to be absent; a selector that says nothing at all was not given.
    let absent = spec.selector == LabelSelector::default();
    let empty = check::is_empty_selector(&spec.selector);
    if absent {
        errors.required(&at, "");
    } else {
        check::label_selector(errors, &at, Some(&spec.selector));
        if empty {
            let shown = check::prune(check::json(&spec.selector));
            errors.invalid(&at, shown, "empty selector is invalid for statefulset");
        }
    }
    let path = path.child("template");
    match Selector::from_label_selector(&spec.selector) {
        Err(_) => errors.invalid(&at, check::json(&spec.selector), ""),
        Ok(compiled) => {
            let labels = workload::template_labels(&spec.template);
            if absent || (!empty && !compiled.matches_map(labels)) {
                workload::selector_mismatch(errors, &path, &spec.template);
            }
            if !leniency.template {
                let template = as_pods_get_it(spec);
                validation::template(errors, &path, &template, leniency.before);
            }
        }
    }
    workload::runs_for_ever(errors, &path, "StatefulSet", &spec.template);
}

/// The template with what the controller sets: the names of the pod, and volumes for the claims.
fn as_pods_get_it(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let claims = spec.volume_claim_templates.items();
    if let Some(pod) = &mut template.spec {
        pod.subdomain = None;
        pod.hostname = None;
        if !claims.is_empty() {
            let names: Vec<&str> = claims.iter().map(|c| c.metadata.name.text()).collect();
            let claimed = names.iter().map(|name| claim_volume(name, name));
            let others = pod.volumes.iter().flatten();
            let others = others.filter(|v| !names.contains(&v.name.as_str()));
            pod.volumes = Some(claimed.chain(others.cloned()).collect());
        }
    }
    template
}

fn claim_volume(name: &str, claim: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            read_only: None,
        }),
        ..Volume::default()
    }
}

pub(super) fn status(new: &StatefulSet, old: &StatefulSet) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("status");
    let status = new.status.clone().unwrap_or_default();
    let replicas = status.replicas;
    let (ready, available) = (
        status.ready_replicas.unwrap_or(0),
        status.available_replicas.unwrap_or(0),
    );
    let parts = [
        ("readyReplicas", ready),
        ("currentReplicas", status.current_replicas.unwrap_or(0)),
        ("updatedReplicas", status.updated_replicas.unwrap_or(0)),
        ("availableReplicas", available),
    ];
    for (key, count) in [("replicas", replicas)].into_iter().chain(parts) {
        errors.not_negative(&path.child(key), i64::from(count));
    }
    let generation = status.observed_generation.unwrap_or(0);
    errors.not_negative(&path.child("observedGeneration"), generation);
    for (key, count) in parts.into_iter().filter(|(_, count)| *count > replicas) {
        let detail = "cannot be greater than status.replicas";
        errors.invalid(&path.child(key), count, detail);
    }
    if available > ready {
        let at = path.child("availableReplicas");
        let detail = "cannot be greater than status.readyReplicas";
        errors.invalid(&at, available, detail);
    }
    let before = old.status.as_ref().and_then(|s| s.collision_count);
    workload::collisions(&mut errors, status.collision_count, before);
    errors
}
