//! Which requests: rules over groups, versions, resources and operations, and selectors.
//!
//! Upstream: `validateRule*`, `validateMatchResources` in `pkg/apis/admissionregistration/validation`.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, RuleWithOperations,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::{ErrorList, Path, names};

use crate::check::{self, ErrorListExt, json};
use crate::view::{Items, fill_with};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// Fills what is unset of the selectors and rules of a policy or a binding.
pub fn default_match_resources(resources: &mut MatchResources) {
    fill_with(&mut resources.match_policy, "Equivalent".to_owned());
    fill_with(&mut resources.namespace_selector, LabelSelector::default());
    fill_with(&mut resources.object_selector, LabelSelector::default());
    let rules = resources.resource_rules.iter_mut().flatten();
    for rule in rules.chain(resources.exclude_resource_rules.iter_mut().flatten()) {
        fill_with(&mut rule.scope, "*".to_owned());
    }
}

/// Everything wrong with the selectors and rules of a policy or a binding.
pub(super) fn match_resources(
    errors: &mut ErrorList,
    path: &Path,
    resources: Option<&MatchResources>,
) {
    let Some(resources) = resources else { return };
    let at = path.child("matchPolicy");
    match resources.match_policy.as_deref() {
        None => errors.required(&at, ""),
        Some(policy) => errors.one_of(&at, policy, &["Equivalent", "Exact"]),
    }
    for (name, selector) in [
        ("namespaceSelector", &resources.namespace_selector),
        ("objectSelector", &resources.object_selector),
    ] {
        match selector {
            None => errors.required(&path.child(name), ""),
            Some(selector) => check::label_selector(errors, &path.child(name), Some(selector)),
        }
    }
    for (name, rules) in [
        ("resourceRules", resources.resource_rules.items()),
        (
            "excludeResourceRules",
            resources.exclude_resource_rules.items(),
        ),
    ] {
        for (index, rule) in rules.iter().enumerate() {
            named_rule(errors, &path.child(name).index(index), rule);
        }
    }
}

fn named_rule(errors: &mut ErrorList, path: &Path, named: &NamedRuleWithOperations) {
    let mut seen = BTreeSet::new();
    for (index, name) in named.resource_names.items().iter().enumerate() {
        let at = path.child("resourceNames").index(index);
        errors.invalid_each(&at, name, names::path_segment_name(name));
        if !seen.insert(name) {
            errors.duplicate(&at, name.as_str());
        }
    }
    let plain = RuleWithOperations {
        api_groups: named.api_groups.clone(),
        api_versions: named.api_versions.clone(),
        operations: named.operations.clone(),
        resources: named.resources.clone(),
        scope: named.scope.clone(),
    };
    rule(errors, path, &plain);
}

/// Everything wrong with a rule of a webhook or of a policy.
pub fn rule(errors: &mut ErrorList, path: &Path, rule: &RuleWithOperations) {
    let operations = rule.operations.items();
    let at = path.child("operations");
    if operations.is_empty() {
        errors.required(&at, "");
    }
    if operations.len() > 1 && operations.iter().any(|o| o == "*") {
        let why = "if '*' is present, must not specify other operations";
        errors.invalid(&at, json(&operations), why);
    }
    for (index, operation) in operations.iter().enumerate() {
        errors.one_of(&at.index(index), operation, OPERATIONS);
    }
    let wild = |all: &[String]| all.len() > 1 && all.iter().any(|o| o == "*");
    let (groups, at) = (rule.api_groups.items(), path.child("apiGroups"));
    if groups.is_empty() {
        errors.required(&at, "");
    }
    if wild(groups) {
        let why = "if '*' is present, must not specify other API groups";
        errors.invalid(&at, json(&groups), why);
    }
    let (versions, at) = (rule.api_versions.items(), path.child("apiVersions"));
    if versions.is_empty() {
        errors.required(&at, "");
    }
    if wild(versions) {
        let why = "if '*' is present, must not specify other API versions";
        errors.invalid(&at, json(&versions), why);
    }
    for (index, version) in versions.iter().enumerate() {
        errors.required_text(&at.index(index), version, "");
    }
    resources(errors, &path.child("resources"), rule.resources.items());
    if let Some(scope) = rule.scope.as_deref() {
        errors.one_of(&path.child("scope"), scope, &["*", "Cluster", "Namespaced"]);
    }
}

fn resources(errors: &mut ErrorList, path: &Path, all: &[String]) {
    if all.is_empty() {
        errors.required(path, "");
    }
    let (mut every_subresource_of, mut of_every_resource) = (BTreeSet::new(), BTreeSet::new());
    let (mut everything, mut star, mut plain) = (false, false, false);
    for (index, named) in all.iter().enumerate() {
        let at = path.index(index);
        if !errors.required_text(&at, named, "") {
            continue;
        }
        everything |= named == "*/*";
        star |= named == "*";
        let Some((resource, subresource)) = named.split_once('/') else {
            // As upstream: the last one without a sub-resource counts.
            plain = named != "*";
            continue;
        };
        if every_subresource_of.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {named}");
            errors.invalid(&at, named.as_str(), why);
        }
        if of_every_resource.contains(subresource) {
            let why = format!("if '*/{subresource}' is present, must not specify {named}");
            errors.invalid(&at, named.as_str(), why);
        }
        if subresource == "*" {
            every_subresource_of.insert(resource);
        }
        if resource == "*" {
            of_every_resource.insert(subresource);
        }
    }
    if all.len() > 1 && everything {
        let why = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, json(&all), why);
    }
    if star && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, json(&all), why);
    }
}

/// Everything wrong with the constraints of a policy, which must have rules.
pub(super) fn constraints(errors: &mut ErrorList, path: &Path, resources: Option<&MatchResources>) {
    match resources {
        None => errors.required(path, ""),
        Some(resources) => {
            match_resources(errors, path, Some(resources));
            if resources.resource_rules.items().is_empty() {
                errors.required(&path.child("resourceRules"), "");
            }
        }
    }
}

/// What to do when something goes wrong.
pub(super) fn failure_policy(errors: &mut ErrorList, path: &Path, policy: Option<&str>) {
    match policy {
        None => errors.required(path, ""),
        Some(policy) => errors.one_of(path, policy, &["Fail", "Ignore"]),
    }
}
