//! Roles and bindings, indexed by subject: a decision looks only at the bindings that name the user.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{NonResourceRule, ResourceRule};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use machinery::Object;

use super::{GROUP, rule};
use crate::quote::quote;
use crate::{Attributes, Authorizer, Rules, User, Verdict, user};

/// Namespace (empty for the cluster-wide kinds) and name.
type Key = (String, String);

/// All roles and bindings of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Index {
    roles: HashMap<Key, Arc<[PolicyRule]>>,
    bindings: HashMap<Key, Binding>,
    /// Namespace -> subject -> names of bindings, sorted so that equal policy gives equal reasons.
    by_subject: HashMap<String, HashMap<Who, BTreeSet<String>>>,
}

#[derive(Clone, Debug)]
struct Binding {
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// A subject as requests are matched: service accounts by their user name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    User(String),
    Group(String),
}

impl Who {
    fn new(subject: &Subject, binding_namespace: &str) -> Option<Self> {
        match subject.kind.as_str() {
            "User" => Some(Self::User(subject.name.clone())),
            "Group" => Some(Self::Group(subject.name.clone())),
            "ServiceAccount" => {
                let own = subject.namespace.as_deref().filter(|n| !n.is_empty());
                let namespace = own.unwrap_or(binding_namespace);
                (!namespace.is_empty())
                    .then(|| Self::User(user::service_account_name(namespace, &subject.name)))
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) => user.name == *name,
            Self::Group(group) => user.is_in(group),
        }
    }
}

impl Index {
    /// Takes over the newest state of a Role, ClusterRole, RoleBinding or ClusterRoleBinding; others are left alone.
    ///
    /// An object without the kind's shape grants nothing: it counts as deleted.
    pub fn apply(&mut self, object: &Object) {
        let key = (object.namespace().to_owned(), object.name().to_owned());
        match object.kind() {
            "Role" => self.set_role(key, object.view::<Role>().ok().map(|r| r.rules)),
            "ClusterRole" => self.set_role(key, object.view::<ClusterRole>().ok().map(|r| r.rules)),
            "RoleBinding" => {
                let binding = object.view::<RoleBinding>().ok();
                self.set_binding(key, binding.map(|b| (b.role_ref, b.subjects)));
            }
            "ClusterRoleBinding" => {
                let binding = object.view::<ClusterRoleBinding>().ok();
                self.set_binding(key, binding.map(|b| (b.role_ref, b.subjects)));
            }
            _ => {}
        }
    }

    /// Forgets an object of one of the four kinds.
    pub fn delete(&mut self, kind: &str, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        match kind {
            "Role" | "ClusterRole" => self.set_role(key, None),
            "RoleBinding" | "ClusterRoleBinding" => self.set_binding(key, None),
            _ => {}
        }
    }

    fn set_role(&mut self, key: Key, rules: Option<Option<Vec<PolicyRule>>>) {
        match rules {
            Some(rules) => self.roles.insert(key, rules.unwrap_or_default().into()),
            None => self.roles.remove(&key),
        };
    }

    fn set_binding(&mut self, key: Key, binding: Option<(RoleRef, Option<Vec<Subject>>)>) {
        let (namespace, name) = &key;
        if let Some(old) = self.bindings.remove(&key)
            && let Some(subjects) = self.by_subject.get_mut(namespace)
        {
            for who in old.subjects.iter().filter_map(|s| Who::new(s, namespace)) {
                if let Some(names) = subjects.get_mut(&who) {
                    names.remove(name);
                    if names.is_empty() {
                        subjects.remove(&who);
                    }
                }
            }
            if subjects.is_empty() {
                self.by_subject.remove(namespace);
            }
        }
        let Some((role, subjects)) = binding else {
            return;
        };
        let subjects = subjects.unwrap_or_default();
        let index = self.by_subject.entry(namespace.clone()).or_default();
        for who in subjects.iter().filter_map(|s| Who::new(s, namespace)) {
            index.entry(who).or_default().insert(name.clone());
        }
        self.bindings.insert(key, Binding { role, subjects });
    }

    /// The rules of the role a binding in `namespace` refers to.
    ///
    /// # Errors
    /// The role does not exist, or the reference is of an unknown kind.
    pub(super) fn role_rules(
        &self,
        role: &RoleRef,
        namespace: &str,
    ) -> Result<&[PolicyRule], RoleError> {
        let (namespace, kind) = match role.kind.as_str() {
            "Role" => (namespace, "role"),
            "ClusterRole" => ("", "clusterrole"),
            other => return Err(RoleError::UnsupportedKind(other.to_owned())),
        };
        let key = (namespace.to_owned(), role.name.clone());
        let name = role.name.clone();
        self.roles
            .get(&key)
            .map(|rules| &**rules)
            .ok_or(RoleError::NotFound { kind, name })
    }

