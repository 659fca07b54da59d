//! CEL, the Common Expression Language, as Kubernetes uses it: expressions over API objects that end in bounded time.
//!
//! [`Program::compile`] reads and checks an expression against the types of its variables, [`Program::run`] evaluates it over JSON
//! trees without copying them, within a budget of steps. What is here: the language with its macros, optional values, and the
//! libraries of Kubernetes for strings, lists, sets, maths, regular expressions, URLs, addresses, quantities. What is not:
//! protobuf messages, the authorizer.
//! Behaviour: `github.com/google/cel-spec`, `k8s.io/apiserver/pkg/cel`.

mod check;
mod eval;
mod functions;
mod methods;
mod parse;
mod value;

use crate::structural::Structural;

pub use eval::{EvalError, Scope};
pub use value::Val;

/// The budget of one evaluation.
pub const CALL_LIMIT: u64 = 1_000_000;

/// A variable, and what is known of its type.
#[derive(Clone, Copy, Debug)]
pub struct Variable<'a> {
    /// Its name.
    pub name: &'a str,
    /// The schema of its values; none: anything.
    pub schema: Option<&'a Structural>,
    /// Whether it is an optional value.
    pub optional: bool,
}

/// The type that an expression must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A boolean.
    Bool,
    /// A text.
    String,
}

/// An expression that can be run.
#[derive(Clone, Debug)]
pub struct Program {
    root: parse::Node,
}

impl Program {
    /// Reads and checks an expression.
    ///
    /// # Errors
    /// What is wrong with it, in the words of the reference.
    pub fn compile(text: &str, variables: &[Variable<'_>], wanted: Wanted) -> Result<Self, String> {
        let failed = |issue: parse::Issue| format!("compilation failed: {}", issue.show(text));
        let root = parse::parse(text).map_err(failed)?;
        let found = check::check(&root, variables).map_err(failed)?;
        match (wanted, found) {
            (Wanted::Bool, check::Ty::Bool | check::Ty::Dyn)
            | (Wanted::String, check::Ty::String | check::Ty::Dyn) => Ok(Self { root }),
            (Wanted::Bool, _) => Err("cel expression must evaluate to a bool".to_owned()),
            (Wanted::String, _) => Err("messageExpression must evaluate to a string".to_owned()),
        }
    }

    /// Whether the expression uses a variable.
    pub fn uses(&self, name: &str) -> bool {
        self.root.uses(name)
    }

    /// Evaluates the expression; gives the result and what it cost.
    pub fn run<'a>(&'a self, scope: &Scope<'a>, limit: u64) -> (Result<Val<'a>, EvalError>, u64) {
        eval::run(&self.root, scope, limit)
    }
}

#[cfg(test)]
mod tests;
