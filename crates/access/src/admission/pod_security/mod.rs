//! PodSecurity: pods comply with the level that their namespace asks for.
//!
//! What the namespace enforces refuses a pod; what it warns of and audits is told about pods and about the objects that
//! make pods. Labels of a namespace must be right, and a stricter level tells which pods there are that would not be let
//! in any more. Start with [`validate`]; the checks are a table in `checks`.
//! Behaviour: `plugin/pkg/admission/security/podsecurity`, `k8s.io/pod-security-admission/admission`.

mod baseline;
mod checks;
mod configuration;
mod policy;
mod restricted;
#[cfg(test)]
mod tests;

pub use configuration::Configuration;
pub use policy::{Level, LevelVersion, Policy, Version};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machinery::{ApiError, Object};
use serde_json::Value;

use super::{Operation, Request};
use crate::Lookup;
use crate::quote::quote;
use checks::{Findings, Pod, text};

/// Pods of a namespace that are looked at when it becomes stricter.
const MOST_PODS: usize = 3000;
const ANNOTATION: &str = "pod-security.kubernetes.io/";

/// Where a pod's template stands in the objects that make pods.
fn template_of(group: &str, resource: &str) -> Option<&'static [&'static str]> {
    match (group, resource) {
        ("", "podtemplates") => Some(&["template"]),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&["spec", "template"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

pub(super) fn validate(
    request: &Request,
    object: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    match (request.group, request.resource, request.subresource) {
        ("", "namespaces", "") => namespace(request, object, lookup),
        (
            "",
            "pods",
            "exec" | "attach" | "binding" | "eviction" | "log" | "portforward" | "proxy" | "status",
        ) => Ok(()),
        ("", "pods", _) => pod(request, object, lookup),
        (group, resource, "") => {
            if let Some(path) = template_of(group, resource) {
                template(request, object.at(path), lookup);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Something that this plug-in did, for who counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Somebody or some place is exempt.
    Exempt,
    /// A namespace's labels could not be read, or it was not there; fatal: nothing was looked at.
    Error {
        /// Whether nothing was looked at.
        fatal: bool,
    },
    /// A pod was held against a level.
    Evaluated {
        /// Whether it complies.
        allowed: bool,
        /// `enforce`, `audit` or `warn`.
        mode: &'static str,
        /// The level.
        level: Level,
        /// Its version: `latest`, `v1.` and a number, or `future`.
        version: String,
    },
}

/// The release that this is.
const OWN_MINOR: u32 = 37;

fn see(request: &Request, seen: Seen) {
    request.notes.pod_security.borrow_mut().push(seen);
}

fn see_evaluated(request: &Request, mode: &'static str, policy: LevelVersion, allowed: bool) {
    let version = match policy.version {
        // What asks for nothing has been the same always.
        _ if policy.level == Level::Privileged => "latest".to_owned(),
        Version::Latest => "latest".to_owned(),
        Version::Minor(minor) if minor > OWN_MINOR => "future".to_owned(),
        Version::Minor(minor) => format!("v1.{minor}"),
    };
    see(
        request,
        Seen::Evaluated {
            allowed,
            mode,
            level: policy.level,
            version,
        },
    );
}

fn annotate(request: &Request, key: &str, value: impl Into<String>) {
    let key = format!("{ANNOTATION}{key}");
    request.notes.annotate(&key, value);
}

/// Whether who asks, or where, is exempt.
fn is_exempt(request: &Request) -> bool {
    let exempt = &request.settings.pod_security.exempt;
    if exempt.namespace(request.namespace) {
        annotate(request, "exempt", "namespace");
        see(request, Seen::Exempt);
        return true;
    }
    if exempt.user(&request.user.name) {
        annotate(request, "exempt", "user");
        see(request, Seen::Exempt);
        return true;
    }
    false
}

fn pod(request: &Request, object: &Object, lookup: &dyn Lookup) -> Result<(), ApiError> {
    if is_exempt(request) {
        return Ok(());
    }
    let Some(namespace) = lookup.get("", "namespaces", "", request.namespace) else {
        let name = quote(request.namespace);
        see(request, Seen::Error { fatal: true });
        return Err(ApiError::internal(format!(
            "failed to lookup namespace {name}"
        )));
    };
    let (policy, errors) = Policy::of(&namespace, &request.settings.pod_security.defaults);
    if errors.is_empty() && policy.is_privileged() {
        annotate(request, "enforce-policy", "privileged:latest");
        see_evaluated(request, "enforce", policy.enforce, true);
        return Ok(());
    }
    if let (Operation::Update, Some(old)) = (request.operation, request.old)
        && !is_significant(object, old)
    {
        return Ok(());
    }
    let none = Value::Null;
    let pod = Pod {
        metadata: object.0.get("metadata").unwrap_or(&none),
        spec: object.0.get("spec").unwrap_or(&none),
    };
    if has_exempt_class(request, pod) {
        return Ok(());
    }
    note_wrong(request, &errors);
    annotate(request, "enforce-policy", policy.enforce.to_string());
    let enforced = Findings::of(policy.enforce, pod);
    see_evaluated(request, "enforce", policy.enforce, enforced.is_empty());
    audit(request, policy, pod);
    if enforced.is_empty() {
        warn(request, policy, pod);
        return Ok(());
    }
    let policy = quote(&policy.enforce.to_string());
    let why = format!("violates PodSecurity {policy}: {}", enforced.details());
    Err(ApiError::forbidden(
        request.group,
        request.resource,
        request.name,
        why,
    ))
}

/// What makes pods is never refused.
fn template(request: &Request, template: Option<&Value>, lookup: &dyn Lookup) {
    if is_exempt(request) {
        return;
    }
    let Some(namespace) = lookup.get("", "namespaces", "", request.namespace) else {
        let name = quote(request.namespace);
        let why = format!("failed to lookup namespace {name}: not found");
        see(request, Seen::Error { fatal: true });
        return annotate(request, "error", why);
    };
    let (policy, errors) = Policy::of(&namespace, &request.settings.pod_security.defaults);
    let silent = |mode: LevelVersion| mode.level == Level::Privileged;
    if errors.is_empty() && silent(policy.warn) && silent(policy.audit) {
        return;
    }
    let Some(template) = template.filter(|template| !template.is_null()) else {
        return;
    };
    let pod = Pod {
        metadata: &template["metadata"],
        spec: &template["spec"],
    };
    if has_exempt_class(request, pod) {
        return;
    }
    note_wrong(request, &errors);
    audit(request, policy, pod);
    warn(request, policy, pod);
}

fn has_exempt_class(request: &Request, pod: Pod) -> bool {
    let class = text(&pod.spec["runtimeClassName"]);
    let exempt = request.settings.pod_security.exempt.runtime_class(class);
    if exempt {
        annotate(request, "exempt", "runtimeClass");
        see(request, Seen::Exempt);
    }
    exempt
}

fn note_wrong(request: &Request, errors: &machinery::ErrorList) {
    if !errors.is_empty() {
        let why = format!("Failed to parse policy: {}", errors.aggregate());
        annotate(request, "error", why);
        see(request, Seen::Error { fatal: false });
    }
}

fn would_violate(policy: LevelVersion, pod: Pod) -> Option<String> {
    let found = Findings::of(policy, pod);
    let policy = quote(&policy.to_string());
    (!found.is_empty()).then(|| format!("would violate PodSecurity {policy}: {}", found.details()))
}

fn audit(request: &Request, policy: Policy, pod: Pod) {
    if let Some(found) = would_violate(policy.audit, pod) {
        annotate(request, "audit-violations", found);
        see_evaluated(request, "audit", policy.audit, false);
    }
}

fn warn(request: &Request, policy: Policy, pod: Pod) {
    if let Some(found) = would_violate(policy.warn, pod) {
        request.notes.warn(found);
        see_evaluated(request, "warn", policy.warn, false);
    }
}

/// Of a pod that is there, images can change and ephemeral containers be added; what else may change no check looks at.
fn is_significant(new: &Object, old: &Object) -> bool {
    let list = |of: &Object, key: &str| {
        let found = of.at(&["spec", key]).and_then(Value::as_array);
        found.cloned().unwrap_or_default()
    };
    for key in ["containers", "initContainers"] {
        let (new, old) = (list(new, key), list(old, key));
        let same = |(a, b): (&Value, &Value)| a["image"] == b["image"];
        if new.len() != old.len() || !new.iter().zip(&old).all(same) {
            return true;
        }
    }
    let before = list(old, "ephemeralContainers");
    list(new, "ephemeralContainers").iter().any(|container| {
        let old = before.iter().find(|old| old["name"] == container["name"]);
        old.is_none_or(|old| old["image"] != container["image"])
    })
}

fn namespace(request: &Request, object: &Object, lookup: &dyn Lookup) -> Result<(), ApiError> {
    let configuration = &request.settings.pod_security;
    let (new, errors) = Policy::of(object, &configuration.defaults);
    let invalid = || Err(ApiError::invalid("", "Namespace", object.name(), &errors));
    let exempt = configuration.exempt.namespace(request.namespace);
    let Some(old) = request
        .old
        .filter(|_| request.operation == Operation::Update)
    else {
        if !errors.is_empty() {
            return invalid();
        }
        if exempt {
            warn_exempt(request, object, new);
        }
        return Ok(());
    };
    let (old, old_errors) = Policy::of(old, &configuration.defaults);
    if !errors.is_empty() && errors != old_errors {
        return invalid();
    }
    let relaxed =
        new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
    if relaxed || new.enforce.level == Level::Privileged {
        return Ok(());
    }
    if exempt {
        warn_exempt(request, object, new);
        return Ok(());
    }
    let pods = lookup.list("", "pods", object.name());
    for warning in existing(request, object.name(), new.enforce, pods) {
        request.notes.warn(warning);
    }
    Ok(())
}

/// Labels of a namespace that is exempt do nothing, which their author may not know.
fn warn_exempt(request: &Request, namespace: &Object, policy: Policy) {
    if policy.is_privileged() || policy.is_like(&request.settings.pod_security.defaults) {
        return;
    }
    let modes = [
        (policy::ENFORCE, "enforce", policy.enforce),
        (policy::AUDIT, "audit", policy.audit),
        (policy::WARN, "warn", policy.warn),
    ];
    let said = modes.into_iter().filter(|(label, _, mode)| {
        let labelled = [(*label).to_owned(), format!("{label}-version")];
        mode.level != Level::Privileged && labelled.iter().any(|l| namespace.label(l).is_some())
    });
    let said: Vec<String> = said
        .map(|(_, name, mode)| format!("{name}={mode}"))
        .collect();
    let (name, said) = (quote(namespace.name()), said.join(", "));
    request.notes.warn(format!(
        "namespace {name} is exempt from Pod Security, and the policy ({said}) will be ignored"
    ));
}

/// What is to be said of the pods that are there when a namespace becomes stricter.
fn existing(
    request: &Request,
    namespace: &str,
    enforce: LevelVersion,
    pods: Vec<Arc<Object>>,
) -> Vec<String> {
    let pods = by_importance(request, pods);
    let none = Value::Null;
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in pods.iter().take(MOST_PODS) {
        let view = Pod {
            metadata: pod.0.get("metadata").unwrap_or(&none),
            spec: pod.0.get("spec").unwrap_or(&none),
        };
        let findings = Findings::of(enforce, view);
        if findings.is_empty() {
            continue;
        }
        let name = pod.name().to_owned();
        let entry = found.entry(findings.reasons()).or_insert((name.clone(), 0));
        entry.0 = name.min(entry.0.clone());
        entry.1 += 1;
    }
    let mut warnings = Vec::new();
    if pods.len() > MOST_PODS {
        let all = pods.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {all} existing pods"
        ));
    }
    if !found.is_empty() {
        let (namespace, level) = (quote(namespace), quote(&enforce.to_string()));
        warnings.push(format!(
            "existing pods in namespace {namespace} violate the new PodSecurity enforce level {level}"
        ));
    }
    let mut each: Vec<String> = found
        .into_iter()
        .map(|(why, (name, count))| match count {
            1 => format!("{name}: {why}"),
            2 => format!("{name} (and 1 other pod): {why}"),
            more => format!("{name} (and {} other pods): {why}", more - 1),
        })
        .collect();
    each.sort();
    warnings.extend(each);
    warnings
}

/// One pod of every controller comes before all others of it.
fn by_importance(request: &Request, pods: Vec<Arc<Object>>) -> Vec<Arc<Object>> {
    let exempt = &request.settings.pod_security.exempt;
    let mut seen = BTreeSet::new();
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for pod in pods {
        if exempt.runtime_class(pod.str_at(&["spec", "runtimeClassName"])) {
            continue;
        }
        let owners = pod
            .at(&["metadata", "ownerReferences"])
            .and_then(Value::as_array);
        let controller = owners.and_then(|all| all.iter().find(|o| o["controller"] == true));
        let controller = controller.map(|owner| text(&owner["uid"]).to_owned());
        let another = controller.is_some_and(|uid| !seen.insert(uid));
        match another {
            true => rest.push(pod),
            false => first.push(pod),
        }
    }
    first.append(&mut rest);
    first
}
