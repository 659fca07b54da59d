//! Which requests a webhook is asked about: rules and conditions.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, RuleWithOperations};
use machinery::cel::Type;
use machinery::cel::environment::{Environment, Options};
use machinery::{ErrorList, Path, names};

use super::EXCLUDED;
use crate::check::{ErrorListExt, json};
use crate::view::Items;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MAX_CONDITIONS: usize = 64;

pub(super) fn validate(errors: &mut ErrorList, path: &Path, rule: &RuleWithOperations) {
    let wild = |all: &[String]| all.len() > 1 && all.iter().any(|o| o == "*");
    for (field, values, others) in [
        ("operations", rule.operations.items(), "operations"),
        ("apiGroups", rule.api_groups.items(), "API groups"),
        ("apiVersions", rule.api_versions.items(), "API versions"),
    ] {
        let at = path.child(field);
        if values.is_empty() {
            errors.required(&at, "");
        }
        if wild(values) {
            let why = format!("if '*' is present, must not specify other {others}");
            errors.invalid(&at, json(&values), why);
        }
        for (index, value) in values.iter().enumerate() {
            match field {
                "operations" => errors.one_of(&at.index(index), value, OPERATIONS),
                "apiVersions" => {
                    errors.required_text(&at.index(index), value, "");
                }
                // The core group has no name.
                _ => {}
            }
        }
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
    let mut plain = false;
    for (index, named) in all.iter().enumerate() {
        let at = path.index(index);
        if !errors.required_text(&at, named, "") {
            continue;
        }
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
    if all.len() > 1 && all.iter().any(|named| named == "*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, json(&all), why);
    }
    if plain && all.iter().any(|named| named == "*") {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, json(&all), why);
    }
}

pub(super) fn conditions(errors: &mut ErrorList, path: &Path, conditions: &[MatchCondition]) {
    if conditions.len() > MAX_CONDITIONS {
        errors.too_many(path, conditions.len(), MAX_CONDITIONS);
    }
    let environment = LazyLock::new(|| {
        Environment::admission(Options {
            authorizer: true,
            ..Options::default()
        })
    });
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let (text, at) = (condition.expression.trim(), path.child("expression"));
        if errors.required_text(&at, text, "")
            && let Err(why) = environment.compile(text, &[Type::Bool])
        {
            errors.invalid(&at, text, why);
        }
        let (name, at) = (&condition.name, path.child("name"));
        if errors.required_text(&at, name, "") {
            errors.invalid_each(&at, name, names::qualified_name(name));
            if !seen.insert(name) {
                errors.duplicate(&at, name.as_str());
            }
        }
    }
}

/// The resources that a rule names although no webhook is asked about them.
pub(super) fn excluded(rule: &RuleWithOperations) -> Vec<String> {
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
