//! FlowSchema: which requests go to which priority level, and which of them are one flow.
//!
//! Upstream: `pkg/registry/flowcontrol/flowschema`, `pkg/apis/flowcontrol/{v1,validation}`.

use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema as Typed, FlowSchemaSpec, NonResourcePolicyRule, PolicyRulesWithSubjects,
    ResourcePolicyRule, Subject,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};
use serde_json::{Value, json};

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty, Yes};

use super::prioritylevelconfiguration::{CATCH_ALL, EXEMPT};

const DEFAULT_PRECEDENCE: i32 = 1000;
const MAX_PRECEDENCE: i32 = 10_000;
const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

/// The kind `FlowSchema`.
pub struct FlowSchema;

impl Kind for FlowSchema {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "FlowSchema",
        "flowschemas",
        "flowschema",
    );
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "PriorityLevel",
            "`name` is the name of the priority level configuration \
                                        being referenced Required.",
        ),
        columns::text(
            "MatchingPrecedence",
            "`matchingPrecedence` is used to choose among the FlowSchemas that match a \
                     given request. The chosen FlowSchema is among those with the numerically \
                     lowest (which we take to be logically highest) MatchingPrecedence.  Each \
                     MatchingPrecedence value must be ranged in [1,10000]. Note that if the \
                     precedence is not specified, it will be set to 1000 as default.",
        ),
        columns::text(
            "DistinguisherMethod",
            "`distinguisherMethod` defines how to compute the flow distinguisher for \
                     requests that match this schema. `nil` specifies that the distinguisher is \
                     disabled and thus will always be the empty string.",
        ),
        columns::AGE,
        columns::text(
            "MissingPL",
            "references a broken or non-existent PriorityLevelConfiguration",
        ),
    ];
    const HAS_GENERATION: bool = true;

    fn default(object: &mut Typed) {
        let precedence = &mut object.spec.matching_precedence;
        if precedence.unwrap_or(0) == 0 {
            *precedence = Some(DEFAULT_PRECEDENCE);
        }
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        kind::set_or_remove(new, "status", Some(Value::Object(serde_json::Map::new())));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = validate(new);
        errors.append(conditions(new));
        errors
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, _old: &Typed) -> ErrorList {
        let mut errors = match part {
            Part::Status => ErrorList::new(),
            _ => validate(new),
        };
        errors.append(conditions(new));
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = &object.spec;
        let method = spec.distinguisher_method.as_ref();
        let status = object.status.as_ref();
        let conditions = status.map_or(&[][..], |s| s.conditions.items());
        let dangling = conditions.iter().find(|c| c.type_.as_str() == "Dangling");
        Row::from(vec![
            tree.name().into(),
            spec.priority_level_configuration.name.as_str().into(),
            spec.matching_precedence.unwrap_or(0).into(),
            method.map_or("<none>", |m| m.type_.as_str()).into(),
            kind::age(tree, now).into(),
            dangling.map_or("?", |c| c.status.text()).into(),
        ])
    }
}

fn conditions(object: &Typed) -> ErrorList {
    let status = object.status.as_ref();
    let conditions = status.map_or(&[][..], |s| s.conditions.items());
    super::condition_types(conditions.iter().map(|c| c.type_.as_str()))
}

