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
    /// What went wrong on the way to the decision; empty when nothing did.
    pub error: String,
}

impl Verdict {
    /// Allowed.
    pub fn allow(reason: impl Into<String>) -> Self {
        Self {
            decision: Decision::Allow,
            reason: reason.into(),
            error: String::new(),
        }
    }

    /// No opinion.
    pub fn no_opinion(reason: impl Into<String>) -> Self {
        Self {
            decision: Decision::NoOpinion,
            reason: reason.into(),
            error: String::new(),
        }
    }

    /// Forbidden.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self {
            decision: Decision::Deny,
            reason: reason.into(),
            error: String::new(),
        }
    }

    /// A decision that stands for one that could not be made.
    pub fn failed(decision: Decision, error: impl Into<String>) -> Self {
        Self {
            decision,
            reason: String::new(),
            error: error.into(),
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

    /// None are told: the group's power stands in no rule.
    fn rules_for(&self, _: &User, _: &str) -> Rules {
        Rules::default()
    }
}

/// Gives the same answer to everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Always {
    /// Everything is allowed.
    Allow,
    /// Nothing is; whoever is asked later may still allow it.
    Deny,
}

impl Authorizer for Always {
    fn authorize(&self, _: &Attributes) -> Verdict {
        match self {
            Self::Allow => Verdict::allow(""),
            Self::Deny => Verdict::no_opinion("Everything is forbidden."),
        }
    }

    fn rules_for(&self, _: &User, _: &str) -> Rules {
        let all = || Some(vec!["*".to_owned()]);
        let verbs = || vec!["*".to_owned()];
        match self {
            Self::Deny => Rules::default(),
            Self::Allow => Rules {
                resource: vec![ResourceRule {
                    verbs: verbs(),
                    api_groups: all(),
                    resources: all(),
                    resource_names: None,
                }],
                non_resource: vec![NonResourceRule {
                    verbs: verbs(),
                    non_resource_urls: all(),
                }],
                ..Rules::default()
            },
        }
    }
}

/// Several authorizers in order: the first that allows or denies decides.
pub struct Union(pub Vec<Arc<dyn Authorizer>>);

impl Authorizer for Union {
    fn authorize(&self, attributes: &Attributes) -> Verdict {
        let mut opinions = Opinions::default();
        for authorizer in &self.0 {
            if let Some(decided) = opinions.hear(authorizer.authorize(attributes)) {
                return decided;
            }
        }
        opinions.none()
    }

    fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let all = self.0.iter().map(|one| one.rules_for(user, namespace));
        Rules::merge(all)
    }
}

/// What has been heard from authorizers that had no opinion.
#[derive(Debug, Default)]
pub struct Opinions {
    reasons: Vec<String>,
    errors: Vec<String>,
}

impl Opinions {
    /// Listens to one; gives a verdict that decides back.
    pub fn hear(&mut self, verdict: Verdict) -> Option<Verdict> {
        if verdict.decision != Decision::NoOpinion {
            return Some(verdict);
        }
        let kept = |text: &String| !text.is_empty();
        self.reasons.extend(Some(verdict.reason).filter(kept));
        self.errors.extend(Some(verdict.error).filter(kept));
        None
    }

    /// The verdict when nobody decided.
    pub fn none(self) -> Verdict {
        Verdict {
            decision: Decision::NoOpinion,
            reason: self.reasons.join("\n"),
            error: aggregate(&self.errors),
        }
    }
}

impl Rules {
    /// What several authorizers would allow together.
    pub fn merge(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        let mut errors = Vec::new();
        for mut rules in parts {
            all.resource.append(&mut rules.resource);
            all.non_resource.append(&mut rules.non_resource);
            all.incomplete |= rules.incomplete;
            if !rules.evaluation_error.is_empty() {
                errors.push(rules.evaluation_error);
            }
        }
        all.evaluation_error = aggregate(&errors);
        all
    }
}

/// Several errors as one text.
pub(crate) fn aggregate(errors: &[String]) -> String {
    let mut texts: Vec<&str> = Vec::new();
    for error in errors {
        if !texts.contains(&error.as_str()) {
            texts.push(error);
        }
    }
    match texts.as_slice() {
        [one] => (*one).to_owned(),
        [] => String::new(),
        many => format!("[{}]", many.join(", ")),
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
