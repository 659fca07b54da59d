//! `x-kubernetes-validations`: rules in CEL that objects keep to.
//!
//! Each evaluation and all evaluations of one object together are bounded. A rule that mentions `oldSelf` is about changes and is
//! only looked at where there is an old value that belongs to the new one.
//! Behaviour and wording: `.../apiserver/schema/cel/{compilation,validation}.go`.

use serde_json::Value;

use super::validate::correlated;
use super::{Rule, Structural, Type};
use crate::cel::{self, CALL_LIMIT, EvalError, Program, Scope, Val, Variable};
use crate::field::{ErrorType, FieldError};
use crate::value::same;
use crate::{ErrorList, Path};

/// The budget of all rules of one object.
const BUDGET: u64 = 10_000_000;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
const MAX_MESSAGE: usize = 5 * 1024;

/// A rule that can be run.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    rule: Program,
    message: Option<Program>,
    /// Whether it is about changes.
    pub uses_old: bool,
    /// The most that it may cost each time.
    pub cost: u64,
    /// The most that its message may cost.
    pub message_cost: u64,
}

impl Rule {
    /// Reads and checks the rule against the node that it stands at.
    ///
    /// # Errors
    /// What is wrong, and whether it is the expression of the message (not the rule).
    pub fn compile(&self, node: &Structural) -> Result<CompiledRule, (bool, String)> {
        let old_is_optional = self.optional_old_self == Some(true);
        let own = cel::Type::of(Some(node));
        let old = match old_is_optional {
            true => cel::Type::Optional(Box::new(own.clone())),
            false => own.clone(),
        };
        let variables = [
            Variable {
                name: "self",
                ty: own,
            },
            Variable {
                name: "oldSelf",
                ty: old,
            },
        ];
        let (rule, ty, cost) = Program::compile_rule(&self.rule, &variables, node)
            .map_err(|why| (false, format!("compilation failed: {why}")))?;
        if !matches!(ty, cel::Type::Bool | cel::Type::Free) {
            return Err((false, "cel expression must evaluate to a bool".to_owned()));
        }
        let mut message_cost = 0;
        let message = match self.message_expression.trim() {
            "" => None,
            text => {
                let compiled = Program::compile_rule(text, &variables, node);
                let (message, ty, cost) = compiled.map_err(|why| {
                    (true, format!("messageExpression compilation failed: {why}"))
                })?;
                message_cost = cost;
                if !matches!(ty, cel::Type::String | cel::Type::Free) {
                    let why = "messageExpression must evaluate to a string";
                    return Err((true, why.to_owned()));
                }
                Some(message)
            }
        };
        Ok(CompiledRule {
            uses_old: rule.uses("oldSelf"),
            rule,
            message,
            cost,
            message_cost,
        })
    }

    fn shown(&self) -> &str {
        match self.message.trim() {
            "" => self.rule.trim(),
            message => message,
        }
    }

    fn detail(&self) -> String {
        match self.message.trim() {
            "" => format!("failed rule: {}", self.rule.trim()),
            message => message.to_owned(),
        }
    }
}

/// Whether there is any rule.
pub fn has_rules(schema: &Structural) -> bool {
    !schema.rules().is_empty()
        || schema.properties.values().any(has_rules)
        || schema.items.as_deref().is_some_and(has_rules)
        || matches!(&schema.additional, Some(super::Additional::Schema(s)) if has_rules(s))
}

/// Every rule that does not hold.
pub fn check_rules(value: &Value, old: Option<&Value>, schema: &Structural) -> ErrorList {
    let mut walk = Walk {
        errors: ErrorList::new(),
        budget: Some(BUDGET),
    };
    walk.node(&Path::default(), value, old, schema);
    walk.errors
}

struct Walk {
    errors: ErrorList,
    /// None: used up.
    budget: Option<u64>,
}

