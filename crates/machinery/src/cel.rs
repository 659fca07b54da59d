//! CEL, the Common Expression Language, as Kubernetes uses it: expressions over API objects that end in bounded time.
//!
//! [`Program::compile`] reads and checks an expression against the types of its variables, [`Program::run`] evaluates it over JSON
//! trees without copying them, within a budget of steps. What is here: the language with its macros, optional values, and the
//! libraries of Kubernetes for strings, lists, sets, regular expressions, URLs, addresses, quantities, versions, formats. What
//! is not: protobuf messages, the authorizer.
//! Behaviour: `github.com/google/cel-spec`, `k8s.io/apiserver/pkg/cel`.

mod check;
mod cost;
pub mod environment;
mod eval;
mod functions;
mod lex;
mod methods;
mod named_format;
mod parse;
mod price;
mod semver;
mod tree;
mod value;

pub use check::Type;
pub use cost::cardinality;
pub use eval::{EvalError, Scope};
pub use named_format::NamedFormat;
pub use semver::Version;
pub use value::{Foreign, Made, RESERVED, Val};

use std::collections::BTreeSet;

use crate::structural::Structural;

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

/// What an expression may use besides the language and its libraries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extensions {
    /// Objects to apply, `Object{spec: Object.spec{..}}`, and the operations of JSON patches, `JSONPatch{op: ..}`.
    pub patches: bool,
}

/// An expression that can be run.
#[derive(Clone, Debug)]
pub struct Program {
    root: tree::Node,
    /// The operators whose operands may be of any type: what they cost cannot be told by it.
    open: BTreeSet<usize>,
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
        Self::compile_with(text, variables, Extensions::default())
    }

    /// The same for an expression that may use more.
    ///
    /// # Errors
    /// What is wrong with it, in the words of the reference.
    pub fn compile_with<'a>(
        text: &str,
        variables: &[Variable<'_, 'a>],
        extensions: Extensions,
    ) -> Result<(Self, Type<'a>), String> {
        let (program, found, _) = Self::checked(text, variables, extensions)?;
        Ok((program, found))
    }

    /// The same for a rule of a schema, whose variables have the types of `schema`; gives the most that it may cost too.
    ///
    /// # Errors
    /// What is wrong with it, in the words of the reference.
    pub fn compile_rule<'a>(
        text: &str,
        variables: &[Variable<'_, 'a>],
        schema: &'a Structural,
    ) -> Result<(Self, Type<'a>, u64), String> {
        let extensions = Extensions::default();
        let (program, found, types) = Self::checked(text, variables, extensions)?;
        let cost = cost::estimate(&program.root, &types, schema);
        Ok((program, found, cost))
    }

    fn checked<'a>(
        text: &str,
        variables: &[Variable<'_, 'a>],
        extensions: Extensions,
    ) -> Result<(Self, Type<'a>, check::Types<'a>), String> {
        let failed = |issue: tree::Issue| issue.show(text);
        let root = parse::parse(text).map_err(|issues| {
            let shown: Vec<String> = issues.iter().map(|issue| issue.show(text)).collect();
            shown.join("\n")
        })?;
        let (found, types) = check::check(&root, variables, extensions).map_err(failed)?;
        let mut open = BTreeSet::new();
        root.open_operators(&types, &mut open);
        Ok((Self { root, open }, found, types))
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
        eval::run(&self.root, &self.open, scope, limit)
    }
}

#[cfg(test)]
mod tests;
