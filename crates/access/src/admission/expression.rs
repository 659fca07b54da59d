//! Expressions of admission: the conditions of webhooks, the rules of policies, the rules of authentication and
//! authorization configuration.
//!
//! An [`Environment`] says which variables an expression may use: [`Environment::admission`] has those of a write, others declare
//! their own. [`Environment::compile`] reads and checks an expression; [`evaluate`] runs it within a [`Budget`].
//! [`conditions`] are the `matchConditions` of whoever has some.
//! Behaviour and wording: `k8s.io/apiserver/pkg/admission/plugin/{cel,webhook/matchconditions}`.

mod authorizer;
pub mod conditions;
mod shapes;
mod variables;

use std::sync::Arc;

use machinery::cel::{Scope, Val, environment};
use serde_json::Value;

pub use authorizer::Asker;
pub use machinery::cel::Type;
pub use machinery::cel::environment::{Compiled, Environment, Options};
pub use shapes::{Names, request};
pub use variables::Variables;

/// The budget of all expressions of one policy binding, or of one kind of them.
pub const BUDGET: u64 = 10_000_000;
/// The budget of the conditions of one webhook or policy.
pub const CONDITIONS_BUDGET: u64 = BUDGET / 4;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Evaluates an expression.
///
/// # Errors
/// Why there is no result.
pub fn evaluate<'a>(
    compiled: &'a Compiled,
    facts: &Facts<'a>,
    budget: &mut Budget,
) -> Result<Val<'a>, Failure> {
    let (result, cost) = compiled.run(&facts.scope);
    budget.pay(facts.variables.as_ref().map_or(0, |v| v.take_cost()))?;
    budget.pay(cost)?;
    let text = compiled.text();
    result.map_err(|why| Failure::Failed(format!("expression '{text}' resulted in error: {why}")))
}

/// Why an expression has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// All expressions together were too expensive; nothing else is evaluated.
    #[error("{OUT_OF_BUDGET}")]
    Budget,
    /// The expression went wrong.
    #[error("{0}")]
    Failed(String),
}

/// What evaluations may still cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget(pub u64);

impl Budget {
    /// Takes what an evaluation cost.
    ///
    /// # Errors
    /// There is not that much left.
    pub fn pay(&mut self, cost: u64) -> Result<(), Failure> {
        self.0 = self.0.checked_sub(cost).ok_or(Failure::Budget)?;
        Ok(())
    }
}

/// The values of the variables.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    scope: Scope<'a>,
    variables: Option<Arc<Variables<'a>>>,
}

impl<'a> Facts<'a> {
    /// Values of variables by name.
    pub fn new(values: Vec<(&'a str, Val<'a>)>) -> Self {
        Self {
            scope: Scope(values),
            variables: None,
        }
    }

    /// The facts of a write. What is not there (the old object of a create, the namespace of what has none) is `null`.
    pub fn admission(
        request: &'a Value,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
        namespace: Option<&'a Value>,
    ) -> Self {
        let tree = |value: Option<&'a Value>| value.map_or(Val::Null, |v| Val::of(v, None));
        Self::new(vec![
            ("object", tree(object)),
            ("oldObject", tree(old)),
            (
                "namespaceObject",
                namespace.map_or(Val::Null, |v| Val::of(v, Some(&environment::NAMESPACE))),
            ),
            ("request", Val::of(request, Some(&environment::REQUEST))),
        ])
    }

    /// With the object of parameters, or with none.
    #[must_use]
    pub fn with_params(mut self, params: Option<&'a Value>) -> Self {
        let params = params.map_or(Val::Null, |v| Val::of(v, None));
        self.scope.0.push(("params", params));
        self
    }

    /// With the functions that ask what a user may do; `request` is the request of the facts, for `requestResource`.
    #[must_use]
    pub fn with_authorizer(mut self, asker: Asker<'a>, request: &Value) -> Self {
        let resource = asker.request_resource(request);
        self.scope
            .0
            .push(("authorizer", Val::Foreign(Arc::new(asker))));
        self.scope.0.push((
            "authorizer.requestResource",
            Val::Foreign(Arc::new(resource)),
        ));
        self
    }

    /// With `variables`, each worked out when it is first asked for.
    #[must_use]
    pub fn with_variables(mut self, expressions: &'a [(String, Result<Compiled, String>)]) -> Self {
        let variables = Arc::new(Variables::new(expressions, self.scope.clone()));
        self.scope
            .0
            .push(("variables", Val::Foreign(variables.clone())));
        self.variables = Some(variables);
        self
    }
}

#[cfg(test)]
mod tests;
