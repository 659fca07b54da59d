//! Webhooks: servers that are asked about writes. Two kinds hold lists of them: those that may change an object and
//! those that may only refuse it. What both have in common stands here.
//!
//! Upstream: `pkg/registry/admissionregistration/{mutating,validating}webhookconfiguration`,
//! `pkg/apis/admissionregistration/{v1/defaults.go,validation}`.

pub mod mutating;
#[cfg(test)]
mod tests;
pub mod validating;

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, RuleWithOperations, ValidatingWebhook, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::table::Column;
use machinery::{ErrorList, Path, names};

use super::{expressions, matching};
use crate::check::{self, ErrorListExt, json, webhook};
use crate::columns;
use crate::view::{Items, fill_with};

/// Names that end so belong to files that other servers read.
pub const STATIC: &str = ".static.k8s.io";
const TIMEOUT_SECONDS: i32 = 10;
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
/// What no webhook is asked about, whatever its rules say: questions of authentication and authorization.
pub const EXCLUDED: &[(&str, &str)] = &[
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

const COLUMNS: &[Column] = &[
    columns::NAME,
    columns::integer(
        "Webhooks",
        "Webhooks indicates the number of webhooks registered in this configuration",
    ),
    columns::AGE,
];

/// The fields of both sorts of webhooks that have defaults.
struct Unset<'a> {
    failure_policy: &'a mut Option<String>,
    match_policy: &'a mut Option<String>,
    namespace_selector: &'a mut Option<LabelSelector>,
    object_selector: &'a mut Option<LabelSelector>,
    timeout_seconds: &'a mut Option<i32>,
    rules: &'a mut Option<Vec<RuleWithOperations>>,
    client: &'a mut WebhookClientConfig,
}

impl Unset<'_> {
    fn fill(self) {
        fill_with(self.failure_policy, "Fail".to_owned());
        fill_with(self.match_policy, "Equivalent".to_owned());
        fill_with(self.namespace_selector, LabelSelector::default());
        fill_with(self.object_selector, LabelSelector::default());
        fill_with(self.timeout_seconds, TIMEOUT_SECONDS);
        for rule in self.rules.iter_mut().flatten() {
            fill_with(&mut rule.scope, "*".to_owned());
        }
        if let Some(service) = &mut self.client.service {
            fill_with(&mut service.port, 443);
        }
    }
}

/// A validating webhook as one that may change things, so that both are looked at by the same code.
pub fn as_mutating(hook: &ValidatingWebhook) -> MutatingWebhook {
    let hook = hook.clone();
    MutatingWebhook {
        admission_review_versions: hook.admission_review_versions,
        client_config: hook.client_config,
        failure_policy: hook.failure_policy,
        match_conditions: hook.match_conditions,
        match_policy: hook.match_policy,
        name: hook.name,
        namespace_selector: hook.namespace_selector,
        object_selector: hook.object_selector,
        reinvocation_policy: None,
        rules: hook.rules,
        side_effects: hook.side_effects,
        timeout_seconds: hook.timeout_seconds,
    }
}

/// What an update need not keep, because the object did not keep it before.
struct Leniency {
    side_effects: bool,
    review_versions: bool,
    names: bool,
    conditions: bool,
}

impl Leniency {
    /// For a new object.
    const NONE: Self = Self {
        side_effects: false,
        review_versions: false,
        names: false,
        conditions: false,
    };

    /// For an object that was so.
    fn of(new: &[MutatingWebhook], old: &[MutatingWebhook]) -> Self {
        let known = |hook: &MutatingWebhook| {
            let mut versions = hook.admission_review_versions.iter();
            versions.any(|v| REVIEW_VERSIONS.contains(&v.as_str()))
        };
        let names: BTreeSet<&str> = old.iter().map(|hook| hook.name.as_str()).collect();
        let conditions = |hooks: &[MutatingWebhook]| -> Vec<_> {
            hooks.iter().map(|h| h.match_conditions.clone()).collect()
        };
        Self {
            side_effects: !old
                .iter()
                .all(|hook| NO_SIDE_EFFECTS.contains(&hook.side_effects.as_str())),
            review_versions: old
                .iter()
                .any(|hook| !known(hook) && !hook.admission_review_versions.is_empty()),
            names: names.len() < old.len(),
            conditions: conditions(new) == conditions(old),
        }
    }
}

fn validate(name: &str, hooks: &[MutatingWebhook], old: Option<&[MutatingWebhook]>) -> ErrorList {
    let mut errors = ErrorList::new();
    let leniency = old.map_or(Leniency::NONE, |old| Leniency::of(hooks, old));
    if old.is_none() {
        not_static(&mut errors, name);
    }
    let mut seen = BTreeSet::new();
    for (index, hook) in hooks.iter().enumerate() {
        let at = Path::new("webhooks").index(index);
        validate_hook(&mut errors, &at, hook, &leniency);
        let at_versions = at.child("admissionReviewVersions");
        let versions = &hook.admission_review_versions;
        review_versions(
            &mut errors,
            &at_versions,
            versions,
            leniency.review_versions,
        );
        if !leniency.names && !hook.name.is_empty() && !seen.insert(&hook.name) {
            errors.duplicate(&at.child("name"), hook.name.as_str());
        }
    }
    errors
}

/// A new object must not have a name that belongs to files.
pub(super) fn not_static(errors: &mut ErrorList, name: &str) {
    if name.ends_with(STATIC) {
        let at = Path::new("metadata").child("name");
        errors.invalid(&at, name, static_text());
    }
}

