//! A policy with its expressions compiled, and what it says.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingAdmissionPolicy, ParamKind, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicySpec, Variable,
};
use machinery::Object;
use machinery::cel::Val;

use super::criteria::Matching;
use super::mutation::Change;
use super::{Hook, Shown};
use crate::admission::expression::conditions::{self, Condition, Matched};
use crate::admission::expression::{
    BUDGET, Budget, Compiled, Environment, Facts, Failure, Options, Type, evaluate,
};

const MAX_MESSAGE: usize = 5 * 1024;

/// A rule.
#[derive(Debug)]
struct Rule {
    text: String,
    expression: Result<Compiled, String>,
    message: String,
    message_expression: Option<Compiled>,
    reason: String,
}

/// A policy that can be asked.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) matching: Option<Matching>,
    pub(super) param_kind: Option<ParamKind>,
    /// What goes wrong is as if the policy were not there.
    pub(super) ignores_failures: bool,
    conditions: Vec<Condition>,
    pub(super) variables: Vec<(String, Result<Compiled, String>)>,
    rules: Vec<Rule>,
    annotations: Vec<(String, Result<Compiled, String>)>,
    pub(super) changes: Vec<Change>,
    /// Wants to see what others made of the object after it.
    pub(super) wants_again: bool,
}

/// What one rule of a policy says about a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing against it.
    Admit,
    /// It cannot be told, and need not be.
    Ignored(String),
    /// It could not be told.
    Failed(String),
    /// It breaks the rule: message and reason.
    Deny(String, String),
}

/// What a policy says about a write.
#[derive(Clone, Debug, Default)]
pub struct Opinion {
    /// One for each rule; or one, when none was looked at.
    pub decisions: Vec<Decision>,
    /// Key and value for the audit log.
    pub annotations: Vec<(String, String)>,
    /// Annotations that could not be worked out, of a policy that does not ignore failures.
    pub failed_annotations: Vec<String>,
}

/// What an expression of a policy may use.
struct Environments {
    plain: Environment<'static>,
    full: Environment<'static>,
    variables: Vec<(String, Result<Compiled, String>)>,
}

impl Environments {
    fn new(params: bool, variables: Option<&Vec<Variable>>) -> Self {
        let plain = Environment::admission(Options {
            params,
            authorizer: true,
        });
        let mut full = plain.clone().composed();
        let all = variables.into_iter().flatten();
        let variables = all
            .map(|v| (v.name.clone(), full.compose(&v.name, &v.expression)))
            .collect();
        Self {
            plain,
            full,
            variables,
        }
    }

    fn conditions(&self, all: Option<&Vec<MatchCondition>>) -> Vec<Condition> {
        let all = all.into_iter().flatten().map(|c| Condition {
            name: c.name.clone(),
            expression: self.plain.compile(c.expression.trim(), &[Type::Bool]),
        });
        all.collect()
    }
}

impl Policy {
    /// Compiles a policy; none when the object is none.
    pub(super) fn of(mutating: bool, object: &Object) -> Option<Self> {
        match mutating {
            true => Self::mutating(object),
            false => {
                let typed: ValidatingAdmissionPolicy = object.view().ok()?;
                Some(Self::validating(typed.spec?))
            }
        }
    }

    fn mutating(object: &Object) -> Option<Self> {
        let spec = object.view::<MutatingAdmissionPolicy>().ok()?.spec?;
        let environments = Environments::new(spec.param_kind.is_some(), spec.variables.as_ref());
        let full = environments.full.clone().with_patches();
        let changes = spec.mutations.iter().flatten();
        Some(Self {
            matching: spec.match_constraints.as_ref().map(Matching::new),
            param_kind: spec.param_kind,
            ignores_failures: spec.failure_policy.as_deref() == Some("Ignore"),
            conditions: environments.conditions(spec.match_conditions.as_ref()),
            variables: environments.variables,
            rules: Vec::new(),
            annotations: Vec::new(),
            changes: changes.filter_map(|m| Change::of(m, &full)).collect(),
            wants_again: spec.reinvocation_policy.as_deref() == Some("IfNeeded"),
        })
    }

