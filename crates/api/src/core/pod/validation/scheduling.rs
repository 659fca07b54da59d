//! Where a pod may and should run: affinity, tolerations, spreading, gates.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
    PodSchedulingGate, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::{ErrorList, Path, names};

use super::Scope;
use crate::check::{self, ErrorListExt};
use crate::view::{Items, OrEmpty};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const WEIGHT: &str = "must be in the range 1-100";
const POSITIVE: &str = "must be greater than zero";

pub(super) fn affinity(errors: &mut ErrorList, path: &Path, affinity: Option<&Affinity>) {
    let Some(affinity) = affinity else { return };
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            node_selector(errors, &path.child(REQUIRED), required);
        }
        let terms = node
            .preferred_during_scheduling_ignored_during_execution
            .items();
        for (i, term) in terms.iter().enumerate() {
            let at = path.child(PREFERRED).index(i);
            weight(errors, &at, term.weight);
            node_selector_term(errors, &at.child("preference"), &term.preference, false);
        }
    }
    if let Some(near) = &affinity.pod_affinity {
        let path = path.child("podAffinity");
        let required = near
            .required_during_scheduling_ignored_during_execution
            .items();
        let preferred = near
            .preferred_during_scheduling_ignored_during_execution
            .items();
        pod_terms(errors, &path, required, preferred);
    }
    if let Some(far) = &affinity.pod_anti_affinity {
        let path = path.child("podAntiAffinity");
        let required = far
            .required_during_scheduling_ignored_during_execution
            .items();
        let preferred = far
            .preferred_during_scheduling_ignored_during_execution
            .items();
        pod_terms(errors, &path, required, preferred);
    }
}

fn weight(errors: &mut ErrorList, path: &Path, weight: i32) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, WEIGHT);
    }
}

fn pod_terms(
    errors: &mut ErrorList,
    path: &Path,
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
) {
    for (i, term) in required.iter().enumerate() {
        pod_term(errors, &path.child(REQUIRED).index(i), term);
    }
    for (i, term) in preferred.iter().enumerate() {
        let at = path.child(PREFERRED).index(i);
        weight(errors, &at, term.weight);
        pod_term(
            errors,
            &at.child("podAffinityTerm"),
            &term.pod_affinity_term,
        );
    }
}

fn pod_term(errors: &mut ErrorList, path: &Path, term: &PodAffinityTerm) {
    check::label_selector(
        errors,
        &path.child("labelSelector"),
        term.label_selector.as_ref(),
    );
    let at = path.child("namespaceSelector");
    check::label_selector(errors, &at, term.namespace_selector.as_ref());
    for name in term.namespaces.items() {
        errors.invalid_each(&path.child("namespace"), name, names::dns1123_label(name));
    }
    let (matching, other) = (
        term.match_label_keys.items(),
        term.mismatch_label_keys.items(),
    );
    label_keys(errors, path, matching, other, term.label_selector.as_ref());
    let at = path.child("topologyKey");
    errors.required_text(&at, &term.topology_key, "can not be empty");
    check::label_name(errors, &at, &term.topology_key);
}

/// Upstream: `ValidateMatchLabelKeysAndMismatchLabelKeys`.
fn label_keys(
    errors: &mut ErrorList,
    path: &Path,
    matching: &[String],
    mismatching: &[String],
    selector: Option<&LabelSelector>,
) {
    for (key, list) in [
        ("matchLabelKeys", matching),
        ("mismatchLabelKeys", mismatching),
    ] {
        let at = path.child(key);
        if !list.is_empty() && selector.is_none() {
            errors.forbidden(&at, "must not be specified when labelSelector is not set");
            continue;
        }
        for (i, label) in list.iter().enumerate() {
            check::label_name(errors, &at.index(i), label);
        }
    }
    if let Some(selector) = selector {
        let labels = selector.match_labels.iter().flatten();
        let mut seen: BTreeSet<&String> = labels.map(|(key, _)| key).collect();
        for expression in selector.match_expressions.items() {
            // The server itself added one expression per key; a second one is the writer's.
            let position = matching.iter().rposition(|k| *k == expression.key);
            if let Some(i) = position.filter(|_| seen.contains(&expression.key)) {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.invalid(&path.index(i), expression.key.as_str(), detail);
            }
            seen.insert(&expression.key);
        }
    }
    for (i, key) in matching.iter().enumerate() {
        if mismatching.contains(key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&path.child("matchLabelKeys").index(i), key.as_str(), detail);
        }
    }
}

/// A node selector: at least one term.
pub fn node_selector(errors: &mut ErrorList, path: &Path, selector: &NodeSelector) {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        return errors.required(&path, "must have at least one node selector term");
    }
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        node_selector_term(errors, &path.index(i), term, true);
    }
}

/// One term of a node selector; `strict` also looks at the form of label values.
pub fn node_selector_term(
    errors: &mut ErrorList,
    path: &Path,
    term: &NodeSelectorTerm,
    strict: bool,
) {
    for (i, requirement) in term.match_expressions.items().iter().enumerate() {
        by_label(
            errors,
            &path.child("matchExpressions").index(i),
            requirement,
            strict,
        );
    }
    for (i, requirement) in term.match_fields.items().iter().enumerate() {
        by_field(errors, &path.child("matchFields").index(i), requirement);
    }
}