fn static_text() -> String {
    format!(
        "names ending with {STATIC:?} are reserved for static manifest-based configurations and cannot be managed \
         via the API"
    )
}

fn validate_hook(errors: &mut ErrorList, at: &Path, hook: &MutatingWebhook, leniency: &Leniency) {
    qualified(errors, &at.child("name"), &hook.name);
    for (index, rule) in hook.rules.items().iter().enumerate() {
        matching::rule(errors, &at.child("rules").index(index), rule);
    }
    let mut one_of = |field: &str, value: Option<&String>, known: &[&str]| {
        if let Some(value) = value {
            errors.one_of(&at.child(field), value, known);
        }
    };
    let (failure, matches) = (hook.failure_policy.as_ref(), hook.match_policy.as_ref());
    one_of("failurePolicy", failure, &["Fail", "Ignore"]);
    one_of("matchPolicy", matches, &["Equivalent", "Exact"]);
    let allowed = match leniency.side_effects {
        true => SIDE_EFFECTS,
        false => NO_SIDE_EFFECTS,
    };
    match hook.side_effects.as_str() {
        "" => {
            let why = format!("must specify one of {}", allowed.join(", "));
            errors.required(&at.child("sideEffects"), why);
        }
        given => errors.one_of(&at.child("sideEffects"), given, allowed),
    }
    if let Some(seconds) = hook.timeout_seconds.filter(|s| !(1..=30).contains(s)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&at.child("timeoutSeconds"), seconds, why);
    }
    let selector = hook.namespace_selector.as_ref();
    check::label_selector(errors, &at.child("namespaceSelector"), selector);
    let selector = hook.object_selector.as_ref();
    check::label_selector(errors, &at.child("objectSelector"), selector);
    if let Some(policy) = &hook.reinvocation_policy {
        errors.one_of(
            &at.child("reinvocationPolicy"),
            policy,
            &["IfNeeded", "Never"],
        );
    }
    client(errors, &at.child("clientConfig"), &hook.client_config);
    if !leniency.conditions {
        let conditions = hook.match_conditions.items();
        expressions::match_conditions(errors, &at.child("matchConditions"), conditions, false);
    }
}

/// A name of three parts at least.
fn qualified(errors: &mut ErrorList, at: &Path, name: &str) {
    if !errors.required_text(at, name, "") {
        return;
    }
    let wrong = names::dns1123_subdomain(name);
    if !wrong.is_empty() {
        errors.invalid(at, name, wrong.join(","));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.invalid(at, name, why);
    }
}

fn client(errors: &mut ErrorList, at: &Path, client: &WebhookClientConfig) {
    match (&client.url, &client.service) {
        (Some(url), None) => webhook::url(errors, &at.child("url"), url),
        // As upstream: name and namespace change places in what is said about them.
        (None, Some(service)) => webhook::service(
            errors,
            &at.child("service"),
            (&service.name, &service.namespace),
            service.path.as_deref(),
            service.port,
        ),
        _ => errors.required(at, "exactly one of url or service is required"),
    }
}

fn review_versions(errors: &mut ErrorList, at: &Path, versions: &[String], any: bool) {
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return errors.required(at, format!("must specify one of {known}"));
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        if !seen.insert(version) {
            errors.invalid(&at.index(index), version.as_str(), "duplicate version");
            continue;
        }
        errors.invalid_each(&at.index(index), version, names::dns1035_label(version));
    }
    let accepted = versions
        .iter()
        .any(|v| REVIEW_VERSIONS.contains(&v.as_str()));
    if !any && !accepted {
        let why = format!("must include at least one of {known}");
        errors.invalid(at, json(&versions), why);
    }
}

fn warnings(name: &str, hooks: &[MutatingWebhook]) -> Vec<String> {
    let mut warnings = Vec::new();
    if name.ends_with(STATIC) {
        warnings.push(format!("metadata.name: {}", static_text()));
    }
    for (index, hook) in hooks.iter().enumerate() {
        for (number, rule) in hook.rules.items().iter().enumerate() {
            let at = Path::new("webhooks")
                .index(index)
                .child("rules")
                .index(number);
            for named in excluded(rule) {
                warnings.push(format!(
                    "{at}: {named} is excluded from admission webhooks; this rule will have no effect"
                ));
            }
        }
    }
    warnings
}

/// The resources that a rule names although no webhook is asked about them.
fn excluded(rule: &RuleWithOperations) -> Vec<String> {
    let (groups, resources) = (rule.api_groups.items(), rule.resources.items());
    if groups.iter().chain(resources).any(|word| word == "*") {
        return Vec::new();
    }
    let mut found: Vec<String> = Vec::new();
    for group in groups {
        for resource in resources {
            let named = format!("{resource}.{group}");
            if EXCLUDED.contains(&(group, resource)) && !found.contains(&named) {
                found.push(named);
            }
        }
    }
    found
}

/// Side effects that are written as an empty text are not known; what is not there is missing.
pub(super) fn correct(errors: &mut ErrorList, new: &machinery::Object) {
    let hooks = new.0.get("webhooks").and_then(serde_json::Value::as_array);
    let hooks = hooks.into_iter().flatten().enumerate();
    for (i, _) in hooks.filter(|(_, hook)| hook["sideEffects"] == "") {
        let at = Path::new("webhooks").index(i).child("sideEffects");
        let Some(place) = errors.0.iter().position(|e| e.path == at) else {
            continue;
        };
        let mut told = ErrorList::new();
        told.not_supported(&at, "", NO_SIDE_EFFECTS);
        errors.0.splice(place..=place, told.0);
    }
}