    fn validating(spec: ValidatingAdmissionPolicySpec) -> Self {
        let params = spec.param_kind.is_some();
        let environments = Environments::new(params, spec.variables.as_ref());
        let full = &environments.full;
        let authorizer = false;
        let message = Environment::admission(Options { params, authorizer }).composed_as(full);
        let rules = spec.validations.iter().flatten().map(|v| Rule {
            text: v.expression.trim().to_owned(),
            expression: full.compile(&v.expression, &[Type::Bool]),
            message: v.message.as_deref().unwrap_or_default().trim().to_owned(),
            message_expression: v
                .message_expression
                .as_deref()
                .filter(|text| !text.trim().is_empty())
                .and_then(|text| message.compile(text, &[Type::String]).ok()),
            reason: v.reason.clone().unwrap_or_else(|| "Invalid".to_owned()),
        });
        let rules = rules.collect();
        let annotations = spec.audit_annotations.iter().flatten().map(|a| {
            let text = a.value_expression.trim();
            let compiled = full.compile(text, &[Type::String, Type::Null]);
            (a.key.clone(), compiled)
        });
        let annotations = annotations.collect();
        Self {
            ignores_failures: spec.failure_policy.as_deref() == Some("Ignore"),
            matching: spec.match_constraints.as_ref().map(Matching::new),
            param_kind: spec.param_kind,
            conditions: environments.conditions(spec.match_conditions.as_ref()),
            variables: environments.variables,
            rules,
            annotations,
            changes: Vec::new(),
            wants_again: false,
        }
    }

    pub(super) fn takes_params(&self) -> bool {
        self.param_kind.is_some()
    }

    /// Whether the conditions of the policy hold; the error is for the failure policy.
    pub(super) fn meets(&self, shown: &Shown<'_>) -> Result<bool, String> {
        let facts = shown.facts_with_authorizer(self.takes_params());
        match conditions::check(&self.conditions, &facts) {
            Matched::Yes => Ok(true),
            Matched::No(_) => Ok(false),
            Matched::Unknown(_) if self.ignores_failures => Ok(false),
            Matched::Unknown(why) => Err(why),
        }
    }

    fn failed(&self, why: impl Into<String>) -> Decision {
        match self.ignores_failures {
            true => Decision::Ignored(why.into()),
            false => Decision::Failed(why.into()),
        }
    }

    fn annotate<'a>(&'a self, facts: &Facts<'a>, opinion: &mut Opinion) {
        let mut budget = Budget(BUDGET);
        for (key, annotation) in &self.annotations {
            let result = match annotation {
                Ok(compiled) => evaluate(compiled, facts, &mut budget),
                Err(why) => Err(Failure::Failed(format!("compilation error: {why}"))),
            };
            match result {
                Ok(Val::Str(text)) if !text.trim().is_empty() => {
                    let value = text.trim().to_owned();
                    opinion.annotations.push((key.clone(), value));
                }
                Ok(_) => {}
                Err(Failure::Budget) => {
                    opinion.decisions = vec![self.failed(Failure::Budget.to_string())];
                    opinion.annotations.clear();
                    opinion.failed_annotations.clear();
                    return;
                }
                Err(_) if self.ignores_failures => {}
                Err(why) => opinion.failed_annotations.push(why.to_string()),
            }
        }
    }
}

impl Hook {
    /// What the policy has against a write, and what it notes about it.
    pub fn validate(&self, shown: &Shown<'_>) -> Opinion {
        let policy = &*self.policy;
        let one = |decision| Opinion {
            decisions: vec![decision],
            ..Opinion::default()
        };
        match policy.meets(shown) {
            Ok(true) => {}
            Ok(false) => return Opinion::default(),
            Err(why) => return one(policy.failed(why)),
        }
        let params = policy.takes_params();
        let full = shown
            .facts_with_authorizer(params)
            .with_variables(&policy.variables);
        let messages = shown.facts(params).with_variables(&policy.variables);
        let mut budget = Budget(BUDGET);
        let mut results = Vec::new();
        for rule in &policy.rules {
            let result = match &rule.expression {
                Ok(compiled) => evaluate(compiled, &full, &mut budget),
                Err(why) => Err(Failure::Failed(format!("compilation error: {why}"))),
            };
            if matches!(result, Err(Failure::Budget)) {
                return one(policy.failed(Failure::Budget.to_string()));
            }
            results.push(result.map(|value| matches!(value, Val::Bool(true))));
        }
        let mut opinion = Opinion::default();
        for (rule, result) in policy.rules.iter().zip(results) {
            opinion.decisions.push(match result {
                Ok(true) => Decision::Admit,
                Ok(false) => Decision::Deny(rule.told(&messages, &mut budget), rule.reason.clone()),
                Err(why) => policy.failed(why.to_string()),
            });
        }
        policy.annotate(&messages, &mut opinion);
        opinion
    }
}

impl Rule {
    /// What whoever breaks the rule is told.
    fn told<'a>(&'a self, facts: &Facts<'a>, budget: &mut Budget) -> String {
        if let Some(compiled) = &self.message_expression
            && let Ok(Val::Str(text)) = evaluate(compiled, facts, budget)
        {
            let text = text.trim();
            if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n') {
                return text.to_owned();
            }
        }
        match self.message.as_str() {
            "" => format!("failed expression: {}", self.text),
            message => message.to_owned(),
        }
    }
}
