//! Nobody may grant what he does not hold: checks on writes to roles and bindings.
//!
//! Behaviour: `pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased`.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, RoleRef};
use machinery::{ApiError, Object};
use serde_json::Value;

use super::index::{Index, RoleError, aggregate};
use super::{GROUP, rule};
use crate::quote::{quote, quote_all};
use crate::user::SYSTEM_MASTERS;
use crate::{Attributes, Authorizer};

/// Whether a write is one of roles or bindings, which nobody may use to give away what he does not hold.
pub fn is_policy(attributes: &Attributes) -> bool {
    attributes.api_group == GROUP && attributes.subresource.is_empty()
}

/// Whether the write (a create without `old`, else an update or patch) of one of the four kinds would give away more
/// than its writer holds. `attributes` are those of the request; other kinds pass.
///
/// # Errors
/// `Forbidden` with the missing permissions, or `NotFound` for the role of a binding.
pub fn check_write(
    attributes: &Attributes,
    new: &Object,
    old: Option<&Object>,
    index: &Index,
    authorizer: &dyn Authorizer,
) -> Result<(), ApiError> {
    if !is_policy(attributes) || attributes.user.is_in(SYSTEM_MASTERS) {
        return Ok(());
    }
    let check = Check {
        attributes,
        new,
        index,
        authorizer,
    };
    match attributes.resource.as_str() {
        "roles" | "clusterroles" => {
            if check.may_escalate() || old.is_some_and(|old| only_collector_fields(new, old)) {
                return Ok(());
            }
            check.role(old)
        }
        "rolebindings" | "clusterrolebindings" => {
            if old.is_some_and(|old| only_collector_fields(new, old)) {
                return Ok(());
            }
            check.binding()
        }
        _ => Ok(()),
    }
}

struct Check<'a> {
    attributes: &'a Attributes,
    new: &'a Object,
    index: &'a Index,
    authorizer: &'a dyn Authorizer,
}

impl Check<'_> {
    fn may_escalate(&self) -> bool {
        let from = self.attributes;
        let mut attributes =
            Attributes::resource(&from.user, "escalate", &from.api_group, &from.resource);
        attributes.api_version = "*".to_owned();
        attributes.name.clone_from(&from.name);
        attributes.namespace.clone_from(&from.namespace);
        self.authorizer.authorize(&attributes).is_allowed()
    }

    fn role(&self, old: Option<&Object>) -> Result<(), ApiError> {
        // Role and ClusterRole have the same rules; a tree without the shape is refused later, by validation.
        let Ok(role) = self.new.view::<ClusterRole>() else {
            return Ok(());
        };
        self.confirm_held(&role.rules.unwrap_or_default())?;
        if self.attributes.resource != "clusterroles" {
            return Ok(());
        }
        if [Some(self.new), old].into_iter().flatten().any(aggregates) {
            let held = self.confirm_held(&full_authority());
            held.map_err(|_| {
                self.forbidden("must have cluster-admin privileges to use the aggregationRule")
            })?;
        }
        Ok(())
    }

    fn binding(&self) -> Result<(), ApiError> {
        let Some(role) = self.new.0.get("roleRef") else {
            return Ok(());
        };
        let Ok(role) = serde_json::from_value::<RoleRef>(role.clone()) else {
            return Ok(());
        };
        if self.may_bind(&role) {
            return Ok(());
        }
        let rules = match self.index.role_rules(&role, &self.attributes.namespace) {
            Ok(rules) => rules.to_vec(),
            Err(RoleError::NotFound { kind, name }) => {
                return Err(ApiError::not_found(GROUP, kind, &name));
            }
            Err(error @ RoleError::UnsupportedKind(_)) => return Err(ApiError::internal(error)),
        };
        self.confirm_held(&rules)
    }

    fn may_bind(&self, role: &RoleRef) -> bool {
        let resource = match role.kind.as_str() {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            _ => return false,
        };
        let group = role
            .api_group
            .as_deref()
            .filter(|g| !g.is_empty())
            .unwrap_or(GROUP);
        let mut attributes = Attributes::resource(&self.attributes.user, "bind", group, resource);
        attributes.api_version = "*".to_owned();
        attributes.name.clone_from(&role.name);
        attributes.namespace.clone_from(&self.attributes.namespace);
        self.authorizer.authorize(&attributes).is_allowed()
    }

    fn confirm_held(&self, rules: &[PolicyRule]) -> Result<(), ApiError> {
        let user = &self.attributes.user;
        let (held, errors) = self.index.policy_of(user, &self.attributes.namespace);
        let missing = rule::uncovered(&held, rules);
        if missing.is_empty() {
            return Ok(());
        }
        let mut missing: Vec<String> = rule::compact(missing).iter().map(rule::describe).collect();
        missing.sort();
        missing.dedup();
        let mut why = format!(
            "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            quote(&user.name),
            quote_all(&user.groups),
            missing.join("\n")
        );
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", aggregate(&errors)));
        }
        Err(self.forbidden(&why))
    }

    fn forbidden(&self, why: &str) -> ApiError {
        ApiError::forbidden(GROUP, &self.attributes.resource, self.new.name(), why)
    }
}

fn aggregates(role: &Object) -> bool {
    let selectors = role.at(&["aggregationRule", "clusterRoleSelectors"]);
    selectors
        .and_then(Value::as_array)
        .is_some_and(|s| !s.is_empty())
}

fn full_authority() -> Vec<PolicyRule> {
    let all = || Some(vec!["*".to_owned()]);
    let verbs = || vec!["*".to_owned()];
    vec![
        PolicyRule {
            api_groups: all(),
            resources: all(),
            verbs: verbs(),
            ..PolicyRule::default()
        },
        PolicyRule {
            non_resource_urls: all(),
            verbs: verbs(),
            ..PolicyRule::default()
        },
    ]
}

/// The write touches only what the garbage collector touches.
pub(crate) fn only_collector_fields(new: &Object, old: &Object) -> bool {
    let stripped = |object: &Object| {
        let mut copy = object.clone();
        for key in ["ownerReferences", "finalizers", "managedFields"] {
            copy.metadata_mut().remove(key);
        }
        copy
    };
    stripped(new) == stripped(old)
}
