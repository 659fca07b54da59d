//! `variables.x`: expressions that are evaluated when another one asks for them, once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use machinery::cel::{EvalError, Foreign, Scope, Val};

use super::Compiled;

/// The variables of one evaluation of a policy.
pub struct Variables<'a> {
    expressions: &'a [(String, Result<Compiled, String>)],
    scope: Scope<'a>,
    state: Mutex<State<'a>>,
}

#[derive(Default)]
struct State<'a> {
    known: BTreeMap<&'a str, Result<Val<'a>, EvalError>>,
    cost: u64,
}

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.expressions.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl<'a> Variables<'a> {
    pub(super) fn new(
        expressions: &'a [(String, Result<Compiled, String>)],
        scope: Scope<'a>,
    ) -> Self {
        Self {
            expressions,
            scope,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What variables have cost since this was last asked.
    pub(super) fn take_cost(&self) -> u64 {
        std::mem::take(&mut self.state().cost)
    }

    /// Evaluates the variable at a place; it sees those before it.
    fn evaluate(&self, place: usize) -> Result<Val<'a>, EvalError> {
        let (name, compiled) = &self.expressions[place];
        let compiled = compiled.as_ref().map_err(|why| {
            EvalError::Failed(format!(
                "composited variable {name:?} fails to compile: {why}"
            ))
        })?;
        // Those before it are worked out first: an expression can only use those.
        let mut scope = self.scope.clone();
        let mut before = Vec::new();
        for (other, (name, _)) in self.expressions[..place].iter().enumerate() {
            if compiled.selects("variables", name) {
                before.push((&**name, self.value(other)));
            }
        }
        scope.0.push((
            "variables",
            Val::Foreign(std::sync::Arc::new(Known(before))),
        ));
        let (result, cost) = compiled.run(&scope);
        self.state().cost += cost;
        result.map_err(|why| {
            EvalError::Failed(format!(
                "composited variable {name:?} fails to evaluate: {why}"
            ))
        })
    }

    fn value(&self, place: usize) -> Result<Val<'a>, EvalError> {
        let (name, _) = &self.expressions[place];
        if let Some(known) = self.state().known.get(&**name) {
            return known.clone();
        }
        let value = self.evaluate(place);
        self.state().known.insert(name, value.clone());
        value
    }
}

impl<'a> Foreign<'a> for Variables<'a> {
    fn type_name(&self) -> &'static str {
        "kubernetes.variables"
    }

    fn call(&self, _name: &str, _args: &[Val<'a>]) -> Option<Result<Val<'a>, EvalError>> {
        None
    }

    fn field(&self, name: &str) -> Option<Result<Val<'a>, EvalError>> {
        let place = self.expressions.iter().position(|(own, _)| own == name)?;
        Some(self.value(place))
    }
}

/// The variables that an expression of a variable uses.
#[derive(Debug)]
struct Known<'a>(Vec<(&'a str, Result<Val<'a>, EvalError>)>);

impl<'a> Foreign<'a> for Known<'a> {
    fn type_name(&self) -> &'static str {
        "kubernetes.variables"
    }

    fn call(&self, _name: &str, _args: &[Val<'a>]) -> Option<Result<Val<'a>, EvalError>> {
        None
    }

    fn field(&self, name: &str) -> Option<Result<Val<'a>, EvalError>> {
        let found = self.0.iter().find(|(own, _)| *own == name)?;
        Some(found.1.clone())
    }
}
