//! Whether an authorizer elsewhere is asked: expressions over the review that would be sent.

use std::sync::LazyLock;

use machinery::cel::{CALL_LIMIT, Program, Scope, Type, Val, Variable};
use machinery::structural::Structural;
use serde_json::{Value, json};

use crate::authorizer::aggregate;

/// The type of `request`: the specification of a SubjectAccessReview.
static REQUEST: LazyLock<Structural> = LazyLock::new(|| {
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let selector = || {
        json!({"type": "object", "properties": {
            "rawSelector": text(),
            "requirements": {"type": "array", "items": {"type": "object", "properties": {
                "key": text(), "operator": text(), "values": texts(),
            }}},
        }})
    };
    Structural::read(&json!({"type": "object", "properties": {
        "resourceAttributes": {"type": "object", "properties": {
            "namespace": text(), "verb": text(), "group": text(), "version": text(),
            "resource": text(), "subresource": text(), "name": text(),
            "fieldSelector": selector(), "labelSelector": selector(),
        }},
        "nonResourceAttributes": {"type": "object", "properties": {"path": text(), "verb": text()}},
        "user": text(), "groups": texts(), "uid": text(),
        "extra": {"type": "object", "additionalProperties": texts()},
    }}))
});

/// Expressions that must all hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions(Vec<(String, Program)>);

impl Conditions {
    /// Reads and checks one expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, expression: &str) -> Result<(), String> {
        let request = Variable {
            name: "request",
            ty: Type::of(Some(&REQUEST)),
        };
        let compiled = Program::compile(expression, &[request]);
        let (program, found) = compiled.map_err(|why| format!("compilation failed: {why}"))?;
        if found.name() != Type::Bool.name() && found.name() != Type::Dyn.name() {
            return Err("must evaluate to bool".to_owned());
        }
        self.0.push((expression.to_owned(), program));
        Ok(())
    }

    /// Whether all hold for a review's specification: one that does not outweighs any that cannot be told.
    ///
    /// # Errors
    /// None failed, but some have no value.
    pub fn hold(&self, spec: &Value) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let full = complete(spec);
        let scope = Scope(vec![("request", Val::of(&full, Some(&REQUEST)))]);
        let mut errors = Vec::new();
        for (expression, program) in &self.0 {
            match program.run(&scope, CALL_LIMIT).0 {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => return Ok(false),
                Ok(_) => errors.push(format!(
                    "cel evaluation error: expression '{expression}' eval result type should be bool"
                )),
                Err(why) => errors.push(format!(
                    "cel evaluation error: expression '{expression}' resulted in error: {why}"
                )),
            }
        }
        match errors.is_empty() {
            true => Ok(true),
            false => Err(aggregate(&errors)),
        }
    }
}

/// The specification with the texts that a client would leave out: expressions may rely on them.
fn complete(spec: &Value) -> Value {
    let mut full = spec.clone();
    let fill = |part: &mut Value, fields: &[&str]| {
        let Some(part) = part.as_object_mut() else {
            return;
        };
        for field in fields {
            part.entry(*field).or_insert_with(|| "".into());
        }
    };
    fill(&mut full, &["user", "uid"]);
    if let Some(full) = full.as_object_mut() {
        full.entry("groups").or_insert_with(|| json!([]));
        full.entry("extra").or_insert_with(|| json!({}));
        if let Some(part) = full.get_mut("resourceAttributes") {
            let fields = [
                "namespace",
                "verb",
                "group",
                "version",
                "resource",
                "subresource",
                "name",
            ];
            fill(part, &fields);
        }
        if let Some(part) = full.get_mut("nonResourceAttributes") {
            fill(part, &["path", "verb"]);
        }
    }
    full
}
