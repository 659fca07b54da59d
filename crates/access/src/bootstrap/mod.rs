//! What a cluster starts with: namespaces, system priority classes, default roles and bindings.
//!
//! Behaviour: `plugin/pkg/auth/authorizer/rbac/bootstrappolicy`, `pkg/controlplane/controller/systemnamespaces`,
//! `pkg/apis/scheduling/v1/helpers.go`. The server asks [`reconcile()`] at every start what to write.

mod controllers;
mod flow;
mod local;
mod reconcile;
mod roles;
mod rows;

pub use local::{AUTOMANAGED, api_service, custom_api_service};
pub use reconcile::{Write, reconcile};

use k8s_openapi::api::rbac::v1::PolicyRule;
use machinery::Object;
use serde_json::{Value, json};

use crate::rbac::GROUP;
use rows::RuleRow;

/// Roles with this annotation set to `false` are left as they are.
pub const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The namespaces that always exist, in the order they are made.
pub fn namespaces() -> Vec<Object> {
    let names = ["kube-system", "kube-public", "kube-node-lease", "default"];
    let namespace = |name: &str| object("v1", "Namespace", json!({"name": name}), json!({}));
    names.into_iter().map(namespace).collect()
}

/// The flow schemas and priority levels that every cluster has.
pub fn flow_control() -> Vec<Object> {
    flow::objects()
}

/// The system priority classes.
pub fn priority_classes() -> Vec<Object> {
    let rows = [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    let class = |(name, value, description): (&str, i64, &str)| {
        let rest = json!({"value": value, "description": description});
        object(
            "scheduling.k8s.io/v1",
            "PriorityClass",
            json!({"name": name}),
            rest,
        )
    };
    rows.into_iter().map(class).collect()
}

/// All default roles, then all default bindings.
pub fn policy() -> Vec<Object> {
    let mut out: Vec<Object> = roles::CLUSTER_ROLES.iter().map(cluster_role).collect();
    for (controller, rules) in controllers::CONTROLLERS {
        let metadata = metadata("", &controller_role(controller), "");
        out.push(rbac(
            "ClusterRole",
            metadata,
            json!({"rules": rules_of(rules)}),
        ));
    }
    for (namespace, name, rules) in roles::ROLES {
        let metadata = metadata(namespace, name, "");
        out.push(rbac("Role", metadata, json!({"rules": rules_of(rules)})));
    }
    for (role, subjects) in CLUSTER_BINDINGS {
        out.push(binding("", role, ("ClusterRole", role), subjects));
    }
    for (controller, _) in controllers::CONTROLLERS {
        let role = controller_role(controller);
        let account = format!("sa:{controller}");
        out.push(binding("", &role, ("ClusterRole", &role), &account));
    }
    for (namespace, name, role, subjects) in BINDINGS {
        out.push(binding(namespace, name, ("Role", role), subjects));
    }
    out
}

/// The rules of the role `system:node`.
pub(crate) fn node_rules() -> Vec<PolicyRule> {
    let role = roles::CLUSTER_ROLES
        .iter()
        .find(|role| role.name == "system:node");
    role.into_iter()
        .flat_map(|role| role.rules)
        .map(RuleRow::rule)
        .collect()
}

/// Cluster role and subjects: `group:`, `user:`, or `sa:` for a service account of `kube-system`.
const CLUSTER_BINDINGS: &[(&str, &str)] = &[
    ("cluster-admin", "group:system:masters"),
    ("system:basic-user", "group:system:authenticated"),
    (
        "system:cluster-trust-bundle-discovery",
        "group:system:serviceaccounts",
    ),
    ("system:discovery", "group:system:authenticated"),
    (
        "system:kube-controller-manager",
        "user:system:kube-controller-manager",
    ),
    ("system:kube-dns", "sa:kube-dns"),
    ("system:kube-scheduler", "user:system:kube-scheduler"),
    ("system:monitoring", "group:system:monitoring"),
    ("system:node", ""),
    ("system:node-proxier", "user:system:kube-proxy"),
    (
        "system:public-info-viewer",
        "group:system:authenticated group:system:unauthenticated",
    ),
    (
        "system:service-account-issuer-discovery",
        "group:system:serviceaccounts",
    ),
    (
        "system:validatingadmissionpolicy-type-checker",
        "sa:validatingadmissionpolicy-status-controller",
    ),
    ("system:volume-scheduler", "user:system:kube-scheduler"),
];

/// Namespace, name, role and subjects.
const BINDINGS: &[(&str, &str, &str, &str)] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        "sa:bootstrap-signer",
    ),
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        "user:system:kube-controller-manager user:system:kube-scheduler",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        "user:system:kube-controller-manager sa:kube-controller-manager sa:leader-election-controller",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        "user:system:kube-scheduler sa:kube-scheduler",
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        "sa:bootstrap-signer",
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        "sa:cloud-provider",
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        "sa:token-cleaner",
    ),
];

fn controller_role(controller: &str) -> String {
    format!("system:controller:{controller}")
}

fn object(api_version: &str, kind: &str, metadata: Value, rest: Value) -> Object {
    let mut object = Object::default();
    object.set_type(api_version, kind);
    object.0.insert("metadata".into(), metadata);
    if let Value::Object(rest) = rest {
        object.0.extend(rest);
    }
    object
}

fn rbac(kind: &str, metadata: Value, rest: Value) -> Object {
    object("rbac.authorization.k8s.io/v1", kind, metadata, rest)
}

fn metadata(namespace: &str, name: &str, joins: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "annotations": {AUTO_UPDATE: "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    if !joins.is_empty() {
        metadata["labels"][aggregate_label(joins)] = "true".into();
    }
    metadata
}

fn aggregate_label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

fn rules_of(rules: &[RuleRow]) -> Value {
    let rules: Vec<PolicyRule> = rules.iter().map(RuleRow::rule).collect();
    json!(rules)
}

fn cluster_role(row: &rows::RoleRow) -> Object {
    let mut rest = json!({});
    if row.gathers.is_empty() {
        rest["rules"] = rules_of(row.rules);
    } else {
        let labels = json!({aggregate_label(row.gathers): "true"});
        rest["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        rest["rules"] = Value::Null;
    }
    rbac("ClusterRole", metadata("", row.name, row.joins), rest)
}

fn binding(namespace: &str, name: &str, role: (&str, &str), subjects: &str) -> Object {
    let role = json!({"apiGroup": GROUP, "kind": role.0, "name": role.1});
    let subjects: Vec<Value> = subjects.split_whitespace().filter_map(subject).collect();
    let mut rest = json!({"roleRef": role});
    if !subjects.is_empty() {
        rest["subjects"] = subjects.into();
    }
    let kind = if namespace.is_empty() {
        "ClusterRoleBinding"
    } else {
        "RoleBinding"
    };
    rbac(kind, metadata(namespace, name, ""), rest)
}

fn subject(row: &str) -> Option<Value> {
    let (kind, name) = row.split_once(':')?;
    Some(match kind {
        "group" => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
        "user" => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
        _ => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
    })
}

#[cfg(test)]
mod tests;
