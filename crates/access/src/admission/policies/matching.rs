//! Which writes a policy or a binding is about.

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{MatchResources, NamedRuleWithOperations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::Object;
use machinery::labels::Selector;
use serde_json::Value;

use super::{GROUP, Write};
use crate::Lookup;
use crate::admission::Request;
use crate::admission::expression::{Names, request as request_value};

/// Whether a write is about admission itself, or about nothing that is kept: no policy is asked.
pub(super) fn is_exempt(request: &Request<'_>) -> bool {
    let own = request.group == GROUP
        && (request.resource.ends_with("admissionpolicies")
            || request.resource.ends_with("admissionpolicybindings")
            || request.resource.ends_with("webhookconfigurations"));
    let review = matches!(
        request.group,
        "authentication.k8s.io" | "authorization.k8s.io"
    ) && request.resource.ends_with("reviews");
    own || review
}

/// A write as policies see it.
pub(super) struct Target<'a> {
    pub(super) request: &'a Request<'a>,
    version: &'a str,
    pub(super) object: Option<&'a Value>,
    pub(super) old: Option<&'a Value>,
    pub(super) namespace: Option<Value>,
    /// The value of the variable `request`.
    pub(super) value: Value,
    pub(super) lookup: &'a dyn Lookup,
}

impl<'a> Target<'a> {
    pub(super) fn new(
        request: &'a Request<'a>,
        write: Write<'a>,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
        lookup: &'a dyn Lookup,
    ) -> Self {
        let is_namespace = request.group.is_empty() && request.resource == "namespaces";
        let namespace: Option<Arc<Object>> = match request.namespace {
            "" => None,
            _ if is_namespace => None,
            name => lookup.get("", "namespaces", "", name),
        };
        let kind = object.or(old).and_then(|o| o.get("apiVersion")?.as_str());
        let (group, version) = match kind.map(|own| own.split_once('/').unwrap_or(("", own))) {
            // A sub-resource may have a body of another group.
            Some(own) if !request.subresource.is_empty() => own,
            _ => (request.group, write.version),
        };
        let names = Names {
            group: request.group,
            version: write.version,
            resource: request.resource,
            kind: request.kind,
            subresource: request.subresource,
        };
        let mut value = request_value(
            names,
            names,
            request.namespace,
            request.name,
            request.operation,
            request.user,
            write.dry_run,
            Value::Null,
        );
        for own in ["kind", "requestKind"] {
            value[own]["group"] = group.into();
            value[own]["version"] = version.into();
        }
        Self {
            request,
            version: write.version,
            object,
            old,
            namespace: namespace.map(|n| Value::Object(n.0.clone())),
            value,
            lookup,
        }
    }

    /// Whether selectors and rules choose this write; none: every write.
    pub(super) fn matches(&self, resources: Option<&MatchResources>) -> bool {
        let Some(resources) = resources else {
            return true;
        };
        let exact = resources.match_policy.as_deref() == Some("Exact");
        let any = |rules: &Option<Vec<NamedRuleWithOperations>>| {
            let mut rules = rules.iter().flatten();
            rules.any(|rule| self.is_named(rule, exact))
        };
        // A binding without rules is about all that its policy is about.
        let rules = resources.resource_rules.as_ref();
        let chosen = rules.is_none_or(Vec::is_empty) || any(&resources.resource_rules);
        chosen
            && !any(&resources.exclude_resource_rules)
            && self.namespace_selected(resources.namespace_selector.as_ref())
            && self.object_selected(resources.object_selector.as_ref())
    }

    fn is_named(&self, rule: &NamedRuleWithOperations, exact: bool) -> bool {
        let request = self.request;
        let has = |all: &Option<Vec<String>>, own: &str| {
            all.iter().flatten().any(|one| one == "*" || one == own)
        };
        // Equivalent: the same resource in another version is the same resource.
        let version = !exact || has(&rule.api_versions, self.version);
        let names = rule.resource_names.iter().flatten().collect::<Vec<_>>();
        let cluster = request.namespace.is_empty()
            || (request.group.is_empty() && request.resource == "namespaces");
        let scope = match rule.scope.as_deref() {
            Some("Cluster") => cluster,
            Some("Namespaced") => !cluster,
            _ => true,
        };
        let resource = rule.resources.iter().flatten().any(|named| {
            let (resource, subresource) = named.split_once('/').unwrap_or((named, ""));
            (resource == "*" || resource == request.resource)
                && (subresource == "*" || subresource == request.subresource)
        });
        has(&rule.api_groups, request.group)
            && version
            && has(&rule.operations, request.operation.as_str())
            && (names.is_empty() || names.iter().any(|name| *name == request.name))
            && scope
            && resource
    }

    fn namespace_selected(&self, selector: Option<&LabelSelector>) -> bool {
        let Ok(selector) = Selector::from_label_selector(&selector.cloned().unwrap_or_default())
        else {
            return false;
        };
        if selector.is_everything() {
            return true;
        }
        let is_namespace = self.request.group.is_empty() && self.request.resource == "namespaces";
        if is_namespace {
            return self
                .object
                .or(self.old)
                .is_some_and(|o| has_labels(&selector, o));
        }
        match (&self.namespace, self.request.namespace) {
            (_, "") => true,
            (Some(namespace), _) => has_labels(&selector, namespace),
            (None, _) => false,
        }
    }

    fn object_selected(&self, selector: Option<&LabelSelector>) -> bool {
        let Ok(selector) = Selector::from_label_selector(&selector.cloned().unwrap_or_default())
        else {
            return false;
        };
        let of = |object: Option<&Value>| object.is_some_and(|o| has_labels(&selector, o));
        selector.is_everything() || of(self.object) || of(self.old)
    }
}

/// Whether the labels of an object are selected.
pub(super) fn has_labels(selector: &Selector, object: &Value) -> bool {
    let labels = object.pointer("/metadata/labels");
    selector.matches(|key| labels.and_then(|all| all.get(key)).and_then(Value::as_str))
}
