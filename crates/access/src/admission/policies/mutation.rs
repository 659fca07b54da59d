//! What mutating policies make of an object.
//!
//! One [`Hook::mutate`] is one mutation of a policy; whoever holds the write fills in defaults before the next one sees the
//! object. [`Rounds`] says who is asked in which round.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::Mutation;
use machinery::cel::environment::{object_type, patch_type};
use machinery::cel::{Made, Val};
use machinery::patch::{self, PatchError};
use machinery::schema::Schema;
use machinery::{ApiError, apply};
use serde_json::{Map, Value};

use super::{Hook, Shown};
use crate::admission::expression::{BUDGET, Budget, Compiled, Environment, evaluate};

/// One mutation of a policy.
#[derive(Debug)]
pub(super) struct Change {
    is_patch: bool,
    expression: Result<Compiled, String>,
}

impl Change {
    /// Compiles a mutation; none when it says nothing.
    pub(super) fn of(mutation: &Mutation, environment: &Environment<'_>) -> Option<Self> {
        let is_patch = match mutation.patch_type.as_str() {
            "JSONPatch" => true,
            "ApplyConfiguration" => false,
            _ => return None,
        };
        let (text, wanted) = match is_patch {
            true => (&mutation.json_patch.as_ref()?.expression, patch_type()),
            false => (
                &mutation.apply_configuration.as_ref()?.expression,
                object_type(),
            ),
        };
        let text = text.as_deref().unwrap_or_default();
        Some(Self {
            is_patch,
            expression: environment.compile(text, &[wanted]),
        })
    }
}

/// What a mutation made of an object.
#[derive(Debug, PartialEq)]
pub enum Mutated {
    /// The object as it was.
    Unchanged,
    /// Another one, by merging.
    Merged(Value),
    /// Another one, by a patch: it may not have the shape of its kind.
    Patched(Value),
}

impl Hook {
    /// The number of mutations.
    pub fn mutations(&self) -> usize {
        self.policy.changes.len()
    }

    /// Wants to see what others made of the object after it.
    pub fn wants_again(&self) -> bool {
        self.policy.wants_again
    }

    /// Whether the conditions of the policy hold.
    ///
    /// # Errors
    /// It cannot be told; for the failure policy.
    pub fn meets(&self, shown: &Shown<'_>) -> Result<bool, String> {
        self.policy.meets(shown)
    }

    /// What one of its mutations makes of the object.
    ///
    /// # Errors
    /// It could not be worked out; for the failure policy.
    pub fn mutate(
        &self,
        index: usize,
        shown: &Shown<'_>,
        schema: &Schema,
    ) -> Result<Mutated, String> {
        let (Some(change), Some(object)) = (self.policy.changes.get(index), shown.object) else {
            return Ok(Mutated::Unchanged);
        };
        let compiled = change.expression.as_ref().map_err(Clone::clone)?;
        let facts = shown
            .facts_with_authorizer(self.policy.takes_params())
            .with_variables(&self.policy.variables);
        let result = evaluate(compiled, &facts, &mut Budget(BUDGET)).map_err(|e| e.to_string())?;
        match (change.is_patch, &result) {
            (true, Val::List(operations)) => patched(object, operations),
            (false, Val::Struct(own)) => applied(object, own, &result, schema),
            _ => Err("unsupported return type".to_owned()),
        }
    }
}

fn applied(
    object: &Value,
    own: &Made<'_>,
    value: &Val<'_>,
    schema: &Schema,
) -> Result<Mutated, String> {
    check_names(own).map_err(|why| format!("type mismatch: {why}"))?;
    let mut config = value.to_json()?;
    for field in ["apiVersion", "kind"] {
        config[field] = object[field].clone();
    }
    let merged = apply::merge_unowned(object, &config, schema);
    let merged = merged.map_err(|why| format!("error applying patch: {why}"))?;
    Ok(Mutated::Merged(merged))
}

/// The types of nested objects are called after the fields in which they stand.
fn check_names(root: &Made<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    walk_names(&Named::Made(root), root.name, &mut wrong);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}

enum Named<'v, 'a> {
    Made(&'v Made<'a>),
    Value(&'v Val<'a>),
}