/// The specification that a schema of this name must have.
fn fixed(name: &str) -> Option<Value> {
    let everything = |groups: &[&str]| {
        let subjects = groups
            .iter()
            .map(|g| json!({"kind": "Group", "group": {"name": g}}));
        json!([{
            "subjects": subjects.collect::<Vec<_>>(),
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                "clusterScope": true, "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }])
    };
    match name {
        EXEMPT => Some(json!({
            "priorityLevelConfiguration": {"name": EXEMPT}, "matchingPrecedence": 1,
            "rules": everything(&["system:masters"]),
        })),
        CATCH_ALL => Some(json!({
            "priorityLevelConfiguration": {"name": CATCH_ALL}, "matchingPrecedence": MAX_PRECEDENCE,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": everything(&["system:unauthenticated", "system:authenticated"]),
        })),
        _ => None,
    }
}

fn validate(object: &Typed) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = &object.spec;
    let name = object.metadata.name.text();
    let path = Path::new("spec");
    validate_spec(&mut errors, &path, name, spec);
    if let Some(fixed) = fixed(name)
        && check::json(spec) != fixed
    {
        let why = format!("spec of '{name}' must equal the fixed value");
        errors.invalid(&path, check::json(spec), why);
    }
    errors
}

fn validate_spec(errors: &mut ErrorList, path: &Path, name: &str, spec: &FlowSchemaSpec) {
    let at = path.child("matchingPrecedence");
    let precedence = spec.matching_precedence.unwrap_or(0);
    if precedence <= 0 {
        errors.invalid(&at, precedence, "must be a positive value");
    }
    if precedence > MAX_PRECEDENCE {
        let why = format!("must not be greater than {MAX_PRECEDENCE}");
        errors.invalid(&at, precedence, why);
    }
    if precedence == 1 && name != EXEMPT {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.invalid(&at, precedence, why);
    }
    if let Some(method) = &spec.distinguisher_method {
        let at = path.child("distinguisherMethod").child("type");
        let known = ["ByNamespace", "ByUser"];
        if !known.contains(&method.type_.as_str()) {
            // Upstream shows the method, not its type.
            let shown = serde_json::json!({"Type": method.type_});
            errors.not_supported(&at, shown, &known);
        }
    }
    let at = path.child("priorityLevelConfiguration").child("name");
    let level = spec.priority_level_configuration.name.as_str();
    if errors.required_text(&at, level, "must reference a priority level") {
        errors.invalid_each(&at, level, names::dns1123_subdomain(level));
    }
    for (i, rule) in spec.rules.items().iter().enumerate() {
        validate_rule(errors, &path.child("rules").index(i), rule);
    }
}

fn validate_rule(errors: &mut ErrorList, path: &Path, rule: &PolicyRulesWithSubjects) {
    let at = path.child("subjects");
    if rule.subjects.is_empty() {
        errors.required(&at, "subjects must contain at least one value");
    }
    for (i, subject) in rule.subjects.iter().enumerate() {
        validate_subject(errors, &at.index(i), subject);
    }
    let (resources, paths) = (rule.resource_rules.items(), rule.non_resource_rules.items());
    if resources.is_empty() && paths.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.required(path, why);
    }
    for (i, rule) in resources.iter().enumerate() {
        validate_resources(errors, &path.child("resourceRules").index(i), rule);
    }
    for (i, rule) in paths.iter().enumerate() {
        validate_paths(errors, &path.child("nonResourceRules").index(i), rule);
    }
}

fn validate_subject(errors: &mut ErrorList, path: &Path, subject: &Subject) {
    const KINDS: &[(&str, &str)] = &[
        ("Group", "group"),
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
    ];
    let kind = subject.kind.as_str();
    let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
        errors.not_supported(&path.child("kind"), kind, &known);
        return;
    };
    let name = |given: Option<&String>| given.cloned();
    let given = [
        ("group", name(subject.group.as_ref().map(|g| &g.name))),
        (
            "serviceAccount",
            name(subject.service_account.as_ref().map(|s| &s.name)),
        ),
        ("user", name(subject.user.as_ref().map(|u| &u.name))),
    ];
    for (field, name) in &given {
        let at = path.child(field);
        match name {
            None if field == own => {
                let why = format!("{field} is required when subject kind is '{kind}'");
                errors.required(&at, why);
            }
            Some(name) if field == own => drop(errors.required_text(&at.child("name"), name, "")),
            _ => {}
        }
    }
    if let Some(account) = subject
        .service_account
        .as_ref()
        .filter(|_| kind == "ServiceAccount")
    {
        let path = path.child("serviceAccount");
        if !matches!(account.name.as_str(), "" | "*") {
            let problems = names::dns1123_subdomain(&account.name);
            errors.invalid_each(&path.child("name"), &account.name, problems);
        }
        let at = path.child("namespace");
        let why = "must specify namespace for service account";
        if errors.required_text(&at, &account.namespace, why) {
            errors.invalid_each(
                &at,
                &account.namespace,
                names::dns1123_label(&account.namespace),
            );
        }
    }
    // In the order in which the fields stand for upstream.
    for field in ["serviceAccount", "user", "group"] {
        let is_given = given
            .iter()
            .any(|(known, name)| *known == field && name.is_some());
        if is_given && field != *own {
            let of = KINDS.iter().find(|(_, known)| *known == field);
            let of = of.map_or("", |(kind, _)| *kind);
            let why = format!("{field} is forbidden when subject kind is not '{of}'");
            errors.forbidden(&path.child(field), why);
        }
    }
}

