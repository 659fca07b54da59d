//! A policy with its expressions compiled, and what it says.

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, ParamKind, ValidatingAdmissionPolicySpec,
};
use machinery::Object;
use machinery::cel::Val;
use serde_json::Value;

use super::matching::Target;
use crate::admission::expression::conditions::{self, Condition, Matched};
use crate::admission::expression::{
    Asker, BUDGET, Budget, Compiled, Environment, Facts, Failure, Options, Type, evaluate,
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
    pub(super) constraints: Option<MatchResources>,
    pub(super) param_kind: Option<ParamKind>,
    /// What goes wrong is as if the policy were not there.
    pub(super) ignores_failures: bool,
    conditions: Vec<Condition>,
    variables: Vec<(String, Result<Compiled, String>)>,
    rules: Vec<Rule>,
    annotations: Vec<Result<Compiled, String>>,
}

/// Something that a policy has against a write.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) message: String,
    pub(super) reason: String,
    /// Whatever the binding's actions are.
    pub(super) always: bool,
}

impl Denial {
    fn failure(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reason: "Invalid".to_owned(),
            always: false,
        }
    }
}

impl Policy {
    /// Compiles a policy; none when the object is none.
    pub(super) fn of(object: &Object) -> Option<Self> {
        let spec = object.0.get("spec")?.clone();
        let spec: ValidatingAdmissionPolicySpec = serde_json::from_value(spec).ok()?;
        let options = |authorizer| Options {
            params: spec.param_kind.is_some(),
            authorizer,
        };
        let plain = Environment::admission(options(true));
        let conditions = spec.match_conditions.iter().flatten().map(|c| Condition {
            name: c.name.clone(),
            expression: plain.compile(c.expression.trim(), &[Type::Bool]),
        });
        let conditions = conditions.collect();
        let mut full = Environment::admission(options(true)).composed();
        let variables = spec.variables.iter().flatten();
        let variables = variables.map(|v| (v.name.clone(), full.compose(&v.name, &v.expression)));
        let variables = variables.collect();
        let message = Environment::admission(options(false)).composed_as(&full);
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
            full.compile(text, &[Type::String, Type::Null])
        });
        let annotations = annotations.collect();
        Some(Self {
            ignores_failures: spec.failure_policy.as_deref() == Some("Ignore"),
            constraints: spec.match_constraints,
            param_kind: spec.param_kind,
            conditions,
            variables,
            rules,
            annotations,
        })
    }

    /// What the policy has against a write.
    pub(super) fn validate(&self, target: &Target<'_>, params: Option<&Value>) -> Vec<Denial> {
        let facts = || {
            let namespace = target.namespace.as_ref();
            let facts = Facts::admission(&target.value, target.object, target.old, namespace);
            match self.param_kind.is_some() {
                true => facts.with_params(params),
                false => facts,
            }
        };
        let request = target.request;
        let asker = || Asker::new(request.user, request.authorizer);
        let with_authorizer = || facts().with_authorizer(asker(), &target.value);
        match conditions::check(&self.conditions, &with_authorizer()) {
            Matched::Yes => {}
            Matched::No(_) => return Vec::new(),
            Matched::Unknown(_) if self.ignores_failures => return Vec::new(),
            Matched::Unknown(why) => return vec![Denial::failure(why)],
        }
        let full = with_authorizer().with_variables(&self.variables);
        let messages = facts().with_variables(&self.variables);
        let mut budget = Budget(BUDGET);
        let mut results = Vec::new();
        for rule in &self.rules {
            let result = match &rule.expression {
                Ok(compiled) => evaluate(compiled, &full, &mut budget),
                Err(why) => Err(Failure::Failed(format!("compilation error: {why}"))),
            };
            if matches!(result, Err(Failure::Budget)) {
                return self.failed(Failure::Budget.to_string(), false);
            }
            results.push(result.map(|value| matches!(value, Val::Bool(true))));
        }
        let mut denials = Vec::new();
        for (rule, result) in self.rules.iter().zip(results) {
            match result {
                Ok(true) => {}
                Ok(false) => denials.push(Denial {
                    message: rule.told(&messages, &mut budget),
                    reason: rule.reason.clone(),
                    always: false,
                }),
                Err(why) => denials.extend(self.failed(why.to_string(), false)),
            }
        }
        denials.extend(self.annotate(&messages));
        denials
    }

    /// An annotation that cannot be worked out is a refusal, unless failures are ignored.
    fn annotate<'a>(&'a self, facts: &Facts<'a>) -> Vec<Denial> {
        let mut budget = Budget(BUDGET);
        let mut denials = Vec::new();
        for annotation in &self.annotations {
            let why = match annotation {
                Ok(compiled) => evaluate(compiled, facts, &mut budget).err(),
                Err(why) => Some(Failure::Failed(format!("compilation error: {why}"))),
            };
            denials.extend(why.map_or_else(Vec::new, |w| self.failed(w.to_string(), true)));
        }
        denials
    }

    fn failed(&self, why: String, always: bool) -> Vec<Denial> {
        if self.ignores_failures {
            return Vec::new();
        }
        let denial = Denial::failure(why);
        vec![Denial { always, ..denial }]
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
