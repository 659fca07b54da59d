//! One policy rule: what it matches, and whether it covers another one.
//!
//! Behaviour: `pkg/apis/rbac/v1/evaluation_helpers.go`, `k8s.io/component-helpers/auth/rbac/validation`.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::Attributes;
use crate::quote::quote_all;

fn list(texts: &Option<Vec<String>>) -> &[String] {
    texts.as_deref().unwrap_or_default()
}

fn has(set: &[String], text: &str) -> bool {
    set.iter().any(|s| s == text)
}

fn has_or_all(set: &[String], text: &str) -> bool {
    set.iter().any(|s| s == "*" || s == text)
}

/// The rule allows the request.
pub fn allows(rule: &PolicyRule, attributes: &Attributes) -> bool {
    if !has_or_all(&rule.verbs, &attributes.verb) {
        return false;
    }
    if !attributes.is_resource_request {
        return list(&rule.non_resource_urls)
            .iter()
            .any(|url| path_covers(url, &attributes.path));
    }
    let names = list(&rule.resource_names);
    has_or_all(list(&rule.api_groups), &attributes.api_group)
        && list(&rule.resources)
            .iter()
            .any(|r| resource_matches(r, attributes))
        && (names.is_empty() || has(names, &attributes.name))
}

/// `pods`, `pods/log`, `*` or `*/scale`.
fn resource_matches(rule: &str, attributes: &Attributes) -> bool {
    let (resource, sub) = (
        attributes.resource.as_str(),
        attributes.subresource.as_str(),
    );
    match rule.split_once('/') {
        _ if rule == "*" => true,
        None => sub.is_empty() && rule == resource,
        Some((of, wanted)) => !sub.is_empty() && wanted == sub && (of == "*" || of == resource),
    }
}

/// `/a` covers itself, `/a/*` everything that starts with `/a/`.
fn path_covers(rule: &str, path: &str) -> bool {
    let prefix = || rule.trim_end_matches('*');
    rule == path || (rule.ends_with('*') && path.starts_with(prefix()))
}

/// The parts of `wanted`, one verb on one thing each, that no rule of `owned` covers.
pub fn uncovered(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let atoms = wanted.iter().flat_map(atoms);
    atoms
        .filter(|atom| !owned.iter().any(|rule| covers(rule, atom)))
        .collect()
}

/// Breaks a rule into rules of one verb, one group, one resource, one name (or one path).
fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |text: &String| Some(vec![text.clone()]);
    let mut out = Vec::new();
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let atom = PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                };
                match list(&rule.resource_names) {
                    [] => out.push(atom),
                    names => out.extend(names.iter().map(|n| PolicyRule {
                        resource_names: one(n),
                        ..atom.clone()
                    })),
                }
            }
        }
    }
    for url in list(&rule.non_resource_urls) {
        out.extend(rule.verbs.iter().map(|verb| PolicyRule {
            non_resource_urls: one(url),
            verbs: vec![verb.clone()],
            ..PolicyRule::default()
        }));
    }
    out
}

fn covers(owned: &PolicyRule, atom: &PolicyRule) -> bool {
    let each = |wanted: &Option<Vec<String>>, test: &dyn Fn(&str) -> bool| {
        list(wanted).iter().all(|text| test(text))
    };
    let names = list(&owned.resource_names);
    let names_match = match list(&atom.resource_names) {
        [] => names.is_empty(),
        wanted => names.is_empty() || wanted.iter().all(|n| has(names, n)),
    };
    atom.verbs.iter().all(|verb| has_or_all(&owned.verbs, verb))
        && each(&atom.api_groups, &|group| {
            has_or_all(list(&owned.api_groups), group)
        })
        && each(&atom.resources, &|resource| {
            resource_covered(list(&owned.resources), resource)
        })
        && each(&atom.non_resource_urls, &|path| {
            list(&owned.non_resource_urls)
                .iter()
                .any(|rule| path_covers(rule, path))
        })
        && names_match
}

fn resource_covered(owned: &[String], resource: &str) -> bool {
    let any_with_sub = |sub: &str| owned.iter().any(|o| o.strip_prefix("*/") == Some(sub));
    has_or_all(owned, resource)
        || resource
            .split_once('/')
            .is_some_and(|(_, sub)| any_with_sub(sub))
}

/// Joins rules on one resource that differ only by verb.
pub fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut out: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let twin = out
            .iter_mut()
            .find(|o| is_simple(&rule) && is_simple(o) && same_thing(o, &rule));
        match twin {
            Some(twin) => twin.verbs.extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out
}

fn is_simple(rule: &PolicyRule) -> bool {
    list(&rule.resource_names).len() <= 1
        && list(&rule.non_resource_urls).is_empty()
        && list(&rule.api_groups).len() == 1
        && list(&rule.resources).len() == 1
}

fn same_thing(a: &PolicyRule, b: &PolicyRule) -> bool {
    a.api_groups == b.api_groups
        && a.resources == b.resources
        && list(&a.resource_names) == list(&b.resource_names)
}

/// The rule in the form that refusals show: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
pub fn describe(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", list(&rule.api_groups)),
        ("Resources", list(&rule.resources)),
        ("NonResourceURLs", list(&rule.non_resource_urls)),
        ("ResourceNames", list(&rule.resource_names)),
        ("Verbs", rule.verbs.as_slice()),
    ];
    let parts = parts.iter().filter(|(_, texts)| !texts.is_empty());
    let parts: Vec<String> = parts
        .map(|(n, texts)| format!("{n}:{}", quote_all(texts)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}
