//! Which writes somebody wants to hear of: rules over operations and resources, and selectors over labels. Webhooks and
//! admission policies ask in the same words.
//!
//! Contract: the first name of a [`Subject`] is what the client called the resource; the others are the same objects
//! under other group versions, which match too unless the criteria are exact. Objects outside of namespaces are not
//! subject to namespace selectors; namespaces are, with their own labels.
//! Behaviour: `k8s.io/apiserver/pkg/admission/plugin/webhook/predicates`, `.../generic/webhook.go` (`ShouldCallHook`).

use k8s_openapi::api::admissionregistration::v1::RuleWithOperations;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::labels::Selector;
use machinery::{ApiError, Object};

use super::Operation;

/// One name of the resource that a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// API group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
}

/// A write, as rules and selectors see it.
pub struct Subject<'a> {
    /// What it does.
    pub operation: Operation,
    /// Its resource: as the client called it, then the others.
    pub names: &'a [Name<'a>],
    /// Sub-resource, or empty.
    pub subresource: &'a str,
    /// Namespace, empty for cluster scope; for a namespace its own name.
    pub namespace: &'a str,
    /// The object, if there is one.
    pub object: Option<&'a Object>,
    /// What was there before.
    pub old: Option<&'a Object>,
    /// Finds the namespace when it is asked for.
    pub find_namespace: &'a dyn Fn(&str) -> Result<std::sync::Arc<Object>, ApiError>,
}

/// What somebody wants to hear of.
#[derive(Clone, Debug)]
pub struct Criteria {
    rules: Vec<RuleWithOperations>,
    namespaces: Selector,
    objects: Selector,
    exact: bool,
}

impl Criteria {
    /// From the fields of a configuration.
    ///
    /// # Errors
    /// A selector that is none.
    pub fn new(
        rules: Vec<RuleWithOperations>,
        namespaces: Option<&LabelSelector>,
        objects: Option<&LabelSelector>,
        match_policy: Option<&str>,
    ) -> Result<Self, String> {
        let selector = |selector: Option<&LabelSelector>| match selector {
            None => Ok(Selector::everything()),
            Some(selector) => Selector::from_label_selector(selector),
        };
        Ok(Self {
            rules,
            namespaces: selector(namespaces)?,
            objects: selector(objects)?,
            exact: match_policy == Some("Exact"),
        })
    }

    /// The place in [`Subject::names`] of the name that matches, if the write does.
    ///
    /// # Errors
    /// 404: the namespace is selected by labels and is not there.
    pub fn matches(&self, subject: &Subject<'_>) -> Result<Option<usize>, ApiError> {
        let Some(name) = self.name(subject) else {
            return Ok(None);
        };
        if !self.object_selected(subject) {
            return Ok(None);
        }
        Ok(self.namespace_selected(subject)?.then_some(name))
    }

    fn name(&self, subject: &Subject<'_>) -> Option<usize> {
        let matching = |rule: &RuleWithOperations, name: &Name<'_>| matches(rule, subject, name);
        let own = subject.names.first()?;
        if self.rules.iter().any(|rule| matching(rule, own)) {
            return Some(0);
        }
        if self.exact {
            return None;
        }
        // Earlier rules first.
        self.rules.iter().find_map(|rule| {
            let others = subject.names.iter().enumerate().skip(1);
            let mut found = others.filter(|(_, name)| matching(rule, name));
            found.next().map(|(place, _)| place)
        })
    }

    pub(super) fn object_selected(&self, subject: &Subject<'_>) -> bool {
        let selected = |object: &Object| self.objects.matches(|key| object.label(key));
        self.objects.is_everything()
            || subject.object.is_some_and(selected)
            || subject.old.is_some_and(selected)
    }

    pub(super) fn namespace_selected(&self, subject: &Subject<'_>) -> Result<bool, ApiError> {
        let is_namespace = subject.names.first().is_some_and(is_namespaces);
        if self.namespaces.is_everything() || subject.namespace.is_empty() && !is_namespace {
            return Ok(true);
        }
        let selected = |object: &Object| self.namespaces.matches(|key| object.label(key));
        let written = matches!(subject.operation, Operation::Create | Operation::Update);
        if let (true, true, Some(object)) = (
            is_namespace,
            written && subject.subresource.is_empty(),
            subject.object,
        ) {
            return Ok(selected(object));
        }
        Ok(selected(&*(subject.find_namespace)(subject.namespace)?))
    }
}

fn is_namespaces(name: &Name<'_>) -> bool {
    name.group.is_empty() && name.resource == "namespaces"
}

/// Whether a rule is about a write under one of its names.
pub fn matches(rule: &RuleWithOperations, subject: &Subject<'_>, name: &Name<'_>) -> bool {
    let listed = |list: &Option<Vec<String>>, word: &str| {
        list.iter()
            .flatten()
            .any(|item| item == "*" || item == word)
    };
    let in_namespace = !subject.namespace.is_empty() && !is_namespaces(name);
    let scope = match rule.scope.as_deref() {
        None | Some("*") => true,
        Some("Namespaced") => in_namespace,
        Some("Cluster") => !in_namespace,
        Some(_) => false,
    };
    let resource = || {
        rule.resources.iter().flatten().any(|item| {
            let (resource, subresource) = item.split_once('/').unwrap_or((item, ""));
            (resource == "*" || resource == name.resource)
                && (subresource == "*" || subresource == subject.subresource)
        })
    };
    scope
        && listed(&rule.operations, subject.operation.as_str())
        && listed(&rule.api_groups, name.group)
        && listed(&rule.api_versions, name.version)
        && resource()
}

/// Whether a kind says who is asked about writes; no webhook of the API is ever asked about those, so that a bad one can be
/// taken away.
pub fn is_exempt(group: &str, kind: &str) -> bool {
    const KINDS: &[&str] = &[
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ];
    group == GROUP && KINDS.contains(&kind) || is_policy(group, kind)
}

/// Whether a kind is a policy or puts one in force; no policy of the API is ever asked about those.
pub fn is_policy(group: &str, kind: &str) -> bool {
    const KINDS: &[&str] = &[
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    group == GROUP && KINDS.contains(&kind)
}

const GROUP: &str = "admissionregistration.k8s.io";
