//! The status of ValidatingAdmissionPolicies: what their expressions make of the kinds that they are about.
//!
//! Invariant: a policy whose generation has been looked at has `status.observedGeneration`, and a warning for each expression
//! that does not fit a kind of its constraints. What is wrong with an expression never changes what the policy does.
//! Kinds that are not known are not looked at. Upstream: `pkg/controller/validatingadmissionpolicystatus`,
//! `k8s.io/apiserver/pkg/admission/plugin/policy/validating/typechecking.go`.

mod kinds;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use control::{Action, Answer, Change, Key, Look, Plan, Question, Reconciler, StatusWrite, Wake};
use k8s_openapi::api::admissionregistration::v1::{
    ExpressionWarning, TypeChecking, ValidatingAdmissionPolicy,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use machinery::cel::Type;
use machinery::cel::environment::{Environment, Options};
use machinery::structural::Structural;
use serde_json::Value;

use kinds::{Called, Found};

/// The controller of the status of policies.
pub struct ValidatingAdmissionPolicyStatus;

/// All that a decision may depend on.
pub struct Observed {
    /// The policy.
    pub policy: Arc<ValidatingAdmissionPolicy>,
    /// The definitions that have been asked for, by their names; none for one that is not there.
    pub definitions: BTreeMap<String, Option<CustomResourceDefinition>>,
}

fn policy_of(change: &Change<ValidatingAdmissionPolicy>) -> Vec<Key> {
    vec![Key::of(change.latest())]
}

impl Reconciler for ValidatingAdmissionPolicyStatus {
    type Observed = Observed;

    const NAME: &'static str = "validatingadmissionpolicy-status-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on::<ValidatingAdmissionPolicy>(|change, _| policy_of(change));
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let policy = look
            .caches
            .of::<ValidatingAdmissionPolicy>()
            .get(look.key)?;
        let definitions = look.answers.iter().filter_map(|(question, answer)| {
            let Question::Get(target) = question else {
                return None;
            };
            let definition = match answer {
                Answer::Present(value) => serde_json::from_value(value.clone()).ok(),
                _ => None,
            };
            Some((target.key.name.clone(), definition))
        });
        Some(Observed {
            definitions: definitions.collect(),
            policy,
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        let policy = &*o.policy;
        let generation = policy.metadata.generation.unwrap_or(0);
        let status = policy.status.as_ref();
        if status.and_then(|s| s.observed_generation).unwrap_or(0) >= generation {
            return Plan::idle("it has been looked at");
        }
        let called = kinds::called(policy);
        let open = kinds::open(policy, &called, &o.definitions);
        if !open.is_empty() {
            return Plan {
                because: "definitions of its kinds are asked for".to_owned(),
                actions: open.into_iter().map(Action::Confirm).collect(),
                ..Plan::default()
            };
        }
        let warnings = warnings(policy, &called, &o.definitions);
        let because = format!("{} of its expressions do not fit", warnings.len());
        let mut new = policy.clone();
        let status = new.status.get_or_insert_default();
        status.observed_generation = Some(generation);
        status.type_checking = Some(TypeChecking {
            expression_warnings: (!warnings.is_empty()).then_some(warnings),
        });
        Plan {
            status: Some(StatusWrite::of(&new)),
            because,
            ..Plan::default()
        }
    }
}

type Definitions = BTreeMap<String, Option<CustomResourceDefinition>>;

fn warnings(
    policy: &ValidatingAdmissionPolicy,
    called: &[Called],
    definitions: &Definitions,
) -> Vec<ExpressionWarning> {
    let found: Vec<Found> = kinds::found(called, definitions);
    let params = kinds::params(policy, definitions);
    let spec = policy.spec.as_ref();
    let mut warnings = Vec::new();
    let mut check = |field: String, text: &str| {
        let told: Vec<String> = found
            .iter()
            .filter_map(|kind| complaint(policy, kind, params.as_ref(), text))
            .collect();
        if !told.is_empty() {
            warnings.push(ExpressionWarning {
                field_ref: field,
                warning: told.join("\n"),
            });
        }
    };
    let validations = spec.and_then(|s| s.validations.as_ref());
    for (index, rule) in validations.into_iter().flatten().enumerate() {
        let at = format!("spec.validations[{index}]");
        check(format!("{at}.expression"), &rule.expression);
        if let Some(text) = rule.message_expression.as_deref().filter(|t| !t.is_empty()) {
            check(format!("{at}.messageExpression"), text);
        }
    }
    warnings
}

/// What is wrong with an expression where it is about this kind.
fn complaint(
    policy: &ValidatingAdmissionPolicy,
    kind: &Found,
    params: Option<&Structural>,
    text: &str,
) -> Option<String> {
    let spec = policy.spec.as_ref()?;
    let options = Options {
        params: spec.param_kind.is_some(),
        authorizer: true,
    };
    let mut environment = Environment::admission(options)
        .with("object", Type::of(Some(&kind.schema)))
        .with("oldObject", Type::of(Some(&kind.schema)));
    if options.params {
        environment = environment.with("params", Type::of(params));
    }
    let mut environment = environment.composed();
    for variable in spec.variables.iter().flatten() {
        // What is wrong with a variable is told where it is used.
        let _ = environment.compose(&variable.name, &variable.expression);
    }
    let why = environment.compile(text, &[]).err()?;
    let why = why.strip_prefix("compilation failed: ").unwrap_or(&why);
    Some(format!("{}: {why}\n", kind.shown))
}

/// The schema of a version of a definition.
fn schema_of(definition: &CustomResourceDefinition, version: &str) -> Option<Structural> {
    let mut all = definition.spec.versions.iter();
    let own = all.find(|v| v.name == version && v.served)?;
    let schema = own.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    let json: Value = serde_json::to_value(schema).ok()?;
    let mut schema = Structural::read(&json);
    schema.add_meta(true);
    Some(schema)
}
