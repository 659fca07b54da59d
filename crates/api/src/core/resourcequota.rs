//! ResourceQuota: how much a namespace may hold and ask for in all.
//!
//! Upstream: `pkg/registry/core/resourcequota`, `ValidateResourceQuota*` in `pkg/apis/core/validation`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota as Typed, ResourceQuotaSpec, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::json;

use crate::check::{self, IMMUTABLE};
use crate::columns;
use crate::core::resources;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, quantity};

const WITHOUT_VALUES: &[&str] = &[
    "BestEffort",
    "NotBestEffort",
    "Terminating",
    "NotTerminating",
    "CrossNamespacePodAffinity",
];
const CONFLICTS: &[[&str; 2]] = &[
    ["BestEffort", "NotBestEffort"],
    ["Terminating", "NotTerminating"],
];

/// The kind `ResourceQuota`.
pub struct ResourceQuota;

impl Kind for ResourceQuota {
    type Object = Typed;
    const NAMES: Names =
        Names::new("", "v1", "ResourceQuota", "resourcequotas", "resourcequota").short(&["quota"]);
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Request",
            "Request represents a minimum amount of cpu/memory that a container may consume.",
        ),
        columns::text(
            "Limit",
            "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
        ),
        columns::AGE,
    ];

    fn default(object: &mut Typed) {
        let hard = object.spec.as_mut().and_then(|s| s.hard.as_mut());
        resources::canonical(hard);
        if let Some(status) = &mut object.status {
            resources::canonical(status.hard.as_mut());
            resources::canonical(status.used.as_mut());
        }
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert("status".into(), json!({}));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, &new.spec.clone().unwrap_or_default());
        errors
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if part == Part::Status {
            status(&mut errors, &new.status.clone().unwrap_or_default());
            return errors;
        }
        let (new, old) = (
            new.spec.clone().unwrap_or_default(),
            old.spec.clone().unwrap_or_default(),
        );
        spec(&mut errors, &new);
        let set = |spec: &ResourceQuotaSpec| -> BTreeSet<String> {
            spec.scopes.items().iter().cloned().collect()
        };
        if set(&new) != set(&old) {
            let at = Path::new("spec").child("scopes");
            errors.invalid(&at, check::json(&new.scopes), IMMUTABLE);
        }
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let hard = new.spec.as_ref().and_then(|s| s.hard.as_ref());
        hard.map(below_limits).unwrap_or_default()
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let status = object.status.clone().unwrap_or_default();
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in status.hard.iter().flatten() {
            let used = status.used.as_ref().and_then(|u| u.get(name));
            let text = format!("{name}: {}/{}", used.map_or("0", |u| &u.0), hard.0);
            let is_limit = name.starts_with("limits.");
            if is_limit { &mut limits } else { &mut requests }.push(text);
        }
        Row::from(vec![
            tree.name().into(),
            requests.join(", ").into(),
            limits.join(", ").into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// Warnings about more that may be requested than used.
fn below_limits(hard: &BTreeMap<String, Text>) -> Vec<String> {
    let mut warnings = Vec::new();
    for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let (requests, limits) = (format!("requests.{name}"), format!("limits.{name}"));
        let bare = matches!(name, "cpu" | "memory");
        let request = match hard.get_key_value(&requests) {
            None if bare => hard.get_key_value(name),
            found => found,
        };
        let (Some((key, request)), Some(limit)) = (request, hard.get(&limits)) else {
            continue;
        };
        if let (Some(r), Some(l)) = (quantity(request), quantity(limit))
            && r > l
        {
            warnings.push(format!(
                "ResourceQuota {key} ({r}) should be less than {limits} ({l})"
            ));
        }
    }
    warnings
}

fn spec(errors: &mut ErrorList, spec: &ResourceQuotaSpec) {
    let path = Path::new("spec");
    amounts(errors, &path.child("hard"), spec.hard.as_ref());
    scopes(errors, &path.child("scopes"), spec);
    scope_selector(errors, &path.child("scopeSelector"), spec);
}

fn status(errors: &mut ErrorList, status: &ResourceQuotaStatus) {
    let path = Path::new("status");
    amounts(errors, &path.child("hard"), status.hard.as_ref());
    amounts(errors, &path.child("used"), status.used.as_ref());
}

fn amounts(errors: &mut ErrorList, path: &Path, list: Option<&BTreeMap<String, Text>>) {
    for (name, text) in list.into_iter().flatten() {
        let at = path.key(name);
        resources::resource_name(errors, &at, name);
        if !name.contains('/') && !resources::is_standard_for_quota(name) {
            errors.invalid(&at, name.as_str(), "must be a standard resource for quota");
        }
        resources::amount(errors, &at, name, text);
    }
}

/// Whether a scope says something about a resource.
fn is_valid_for(scope: &str, resource: &str) -> bool {
    const COMPUTE: &[&str] = &[
        "cpu",
        "memory",
        "limits.cpu",
        "limits.memory",
        "requests.cpu",
        "requests.memory",
    ];
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => resource == "pods" || COMPUTE.contains(&resource),
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ => true,
    }
}

