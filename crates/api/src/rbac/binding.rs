//! RoleBinding and ClusterRoleBinding: who has a role. The role of a binding never changes.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{
    ClusterRoleBinding as TypedClusterRoleBinding, RoleBinding as TypedRoleBinding, RoleRef,
    Subject,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use super::GROUP;
use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{Items, OrEmpty, fill};

/// The kind `RoleBinding`.
pub struct RoleBinding;

impl Kind for RoleBinding {
    type Object = TypedRoleBinding;
    const NAMES: Names = Names::new(GROUP, "v1", "RoleBinding", "rolebindings", "rolebinding");
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Role",
            "roleRef can reference a Role in the current namespace or a \
                               ClusterRole in the global namespace. If the RoleRef cannot be \
                               resolved, the Authorizer must return an error.",
        ),
        columns::AGE,
        columns::wide("Users", "Users in the roleBinding"),
        columns::wide("Groups", "Groups in the roleBinding"),
        columns::wide("ServiceAccounts", "ServiceAccounts in the roleBinding"),
    ];
    const CREATE_ON_UPDATE: bool = true;

    fn default(object: &mut TypedRoleBinding) {
        default(&mut object.role_ref, object.subjects.as_mut());
    }

    fn validate_create(_context: &Context, new: &TypedRoleBinding) -> ErrorList {
        let kinds = ["Role", "ClusterRole"];
        validate(&new.role_ref, &kinds, new.subjects.items(), true)
    }

    fn validate_update(
        context: &Context,
        _part: Part,
        new: &TypedRoleBinding,
        old: &TypedRoleBinding,
    ) -> ErrorList {
        let mut errors = Self::validate_create(context, new);
        errors.immutable(&Path::new("roleRef"), &new.role_ref, &old.role_ref);
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        kind::path_segment(name, prefix)
    }

    fn row(object: &TypedRoleBinding, tree: &Object, now: Timestamp) -> Row {
        row(&object.role_ref, object.subjects.items(), tree, now)
    }
}

/// The kind `ClusterRoleBinding`.
pub struct ClusterRoleBinding;

impl Kind for ClusterRoleBinding {
    type Object = TypedClusterRoleBinding;
    const NAMES: Names = Names::new(
        GROUP,
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        "clusterrolebinding",
    );
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Role",
            "roleRef can only reference a ClusterRole in the global namespace. If \
                               the RoleRef cannot be resolved, the Authorizer must return an error.",
        ),
        columns::AGE,
        columns::wide("Users", "Users in the clusterRoleBinding"),
        columns::wide("Groups", "Groups in the clusterRoleBinding"),
        columns::wide(
            "ServiceAccounts",
            "ServiceAccounts in the clusterRoleBinding",
        ),
    ];
    const CREATE_ON_UPDATE: bool = true;

    fn default(object: &mut TypedClusterRoleBinding) {
        default(&mut object.role_ref, object.subjects.as_mut());
    }

    fn validate_create(_context: &Context, new: &TypedClusterRoleBinding) -> ErrorList {
        validate(&new.role_ref, &["ClusterRole"], new.subjects.items(), false)
    }

    fn validate_update(
        context: &Context,
        _part: Part,
        new: &TypedClusterRoleBinding,
        old: &TypedClusterRoleBinding,
    ) -> ErrorList {
        let mut errors = Self::validate_create(context, new);
        errors.immutable(&Path::new("roleRef"), &new.role_ref, &old.role_ref);
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        kind::path_segment(name, prefix)
    }

    fn row(object: &TypedClusterRoleBinding, tree: &Object, now: Timestamp) -> Row {
        row(&object.role_ref, object.subjects.items(), tree, now)
    }
}

fn default(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    fill(&mut role.api_group, GROUP);
    for subject in subjects.into_iter().flatten() {
        if matches!(subject.kind.as_str(), "User" | "Group") {
            fill(&mut subject.api_group, GROUP);
        }
    }
}

fn validate(role: &RoleRef, kinds: &[&str], subjects: &[Subject], namespaced: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("roleRef");
    errors.one_of(&path.child("apiGroup"), role.api_group.text(), &[GROUP]);
    errors.one_of(&path.child("kind"), &role.kind, kinds);
    let at = path.child("name");
    if errors.required_text(&at, &role.name, "") {
        errors.invalid_each(&at, &role.name, names::path_segment_name(&role.name));
    }
    for (i, subject) in subjects.iter().enumerate() {
        validate_subject(
            &mut errors,
            &Path::new("subjects").index(i),
            subject,
            namespaced,
        );
    }
    errors
}

fn validate_subject(errors: &mut ErrorList, path: &Path, subject: &Subject, namespaced: bool) {
    let group = subject.api_group.text();
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                let messages = names::dns1123_subdomain(&subject.name);
                errors.invalid_each(&path.child("name"), &subject.name, messages);
            }
            errors.one_of(&path.child("apiGroup"), group, &[""]);
            if !namespaced {
                errors.required_text(&path.child("namespace"), subject.namespace.text(), "");
            }
        }
        "User" | "Group" => errors.one_of(&path.child("apiGroup"), group, &[GROUP]),
        other => {
            let known = ["ServiceAccount", "User", "Group"];
            errors.not_supported(&path.child("kind"), other, &known);
        }
    }
    errors.required_text(&path.child("name"), &subject.name, "");
}

fn row(role: &RoleRef, subjects: &[Subject], tree: &Object, now: Timestamp) -> Row {
    let of_kind = |kind: &str| {
        let subjects = subjects.iter().filter(|s| s.kind == kind);
        let names = subjects.map(|s| match kind {
            "ServiceAccount" => format!("{}/{}", s.namespace.text(), s.name),
            _ => s.name.clone(),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    Row::from(vec![
        tree.name().into(),
        format!("{}/{}", role.kind, role.name).into(),
        kind::age(tree, now).into(),
        of_kind("User").into(),
        of_kind("Group").into(),
        of_kind("ServiceAccount").into(),
    ])
}