fn by_label(
    errors: &mut ErrorList,
    path: &Path,
    requirement: &NodeSelectorRequirement,
    strict: bool,
) {
    let values = requirement.values.items();
    let at = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" => {
            if values.is_empty() {
                errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&at, detail);
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.required(&at, detail);
            }
        }
        other => errors.invalid(
            &path.child("operator"),
            other,
            "not a valid selector operator",
        ),
    }
    check::label_name(errors, &path.child("key"), &requirement.key);
    for (i, value) in values.iter().enumerate().filter(|_| strict) {
        errors.invalid_each(&at.index(i), value, names::label_value(value));
    }
}

fn by_field(errors: &mut ErrorList, path: &Path, requirement: &NodeSelectorRequirement) {
    let values = requirement.values.items();
    match requirement.operator.as_str() {
        "In" | "NotIn" => {
            if values.len() != 1 {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&path.child("values"), detail);
            }
        }
        other => errors.invalid(
            &path.child("operator"),
            other,
            "not a valid selector operator",
        ),
    }
    if requirement.key != "metadata.name" {
        let detail = "not a valid field selector key";
        return errors.invalid(&path.child("key"), requirement.key.as_str(), detail);
    }
    for (i, value) in values.iter().enumerate() {
        super::object_name(errors, &path.child("values").index(i), value);
    }
}

/// Tolerations: operators, values and effects that fit each other.
pub fn tolerations(errors: &mut ErrorList, path: &Path, tolerations: &[Toleration]) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = path.index(i);
        let (key, value) = (toleration.key.text(), toleration.value.text());
        let (operator, effect) = (toleration.operator.text(), toleration.effect.text());
        if !key.is_empty() {
            check::label_name(errors, &path.child("key"), key);
        }
        let at = path.child("operator");
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&at, operator, detail);
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, detail);
        }
        match operator {
            "Equal" | "" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    errors.invalid(&at, value, messages.join(";"));
                }
            }
            "Exists" if value.is_empty() => {}
            "Exists" => {
                errors.invalid(
                    &at,
                    value,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "Lt" | "Gt" => errors.not_supported(&at, operator, &["Equal", "Exists", "Lt", "Gt"]),
            other => errors.not_supported(&at, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            errors.one_of(&path.child("effect"), effect, &known);
        }
    }
}

pub(super) fn gates(errors: &mut ErrorList, path: &Path, gates: &[PodSchedulingGate]) {
    for (i, gate) in gates.iter().enumerate() {
        errors.invalid_each(
            &path.index(i),
            &gate.name,
            names::qualified_name(&gate.name),
        );
        if gates[..i].contains(gate) {
            errors.duplicate(&path.index(i), gate.name.as_str());
        }
    }
}

pub(super) fn spread(errors: &mut ErrorList, path: &Path, scope: &Scope<'_>) {
    let all = scope.spec.topology_spread_constraints.items();
    for (i, constraint) in all.iter().enumerate() {
        let path = path.index(i);
        if constraint.max_skew <= 0 {
            errors.invalid(&path.child("maxSkew"), constraint.max_skew, POSITIVE);
        }
        let at = path.child("topologyKey");
        errors.required_text(&at, &constraint.topology_key, "can not be empty");
        let action = constraint.when_unsatisfiable.as_str();
        let at = path.child("whenUnsatisfiable");
        errors.one_of(&at, action, &["DoNotSchedule", "ScheduleAnyway"]);
        let same = |other: &TopologySpreadConstraint| {
            other.topology_key == constraint.topology_key && other.when_unsatisfiable == action
        };
        if all[i + 1..].iter().any(same) {
            let shown = format!("{{{}, {action}}}", constraint.topology_key);
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), shown);
        }
        spread_details(errors, &path, constraint);
    }
}

fn spread_details(errors: &mut ErrorList, path: &Path, constraint: &TopologySpreadConstraint) {
    if let Some(domains) = constraint.min_domains {
        let at = path.child("minDomains");
        if domains <= 0 {
            errors.invalid(&at, domains, POSITIVE);
        }
        let action = &constraint.when_unsatisfiable;
        if action != "DoNotSchedule" {
            let detail =
                format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
            errors.invalid(&at, domains, detail);
        }
    }
    let policies = [
        ("nodeAffinityPolicy", &constraint.node_affinity_policy),
        ("nodeTaintsPolicy", &constraint.node_taints_policy),
    ];
    for (key, policy) in policies {
        if let Some(policy) = policy {
            errors.one_of(&path.child(key), policy, &["Honor", "Ignore"]);
        }
    }
    let selector = constraint.label_selector.as_ref();
    label_keys(
        errors,
        path,
        constraint.match_label_keys.items(),
        &[],
        selector,
    );
    check::label_selector(errors, &path.child("labelSelector"), selector);
}