    /// The bindings in a namespace (or cluster-wide, when empty) that name the user, sorted by name.
    fn bindings_of<'a>(&'a self, user: &User, namespace: &str) -> Vec<(&'a str, &'a Binding)> {
        let Some(index) = self.by_subject.get(namespace) else {
            return Vec::new();
        };
        let as_user = std::iter::once(Who::User(user.name.clone()));
        let as_member = user.groups.iter().map(|g| Who::Group(g.clone()));
        let names: BTreeSet<&str> = as_user
            .chain(as_member)
            .filter_map(|who| index.get(&who))
            .flatten()
            .map(String::as_str)
            .collect();
        let found = names.into_iter().filter_map(|name| {
            let key = (namespace.to_owned(), name.to_owned());
            self.bindings.get(&key).map(|binding| (name, binding))
        });
        found.collect()
    }

    /// Shows every rule that applies to the user, until `visit` returns false; gives back what could not be resolved.
    fn visit<'a>(
        &'a self,
        user: &User,
        namespace: &'a str,
        mut visit: impl FnMut(&Source<'a>, &'a PolicyRule) -> bool,
    ) -> Vec<RoleError> {
        let mut errors = Vec::new();
        let scopes = [""]
            .into_iter()
            .chain((!namespace.is_empty()).then_some(namespace));
        for scope in scopes {
            for (name, binding) in self.bindings_of(user, scope) {
                match self.role_rules(&binding.role, scope) {
                    Err(error) => errors.push(error),
                    Ok(rules) => {
                        let source = Source {
                            namespace: scope,
                            name,
                            binding,
                        };
                        if !rules.iter().all(|rule| visit(&source, rule)) {
                            return errors;
                        }
                    }
                }
            }
        }
        errors
    }

    /// All rules that apply to the user in a namespace, and what could not be resolved.
    pub(super) fn policy_of(
        &self,
        user: &User,
        namespace: &str,
    ) -> (Vec<PolicyRule>, Vec<RoleError>) {
        let mut rules = Vec::new();
        let errors = self.visit(user, namespace, |_, rule| {
            rules.push(rule.clone());
            true
        });
        (rules, errors)
    }
}

impl Authorizer for Index {
    fn authorize(&self, attributes: &Attributes) -> Verdict {
        let mut allowed = None;
        let errors = self.visit(&attributes.user, &attributes.namespace, |source, rule| {
            if rule::allows(rule, attributes) {
                allowed = Some(source.describe(&attributes.user));
            }
            allowed.is_none()
        });
        match allowed {
            Some(source) => Verdict::allow(format!("RBAC: allowed by {source}")),
            None if errors.is_empty() => Verdict::no_opinion(""),
            None => Verdict::no_opinion(format!("RBAC: {}", aggregate(&errors))),
        }
    }

    fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let (policy, errors) = self.policy_of(user, namespace);
        let mut rules = Rules {
            evaluation_error: aggregate(&errors),
            ..Rules::default()
        };
        let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
        for rule in policy {
            if some(&rule.resources) {
                rules.resource.push(ResourceRule {
                    verbs: rule.verbs.clone(),
                    api_groups: rule.api_groups,
                    resources: rule.resources,
                    resource_names: rule.resource_names,
                });
            }
            if some(&rule.non_resource_urls) {
                let non_resource_urls = rule.non_resource_urls;
                rules.non_resource.push(NonResourceRule {
                    verbs: rule.verbs,
                    non_resource_urls,
                });
            }
        }
        rules
    }
}

/// Where a rule comes from.
struct Source<'a> {
    namespace: &'a str,
    name: &'a str,
    binding: &'a Binding,
}

impl Source<'_> {
    fn describe(&self, user: &User) -> String {
        let applies = |s: &&Subject| Who::new(s, self.namespace).is_some_and(|who| who.is(user));
        let subject = self.binding.subjects.iter().find(applies);
        let subject = subject
            .map(|s| self.describe_subject(s))
            .unwrap_or_default();
        let role = &self.binding.role;
        let (kind, name) = match self.namespace {
            "" => ("ClusterRoleBinding", quote(self.name)),
            namespace => ("RoleBinding", quote(&format!("{}/{namespace}", self.name))),
        };
        format!(
            "{kind} {name} of {} {} to {subject}",
            role.kind,
            quote(&role.name)
        )
    }

    fn describe_subject(&self, subject: &Subject) -> String {
        let name = match (subject.kind.as_str(), subject.namespace.as_deref()) {
            ("ServiceAccount", Some(namespace)) if !namespace.is_empty() => {
                quote(&format!("{}/{namespace}", subject.name))
            }
            ("ServiceAccount", _) => quote(&format!("{}/{}", subject.name, self.namespace)),
            _ => quote(&subject.name),
        };
        format!("{} {name}", subject.kind)
    }
}

/// Why the rules of a binding are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RoleError {
    /// No such role.
    #[error("{kind}.{GROUP} {} not found", quote(name))]
    NotFound {
        /// `role` or `clusterrole`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Neither Role nor ClusterRole.
    #[error("unsupported role reference kind: {}", quote(.0))]
    UnsupportedKind(String),
}

/// Several errors in one text: the one, or a list without repetitions.
pub(super) fn aggregate(errors: &[RoleError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in errors.iter().map(ToString::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}