fn walk_names(value: &Named<'_, '_>, path: &str, wrong: &mut Vec<String>) {
    let made = match value {
        Named::Made(own) => *own,
        Named::Value(Val::Struct(own)) => &**own,
        Named::Value(Val::List(items)) => {
            for item in items.iter() {
                walk_names(&Named::Value(item), path, wrong);
            }
            return;
        }
        Named::Value(Val::Map(pairs)) => {
            for (_, value) in pairs.iter() {
                walk_names(&Named::Value(value), path, wrong);
            }
            return;
        }
        Named::Value(_) => return,
    };
    if made.name != path {
        wrong.push(format!(
            "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
            made.name
        ));
    }
    for (field, value) in &made.fields {
        walk_names(&Named::Value(value), &format!("{path}.{field}"), wrong);
    }
}

fn patched(object: &Value, operations: &[Val<'_>]) -> Result<Mutated, String> {
    let operations: Result<Vec<Value>, String> = operations.iter().map(operation).collect();
    let mut patched = object.clone();
    match patch::json::apply(&mut patched, &Value::Array(operations?)) {
        Ok(()) => Ok(Mutated::Patched(patched)),
        // A patch whose test fails is not applied.
        Err(PatchError::Unprocessable(why)) if why.ends_with("failed: test failed") => {
            Ok(Mutated::Unchanged)
        }
        Err(why) => Err(format!("JSON Patch: {why}")),
    }
}

fn operation(own: &Val<'_>) -> Result<Value, String> {
    let Val::Struct(made) = own else {
        let found = "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch";
        return Err(found.to_owned());
    };
    let text = |field: &str| match made.get(field) {
        Some(Val::Str(text)) => text.to_string(),
        _ => String::new(),
    };
    let mut operation = Map::new();
    operation.insert("op".to_owned(), text("op").into());
    operation.insert("path".to_owned(), text("path").into());
    if !text("from").is_empty() {
        operation.insert("from".to_owned(), text("from").into());
    }
    if let Some(value) = made.get("value") {
        if let Val::Struct(own) = value {
            check_names(own).map_err(|why| format!("type mismatch: {why}"))?;
        }
        let json = value.to_json().map_err(|why| {
            format!(
                "JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}"
            )
        })?;
        operation.insert("value".to_owned(), json);
    }
    Ok(Value::Object(operation))
}

/// A policy with a binding and a parameter: what is asked, once a round.
pub type Key = (String, String, Option<(String, String)>);

/// Who is asked again: policies that want to see what others made of the object after them.
#[derive(Debug, Default)]
pub struct Rounds {
    again: BTreeSet<Key>,
    waiting: BTreeSet<Key>,
    round: usize,
}

impl Rounds {
    /// Whether somebody is asked in this round.
    pub fn asks(&self, key: &Key) -> bool {
        self.round == 0 || self.again.contains(key)
    }

    /// Somebody has been asked; `changed` says whether the object is another one now.
    pub fn asked(&mut self, key: Key, changed: bool, wants_again: bool) {
        if changed {
            self.require_again();
        }
        if wants_again {
            self.waiting.insert(key);
        }
    }

    /// The object has changed: whoever wants to see that looks again.
    pub fn require_again(&mut self) {
        self.again.append(&mut self.waiting);
    }

    /// The next round.
    pub fn next(&mut self) {
        self.round += 1;
    }
}

/// All that goes wrong with mutating policies together.
#[derive(Debug, Default)]
pub struct Troubles(Vec<(String, bool)>);

impl Troubles {
    /// Something is wrong with a policy, or with a binding of it.
    pub fn add(&mut self, hook: &Hook, binding: Option<&str>, why: &str, is_configuration: bool) {
        if hook.ignores_failures() {
            return;
        }
        let name = &hook.name;
        let why = match (is_configuration, binding) {
            (false, _) => why.to_owned(),
            (true, None) => format!("failed to configure policy: {why}"),
            (true, Some(_)) => format!("failed to configure binding: {why}"),
        };
        self.0.push((
            match binding {
                Some(binding) => {
                    format!("policy '{name}' with binding '{binding}' denied request: {why}")
                }
                None => format!("policy {name:?} denied request: {why}"),
            },
            is_configuration,
        ));
    }

    /// The answer to the write, if it is refused; `forbidden` makes one of a message.
    pub fn refusal(self, forbidden: impl FnOnce(&str) -> ApiError) -> Option<ApiError> {
        let (first, is_configuration) = self.0.first()?;
        let mut error = forbidden("admission request denied by policy");
        error.message = first.clone();
        if !is_configuration {
            error.reason = "Invalid";
        }
        for (message, _) in &self.0 {
            error = error.caused_by("", message);
        }
        Some(error)
    }
}