impl Walk {
    fn node(&mut self, path: &Path, value: &Value, old: Option<&Value>, schema: &Structural) {
        if value.is_null() || self.budget.is_none() {
            return;
        }
        let old = old.filter(|old| !old.is_null());
        for rule in schema.rules() {
            self.rule(path, rule, value, old, schema);
            if self.budget.is_none() {
                return;
            }
        }
        match value {
            Value::Array(items) => {
                let Some(element) = schema.items.as_deref() else {
                    return;
                };
                for (index, item) in items.iter().enumerate() {
                    let old = correlated(item, old, schema);
                    self.node(&path.index(index), item, old, element);
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    let old = old.and_then(|old| old.get(key));
                    if let Some(property) = schema.properties.get(key.as_str()) {
                        self.node(&path.child(key), value, old, property);
                    } else if let Some(additional) = schema.child(key) {
                        self.node(&path.key(key), value, old, additional);
                    }
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, path: &Path, kind: ErrorType, value: Option<Value>, detail: String) {
        let path = match path.to_string().is_empty() {
            true => Path::new("<nil>"),
            false => path.clone(),
        };
        self.errors.0.push(FieldError {
            kind,
            path,
            value,
            shown: None,
            detail,
        });
    }

    /// Something about the rule itself; the type of the value is shown.
    fn invalid(&mut self, path: &Path, schema: &Structural, detail: String) {
        let kind = match schema.kind {
            Type::Any => "",
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
        };
        self.push(path, ErrorType::Invalid, Some(kind.into()), detail);
    }

    /// Takes what a step has cost; false when there is nothing left.
    fn pay(&mut self, cost: u64) -> bool {
        self.budget = self.budget.and_then(|left| left.checked_sub(cost));
        self.budget.is_some()
    }

    fn rule(
        &mut self,
        path: &Path,
        rule: &Rule,
        value: &Value,
        old: Option<&Value>,
        schema: &Structural,
    ) {
        let compiled = rule
            .compiled
            .get_or_init(|| Box::new(rule.compile(schema).map_err(|(_, why)| why)));
        let compiled = match &**compiled {
            Ok(compiled) => compiled,
            Err(why) => return self.invalid(path, schema, format!("rule compile error: {why}")),
        };
        let optional = rule.optional_old_self == Some(true);
        if compiled.uses_old && old.is_none() && !optional {
            return;
        }
        let before = old.map(|old| Val::of(old, Some(schema)));
        let before = match optional {
            true => Val::Optional(before.map(std::sync::Arc::new)),
            false => before.unwrap_or(Val::Null),
        };
        let scope = Scope(vec![
            ("self", Val::of(value, Some(schema))),
            ("oldSelf", before),
        ]);
        let (result, cost) = compiled.rule.run(&scope, CALL_LIMIT);
        if !self.pay(cost) {
            return self.invalid(path, schema, OUT_OF_BUDGET.to_owned());
        }
        let shown = rule.shown();
        match result {
            Ok(Val::Bool(true)) => {}
            Ok(_) => self.failed(path, rule, compiled, &scope, value, old, schema),
            Err(EvalError::Limit) => {
                let why = format!(
                    "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}",
                    EvalError::Limit
                );
                self.invalid(path, schema, why);
                self.budget = None;
            }
            Err(error) if error.to_string().starts_with("no such overload") => {
                let why = format!(
                    "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
                );
                self.invalid(path, schema, why);
            }
            Err(error) => {
                self.invalid(path, schema, format!("{error} evaluating rule: {shown}"));
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all of what a failure is told with"
    )]
    fn failed<'a>(
        &mut self,
        path: &Path,
        rule: &'a Rule,
        compiled: &'a CompiledRule,
        scope: &Scope<'a>,
        value: &Value,
        old: Option<&Value>,
        schema: &Structural,
    ) {
        // What an update leaves as it was may stay wrong.
        if !compiled.uses_old && old.is_some_and(|old| same(old, value)) {
            return;
        }
        let mut detail = rule.detail();
        if let Some(message) = &compiled.message {
            let (result, cost) = message.run(scope, CALL_LIMIT);
            if !self.pay(cost) {
                let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
                return self.invalid(path, schema, why.to_owned());
            }
            if let Ok(Val::Str(text)) = result {
                let text = text.trim();
                if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n') {
                    detail = text.to_owned();
                }
            }
        }
        let at = match rule.field_path.strip_prefix('.') {
            Some(below) if !below.is_empty() => path.child(below),
            _ => path.clone(),
        };
        let shown = match schema.kind {
            Type::Object | Type::Array => None,
            _ => Some(value.clone()),
        };
        match rule.reason.as_deref() {
            Some("FieldValueForbidden") => self.push(&at, ErrorType::Forbidden, None, detail),
            Some("FieldValueRequired") => self.push(&at, ErrorType::Required, None, detail),
            Some("FieldValueDuplicate") => {
                self.push(&at, ErrorType::Duplicate, shown, String::new());
            }
            _ => self.push(&at, ErrorType::Invalid, shown, detail),
        }
    }
}
