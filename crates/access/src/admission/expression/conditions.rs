//! `matchConditions`: whoever has some is only asked when all of them hold.

use machinery::cel::Val;

use super::{Budget, CONDITIONS_BUDGET, Compiled, Facts, Failure, evaluate};

/// A condition and its name.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// Its expression, or what is wrong with it.
    pub expression: Result<Compiled, String>,
}

/// What the conditions say about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// All hold.
    Yes,
    /// The first that does not hold.
    No(String),
    /// None is false, and some cannot be told.
    Unknown(String),
}

/// Looks at conditions. One that is false decides, whatever others say; [`Matched::Unknown`] is for the failure policy.
pub fn check<'a>(conditions: &'a [Condition], facts: &Facts<'a>) -> Matched {
    let mut budget = Budget(CONDITIONS_BUDGET);
    let mut failures: Vec<String> = Vec::new();
    let mut fails = None;
    for condition in conditions {
        let compiled = match &condition.expression {
            Ok(compiled) => compiled,
            Err(why) => {
                failures.push(format!("compilation error: {why}"));
                continue;
            }
        };
        match evaluate(compiled, facts, &mut budget) {
            Ok(Val::Bool(false)) => {
                fails.get_or_insert(&condition.name);
            }
            Ok(_) => {}
            Err(Failure::Budget) => return Matched::Unknown(Failure::Budget.to_string()),
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    if let Some(name) = fails {
        return Matched::No(name.clone());
    }
    failures.dedup();
    match failures.as_slice() {
        [] => Matched::Yes,
        [one] => Matched::Unknown(one.clone()),
        many => Matched::Unknown(format!("[{}]", many.join(", "))),
    }
}