fn is_standard(scope: &str) -> bool {
    WITHOUT_VALUES.contains(&scope) || matches!(scope, "PriorityClass" | "VolumeAttributesClass")
}

fn unsupported<'a>(spec: &'a ResourceQuotaSpec, scope: &str) -> impl Iterator<Item = &'a String> {
    let scope = scope.to_owned();
    let names = spec.hard.iter().flatten().map(|(name, _)| name);
    names.filter(move |n| resources::is_standard_for_quota(n) && !is_valid_for(&scope, n))
}

fn scopes(errors: &mut ErrorList, path: &Path, spec: &ResourceQuotaSpec) {
    let all = spec.scopes.items();
    let shown = check::json(&spec.scopes);
    for scope in all {
        if !is_standard(scope) {
            errors.invalid(path, shown.clone(), "unsupported scope");
        }
        for _ in unsupported(spec, scope) {
            errors.invalid(path, shown.clone(), "unsupported scope applied to resource");
        }
    }
    conflicts(errors, path, spec, &|scope| all.iter().any(|s| s == scope));
}

fn conflicts(
    errors: &mut ErrorList,
    path: &Path,
    spec: &ResourceQuotaSpec,
    has: &dyn Fn(&str) -> bool,
) {
    for _ in CONFLICTS.iter().filter(|pair| pair.iter().all(|s| has(s))) {
        errors.invalid(path, check::json(&spec.scopes), "conflicting scopes");
    }
}

fn scope_selector(errors: &mut ErrorList, path: &Path, spec: &ResourceQuotaSpec) {
    const MUST_EXIST: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
        ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
        ResourceQuotaScopeCrossNamespacePodAffinity";
    let Some(selector) = &spec.scope_selector else {
        return;
    };
    let path = path.child("matchExpressions");
    let all = selector.match_expressions.items();
    for requirement in all {
        let (scope, operator) = (&requirement.scope_name, requirement.operator.as_str());
        if !is_standard(scope) {
            let at = path.child("scopeName");
            errors.invalid(&at, scope.as_str(), "unsupported scope");
        }
        for _ in unsupported(spec, scope) {
            let shown = check::json(selector);
            errors.invalid(&path, shown, "unsupported scope applied to resource");
        }
        let at = path.child("operator");
        if WITHOUT_VALUES.contains(&scope.as_str()) && operator != "Exists" {
            errors.invalid(&at, operator, MUST_EXIST);
        }
        let values = requirement.values.items();
        let values_at = path.child("values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&values_at, detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&values_at, values.to_vec(), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&at, other, "not a valid selector operator"),
        }
    }
    conflicts(errors, &path, spec, &|scope| {
        all.iter().any(|r| r.scope_name == scope)
    });
}
