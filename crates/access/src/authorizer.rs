//! The shape of every authorizer, and the ways to combine them.
//!
//! Behaviour: `k8s.io/apiserver/pkg/authorization/{authorizer,union,authorizerfactory}`.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use k8s_openapi::api::authorization::v1::{NonResourceRule, ResourceRule};

use crate::user::SYSTEM_MASTERS;
use crate::{Attributes, User};

/// What one authorizer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, whatever others say after this one.
    Allow,
    /// Somebody else may allow it.
    NoOpinion,
    /// Forbidden, whatever others say after this one.
    Deny,
}

/// A decision and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was decided.
    pub decision: Decision,
    /// Why, for audit, reviews and the text of a refusal; may be empty.
    pub reason: String,
}

impl Verdict {
    /// Allowed.
    pub fn allow(reason: impl Into<String>) -> Self {
        Self {
            decision: Decision::Allow,
            reason: reason.into(),
        }
    }

    /// No opinion.
    pub fn no_opinion(reason: impl Into<String>) -> Self {
        Self {
            decision: Decision::NoOpinion,
            reason: reason.into(),
        }
    }

    /// Forbidden.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self {
            decision: Decision::Deny,
            reason: reason.into(),
        }
    }

    /// The request may go on.
    pub fn is_allowed(&self) -> bool {
        self.decision == Decision::Allow
    }
}

/// What a user may do in a namespace, as `SelfSubjectRulesReview` shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Rules on resources.
    pub resource: Vec<ResourceRule>,
    /// Rules on paths.
    pub non_resource: Vec<NonResourceRule>,
    /// Some authorizer cannot list its rules.
    pub incomplete: bool,
    /// What went wrong on the way; empty when nothing did.
    pub evaluation_error: String,
}

/// Decides whether a request may be made.
pub trait Authorizer: Send + Sync {
    /// The decision.
    fn authorize(&self, attributes: &Attributes) -> Verdict;
    /// All this authorizer would allow the user in a namespace.
    fn rules_for(&self, user: &User, namespace: &str) -> Rules;
}

/// Allows everything to `system:masters`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Privileged;

impl Authorizer for Privileged {
    fn authorize(&self, attributes: &Attributes) -> Verdict {
        match attributes.user.is_in(SYSTEM_MASTERS) {
            true => Verdict::allow(""),
            false => Verdict::no_opinion(""),
        }
    }

    fn rules_for(&self, user: &User, _namespace: &str) -> Rules {
        if !user.is_in(SYSTEM_MASTERS) {
            return Rules::default();
        }
        let all = || Some(vec!["*".to_owned()]);
        Rules {
            resource: vec![ResourceRule {
                verbs: vec!["*".to_owned()],
                api_groups: all(),
                resources: all(),
                resource_names: None,
            }],
            non_resource: vec![NonResourceRule {
                verbs: vec!["*".to_owned()],
                non_resource_urls: all(),
            }],
            ..Rules::default()
        }
    }
}

/// Several authorizers in order: the first that allows or denies decides.
pub struct Union(pub Vec<Arc<dyn Authorizer>>);

impl Authorizer for Union {
    fn authorize(&self, attributes: &Attributes) -> Verdict {
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            let verdict = authorizer.authorize(attributes);
            if verdict.decision != Decision::NoOpinion {
                return verdict;
            }
            if !verdict.reason.is_empty() {
                reasons.push(verdict.reason);
            }
        }
        Verdict::no_opinion(reasons.join("\n"))
    }

    fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let mut all = Rules::default();
        let mut errors = Vec::new();
        for authorizer in &self.0 {
            let mut rules = authorizer.rules_for(user, namespace);
            all.resource.append(&mut rules.resource);
            all.non_resource.append(&mut rules.non_resource);
            all.incomplete |= rules.incomplete;
            if !rules.evaluation_error.is_empty() {
                errors.push(rules.evaluation_error);
            }
        }
        all.evaluation_error = match errors.as_slice() {
            [one] => one.clone(),
            [] => String::new(),
            many => format!("[{}]", many.join(", ")),
        };
        all
    }
}

/// Policy that is read by every request and changed by watch events.
#[derive(Debug, Default)]
pub struct Shared<T>(RwLock<T>);

impl<T> Shared<T> {
    /// Shares this state.
    pub fn new(state: T) -> Self {
        Self(RwLock::new(state))
    }

    /// The state, to read. A panic of a writer leaves the last complete assignment, so poisoning is no reason to stop.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, to change.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Authorizer> Authorizer for Shared<T> {
    fn authorize(&self, attributes: &Attributes) -> Verdict {
        self.read().authorize(attributes)
    }

    fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        self.read().rules_for(user, namespace)
    }
}
