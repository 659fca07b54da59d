//! CEL, the Common Expression Language, as Kubernetes uses it: expressions over API objects that end in bounded time.
//!
//! [`Program::compile`] reads and checks an expression against the types of its variables, [`Program::run`] evaluates it over JSON
//! trees without copying them, within a budget of steps. What is here: the language with its macros, optional values, and the
//! libraries of Kubernetes for strings, lists, sets, maths, regular expressions, URLs, addresses, quantities. What is not:
//! protobuf messages, the authorizer.
//! Behaviour: `github.com/google/cel-spec`, `k8s.io/apiserver/pkg/cel`.

mod check;
pub mod environment;
mod eval;
mod functions;
mod methods;
mod parse;
mod value;

pub use check::Type;
pub use eval::{EvalError, Scope};
pub use value::{Foreign, Val};

/// The budget of one evaluation.
pub const CALL_LIMIT: u64 = 1_000_000;

/// A variable, and what is known of its type.
#[derive(Clone, Debug)]
pub struct Variable<'n, 'a> {
    /// Its name.
    pub name: &'n str,
    /// The type of its values.
    pub ty: Type<'a>,
}

/// An expression that can be run.
#[derive(Clone, Debug)]
pub struct Program {
    root: parse::Node,
}

impl Program {
    /// Reads and checks an expression; gives the type of its result too.
    ///
    /// # Errors
    /// What is wrong with it, in the words of the reference.
    pub fn compile<'a>(
        text: &str,
        variables: &[Variable<'_, 'a>],
    ) -> Result<(Self, Type<'a>), String> {
        let failed = |issue: parse::Issue| issue.show(text);
        let root = parse::parse(text).map_err(failed)?;
        let found = check::check(&root, variables).map_err(failed)?;
        Ok((Self { root }, found))
    }

    /// Whether the expression uses a variable.
    pub fn uses(&self, name: &str) -> bool {
        self.root.uses(name)
    }

    /// Whether the expression selects a field of a variable.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        self.root.selects(variable, field)
    }

    /// Evaluates the expression; gives the result and what it cost.
    pub fn run<'a>(&'a self, scope: &Scope<'a>, limit: u64) -> (Result<Val<'a>, EvalError>, u64) {
        eval::run(&self.root, scope, limit)
    }
}

#[cfg(test)]
mod tests;
