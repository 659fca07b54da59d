//! Role and ClusterRole: what may be done.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole as TypedClusterRole, PolicyRule, Role as TypedRole};
use machinery::labels::Selector;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::Value;

use super::GROUP;
use crate::check;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::Items;

/// The kind `Role`.
pub struct Role;

impl Kind for Role {
    type Object = TypedRole;
    const NAMES: Names = Names::new(GROUP, "v1", "Role", "roles", "role");
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = columns::NAME_AND_CREATED;
    const CREATE_ON_UPDATE: bool = true;

    fn validate_create(_context: &Context, new: &TypedRole) -> ErrorList {
        let mut errors = ErrorList::new();
        rules(&mut errors, new.rules.items(), true);
        errors
    }

    fn validate_update(
        context: &Context,
        _part: Part,
        new: &TypedRole,
        _old: &TypedRole,
    ) -> ErrorList {
        Self::validate_create(context, new)
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        kind::path_segment(name, prefix)
    }

    fn row(_object: &TypedRole, tree: &Object, _now: Timestamp) -> Row {
        columns::name_and_created(tree)
    }
}

/// The kind `ClusterRole`.
pub struct ClusterRole;

impl Kind for ClusterRole {
    type Object = TypedClusterRole;
    const NAMES: Names = Names::new(GROUP, "v1", "ClusterRole", "clusterroles", "clusterrole");
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = columns::NAME_AND_CREATED;
    const CREATE_ON_UPDATE: bool = true;

    fn validate_create(_context: &Context, new: &TypedClusterRole) -> ErrorList {
        let mut errors = ErrorList::new();
        rules(&mut errors, new.rules.items(), false);
        let Some(rule) = &new.aggregation_rule else {
            return errors;
        };
        let path = Path::new("aggregationRule").child("clusterRoleSelectors");
        let selectors = rule.cluster_role_selectors.items();
        if selectors.is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.required(&path, detail);
        }
        for (i, selector) in selectors.iter().enumerate() {
            check::label_selector(&mut errors, &path.index(i), Some(selector));
            if Selector::from_label_selector(selector).is_err() {
                errors.invalid(&path.index(i), Value::Null, "invalid label selector.");
            }
        }
        errors
    }

    fn validate_update(
        context: &Context,
        _part: Part,
        new: &TypedClusterRole,
        _old: &TypedClusterRole,
    ) -> ErrorList {
        Self::validate_create(context, new)
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        kind::path_segment(name, prefix)
    }

    fn row(_object: &TypedClusterRole, tree: &Object, _now: Timestamp) -> Row {
        columns::name_and_created(tree)
    }
}

fn rules(errors: &mut ErrorList, rules: &[PolicyRule], namespaced: bool) {
    for (i, rule) in rules.iter().enumerate() {
        policy_rule(errors, &Path::new("rules").index(i), rule, namespaced);
    }
}

/// One rule: verbs on resources, or verbs on URLs, never both.
pub fn policy_rule(errors: &mut ErrorList, path: &Path, rule: &PolicyRule, namespaced: bool) {
    kinds_of_things(errors, path, rule, namespaced);
    if rule.verbs.is_empty() {
        errors.required(&path.child("verbs"), "");
    }
}

fn kinds_of_things(errors: &mut ErrorList, path: &Path, rule: &PolicyRule, namespaced: bool) {
    let urls = rule.non_resource_urls.items();
    let resources = [&rule.api_groups, &rule.resources, &rule.resource_names];
    if !urls.is_empty() {
        let at = path.child("nonResourceURLs");
        if namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.invalid(&at, urls.to_vec(), detail);
        }
        if resources.iter().any(|list| !list.items().is_empty()) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&at, urls.to_vec(), detail);
        }
        return;
    }
    if rule.api_groups.items().is_empty() {
        let detail = "resource rules must supply at least one api group";
        errors.required(&path.child("apiGroups"), detail);
    }
    if rule.resources.items().is_empty() {
        let detail = "resource rules must supply at least one resource";
        errors.required(&path.child("resources"), detail);
    }
}
