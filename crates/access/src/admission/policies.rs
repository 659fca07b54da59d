//! Admission policies in force: what policies and their bindings say about a write.
//!
//! [`Policies`] follows policies and bindings of both kinds, compiled; a [`Hook`] is a policy that a binding puts in force. Whoever
//! holds a write asks a hook which [`Binding`]s are about it and under which of the resource's names, finds their parameters
//! ([`Hook::params`]), and shows the write in that form ([`Shown`]): to [`Hook::validate`] for what it has against it, to
//! [`Hook::mutate`] for what it makes of it. [`validation`] has the words of a refusal.
//! Behaviour and wording: `k8s.io/apiserver/pkg/admission/plugin/policy/{validating,mutating,generic,matching}`.

mod compiled;
mod criteria;
pub mod mutation;
mod params;
pub mod rights;
pub mod validation;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicyBinding, ParamRef, ValidatingAdmissionPolicyBinding,
};
use machinery::{ApiError, Object};
use serde_json::Value;

use super::expression::{Asker, Facts};
use super::manifests::STATIC;
use super::rules::Subject;
use crate::{Authorizer, Lookup, User};
pub use compiled::Decision;
use compiled::Policy;
use criteria::Matching;
pub use mutation::Mutated;

/// The group of policies and bindings.
pub const GROUP: &str = "admissionregistration.k8s.io";

/// What is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Policies.
    Policy,
    /// Bindings.
    Binding,
}

/// What a resource holds, if it is one of those that are followed: whether for changes, and what.
pub fn part_of(group: &str, resource: &str) -> Option<(bool, Part)> {
    match (group, resource) {
        (GROUP, "mutatingadmissionpolicies") => Some((true, Part::Policy)),
        (GROUP, "mutatingadmissionpolicybindings") => Some((true, Part::Binding)),
        (GROUP, "validatingadmissionpolicies") => Some((false, Part::Policy)),
        (GROUP, "validatingadmissionpolicybindings") => Some((false, Part::Binding)),
        _ => None,
    }
}

/// The policies in force, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    policies: BTreeMap<(bool, String), Arc<Policy>>,
    bindings: BTreeMap<(bool, String), Arc<Binding>>,
    mutating: Vec<Arc<Hook>>,
    validating: Vec<Arc<Hook>>,
}

impl Policies {
    /// Those that may change objects.
    pub fn mutating(&self) -> &[Arc<Hook>] {
        &self.mutating
    }

    /// Those that may only refuse.
    pub fn validating(&self) -> &[Arc<Hook>] {
        &self.validating
    }

    /// Takes a policy or a binding in, or what it says now; `None` when it is gone.
    pub fn apply(&mut self, mutating: bool, part: Part, name: &str, object: Option<&Object>) {
        let key = (mutating, name.to_owned());
        match part {
            Part::Policy => match object.and_then(|o| Policy::of(mutating, o)) {
                Some(policy) => drop(self.policies.insert(key, Arc::new(policy))),
                None => drop(self.policies.remove(&key)),
            },
            Part::Binding => match object.and_then(|o| Binding::of(mutating, o)) {
                Some(binding) => drop(self.bindings.insert(key, Arc::new(binding))),
                None => drop(self.bindings.remove(&key)),
            },
        }
        let hooks = self.hooks(mutating);
        match mutating {
            true => self.mutating = hooks,
            false => self.validating = hooks,
        }
    }

    /// Those of files come first.
    fn hooks(&self, mutating: bool) -> Vec<Arc<Hook>> {
        let mut hooks = self.hooks_by_name(mutating);
        hooks.sort_by_key(|hook| !hook.is_static());
        hooks
    }

    fn hooks_by_name(&self, mutating: bool) -> Vec<Arc<Hook>> {
        let own = self.policies.iter().filter(|(key, _)| key.0 == mutating);
        own.filter_map(|((_, name), policy)| {
            let all = self.bindings.iter().filter(|(key, _)| key.0 == mutating);
            let own = all.filter(|(_, binding)| binding.policy == *name);
            let bindings: Vec<Arc<Binding>> = own.map(|(_, binding)| binding.clone()).collect();
            (!bindings.is_empty()).then(|| {
                Arc::new(Hook {
                    name: name.clone(),
                    policy: policy.clone(),
                    bindings,
                })
            })
        })
        .collect()
    }
}