fn has_star(list: &[String]) -> bool {
    list.iter().any(|word| word == "*")
}

fn list_value(list: &[String]) -> Value {
    list.to_vec().into()
}

fn validate_verbs(errors: &mut ErrorList, path: &Path, verbs: &[String]) {
    if verbs.is_empty() {
        errors.required(path, "verbs must contain at least one value");
    } else if has_star(verbs) {
        if verbs.len() > 1 {
            let why = "if '*' is present, must not specify other verbs";
            errors.invalid(path, list_value(verbs), why);
        }
    } else if verbs.iter().any(|verb| !VERBS.contains(&verb.as_str())) {
        errors.not_supported(path, list_value(verbs), VERBS);
    }
}

fn validate_paths(errors: &mut ErrorList, path: &Path, rule: &NonResourcePolicyRule) {
    validate_verbs(errors, &path.child("verbs"), &rule.verbs);
    let (at, urls) = (path.child("nonResourceURLs"), &rule.non_resource_urls);
    if urls.is_empty() {
        errors.required(&at, "nonResourceURLs must contain at least one value");
    } else if has_star(urls) {
        if urls.len() > 1 {
            let why = "if '*' is present, must not specify other non-resource URLs";
            errors.invalid(&at, list_value(urls), why);
        }
    } else {
        for (i, url) in urls.iter().enumerate() {
            if let Some(why) = wrong_url(url) {
                errors.invalid(&at.index(i), url.as_str(), why);
            }
        }
    }
}

fn wrong_url(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || stars == 1 && !url.ends_with("/*") => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

fn validate_resources(errors: &mut ErrorList, path: &Path, rule: &ResourcePolicyRule) {
    validate_verbs(errors, &path.child("verbs"), &rule.verbs);
    let lists = [
        ("apiGroups", &rule.api_groups, "api group"),
        ("resources", &rule.resources, "resource"),
    ];
    for (field, list, word) in lists {
        let at = path.child(field);
        if list.is_empty() {
            let why = format!("resource rules must supply at least one {word}");
            errors.required(&at, why);
        } else if list.len() > 1 && has_star(list) {
            let why = format!("if '*' is present, must not specify other {word}s");
            errors.invalid(&at, list_value(list), why);
        }
    }
    let (at, namespaces) = (path.child("namespaces"), rule.namespaces.items());
    if namespaces.is_empty() && !rule.cluster_scope.yes() {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&at, why);
    } else if has_star(namespaces) {
        if namespaces.len() > 1 {
            let why = "if '*' is present, must not specify other namespaces";
            errors.invalid(&at, list_value(namespaces), why);
        }
    } else {
        for (i, namespace) in namespaces.iter().enumerate() {
            for why in names::dns1123_label(namespace) {
                let why =
                    format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.invalid(&at.index(i), namespace.as_str(), why);
            }
        }
    }
}