/// Where a policy is in force.
#[derive(Debug)]
pub struct Binding {
    /// Its name.
    pub name: String,
    policy: String,
    matching: Option<Matching>,
    params: Option<ParamRef>,
    /// What follows when the policy has something against a write.
    pub actions: Vec<String>,
}

impl Binding {
    fn of(mutating: bool, object: &Object) -> Option<Self> {
        let name = object.name().to_owned();
        let matching = |resources: Option<_>| resources.as_ref().map(Matching::new);
        if mutating {
            let spec = object.view::<MutatingAdmissionPolicyBinding>().ok()?.spec?;
            return Some(Self {
                name,
                policy: spec.policy_name.unwrap_or_default(),
                matching: matching(spec.match_resources),
                params: spec.param_ref,
                actions: Vec::new(),
            });
        }
        let typed: ValidatingAdmissionPolicyBinding = object.view().ok()?;
        let spec = typed.spec;
        Some(Self {
            name,
            policy: spec.policy_name,
            matching: matching(spec.match_resources),
            params: spec.param_ref,
            actions: spec.validation_actions,
        })
    }

    /// Whether the binding is about a write; `name` is that of the object.
    ///
    /// # Errors
    /// The namespace that is selected by labels is not there.
    pub fn concerns(&self, subject: &Subject<'_>, name: &str) -> Result<bool, ApiError> {
        match &self.matching {
            None => Ok(true),
            Some(matching) => Ok(matching.place(subject, name)?.is_some()),
        }
    }
}

/// A write as an expression sees it, in one of its forms.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The value of `request`.
    pub request: &'a Value,
    /// The object, if there is one.
    pub object: Option<&'a Value>,
    /// What was there before.
    pub old: Option<&'a Value>,
    /// The namespace that it is in.
    pub namespace: Option<&'a Value>,
    /// The parameters, if there are any.
    pub params: Option<&'a Value>,
    /// Who writes.
    pub user: &'a User,
    /// Answers for what the user may do.
    pub authorizer: &'a dyn Authorizer,
}

impl<'a> Shown<'a> {
    /// The facts of expressions that ask for no rights.
    fn facts(&self, takes_params: bool) -> Facts<'a> {
        let facts = Facts::admission(self.request, self.object, self.old, self.namespace);
        match takes_params {
            true => facts.with_params(self.params),
            false => facts,
        }
    }

    /// The facts of expressions that may.
    fn facts_with_authorizer(&self, takes_params: bool) -> Facts<'a> {
        let asker = Asker::new(self.user, self.authorizer);
        self.facts(takes_params)
            .with_authorizer(asker, self.request)
    }
}

/// A policy that bindings put in force.
#[derive(Debug)]
pub struct Hook {
    /// The name of the policy.
    pub name: String,
    policy: Arc<Policy>,
    /// Its bindings, by name.
    pub bindings: Vec<Arc<Binding>>,
}

impl Hook {
    /// Whether it stands in a file.
    pub fn is_static(&self) -> bool {
        self.name.ends_with(STATIC)
    }

    /// The place in the names of a write's resource of the one that the policy is about, if it is; `name` is that of the object.
    ///
    /// # Errors
    /// The namespace that is selected by labels is not there.
    pub fn concerns(&self, subject: &Subject<'_>, name: &str) -> Result<Option<usize>, ApiError> {
        match &self.policy.matching {
            None => Ok(None),
            Some(matching) => matching.place(subject, name),
        }
    }

    /// What goes wrong is as if the policy were not there.
    pub fn ignores_failures(&self) -> bool {
        self.policy.ignores_failures
    }

    /// What is wrong with the policy as such, so that no binding of it can be asked.
    ///
    /// # Errors
    /// The kind of its parameters is unknown.
    pub fn ready(&self, lookup: &dyn Lookup) -> Result<(), String> {
        params::known(self.policy.param_kind.as_ref(), lookup)
    }

    /// The parameters of a binding for a write in a namespace; one that takes none is asked once without.
    ///
    /// # Errors
    /// What is missing or contradicts itself; for the failure policy.
    pub fn params(
        &self,
        binding: &Binding,
        namespace: &str,
        lookup: &dyn Lookup,
    ) -> Result<Vec<Option<Value>>, String> {
        let kind = self.policy.param_kind.as_ref();
        params::collect(kind, binding.params.as_ref(), namespace, lookup)
    }
}

#[cfg(test)]
mod tests;
