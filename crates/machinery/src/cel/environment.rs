//! Which variables an expression may use: [`Environment::admission`] has those of a write, others declare their own.
//!
//! Behaviour and wording: `k8s.io/apiserver/pkg/admission/plugin/cel/{compile,composition}.go`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::{CALL_LIMIT, EvalError, Extensions, Program, Scope, Type, Val, Variable};
use crate::structural::Structural;

/// The type of `authorizer`.
pub const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
/// The type of `authorizer.requestResource`.
pub const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";

/// What an expression may use besides the object, its old state, the request and the namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// `params`
    pub params: bool,
    /// `authorizer`, `authorizer.requestResource`
    pub authorizer: bool,
}

/// The type of objects to apply.
pub fn object_type() -> Type<'static> {
    Type::Made("Object".into())
}

/// The type of JSON patches.
pub fn patch_type() -> Type<'static> {
    Type::List(Box::new(Type::Made("JSONPatch".into())))
}

/// The variables that an expression may use, and their types.
#[derive(Clone, Debug, Default)]
pub struct Environment<'a> {
    declared: Vec<(String, Type<'a>)>,
    /// The types of `variables.x`, for those who compose.
    composed: Option<BTreeMap<String, Type<'a>>>,
    extensions: Extensions,
}

impl<'a> Environment<'a> {
    /// The variables of a write.
    pub fn admission(options: Options) -> Self {
        let mut own = Self::default()
            .with("object", Type::Dyn)
            .with("oldObject", Type::Dyn)
            .with("namespaceObject", Type::of(Some(&NAMESPACE)))
            .with("request", Type::of(Some(&REQUEST)));
        if options.params {
            own = own.with("params", Type::Dyn);
        }
        if options.authorizer {
            own = own
                .with("authorizer", Type::Other(AUTHORIZER))
                .with("authorizer.requestResource", Type::Other(RESOURCE_CHECK));
        }
        own
    }

    /// With another variable, or with another type for one that is there.
    #[must_use]
    pub fn with(mut self, name: &str, ty: Type<'a>) -> Self {
        self.declared.retain(|(own, _)| own != name);
        self.declared.push((name.to_owned(), ty));
        self
    }

    /// With `variables`, which has no fields yet: each expression that is compiled by [`Self::compose`] adds one.
    #[must_use]
    pub fn composed(mut self) -> Self {
        self.composed = Some(BTreeMap::new());
        self
    }

    /// With what patches are made of.
    #[must_use]
    pub fn with_patches(mut self) -> Self {
        self.extensions.patches = true;
        self
    }

    /// With the variables that another environment has composed.
    #[must_use]
    pub fn composed_as(mut self, other: &Self) -> Self {
        self.composed.clone_from(&other.composed);
        self
    }

    /// Compiles the expression of a variable and declares `variables.name` for those after it.
    ///
    /// # Errors
    /// What is wrong with it; the variable is declared all the same, and anything.
    pub fn compose(&mut self, name: &str, text: &str) -> Result<Compiled, String> {
        let made = self.typed(text);
        let ty = match &made {
            Ok((_, ty)) => ty.clone(),
            Err(_) => Type::Dyn,
        };
        let composed = self.composed.get_or_insert_default();
        composed.insert(name.to_owned(), ty);
        made.map(|(compiled, _)| compiled)
    }

    /// Reads and checks an expression that has to give one of some types; none: anything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(&self, text: &str, wanted: &[Type<'_>]) -> Result<Compiled, String> {
        let (compiled, found) = self.typed(text)?;
        if wanted.is_empty() || wanted.iter().any(|w| w.name() == found.name()) {
            return Ok(compiled);
        }
        let names: Vec<String> = wanted.iter().map(Type::name).collect();
        let found = found.name();
        Err(match names.as_slice() {
            [one] => format!("must evaluate to {one} but got {found}"),
            many => format!(
                "must evaluate to one of [{}] but got {found}",
                many.join(" ")
            ),
        })
    }

    fn typed(&self, text: &str) -> Result<(Compiled, Type<'a>), String> {
        let mut variables: Vec<Variable<'_, 'a>> = Vec::with_capacity(self.declared.len() + 1);
        for (name, ty) in &self.declared {
            variables.push(Variable {
                name,
                ty: ty.clone(),
            });
        }
        if let Some(composed) = &self.composed {
            variables.push(Variable {
                name: "variables",
                ty: Type::Fields("kubernetes.variables", Arc::new(composed.clone())),
            });
        }
        let (program, ty) = Program::compile_with(text, &variables, self.extensions)
            .map_err(|why| format!("compilation failed: {why}"))?;
        let text = text.to_owned();
        Ok((Compiled { text, program }, ty))
    }
}

/// An expression that can be run.
#[derive(Clone, Debug)]
pub struct Compiled {
    text: String,
    program: Program,
}

impl Compiled {
    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it uses a variable.
    pub fn uses(&self, name: &str) -> bool {
        self.program.uses(name)
    }

    /// Whether the expression selects a field of a variable.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        self.program.selects(variable, field)
    }

    /// Evaluates it; gives the result and what it cost.
    pub fn run<'a>(&'a self, scope: &Scope<'a>) -> (Result<Val<'a>, EvalError>, u64) {
        self.program.run(scope, CALL_LIMIT)
    }
}

fn texts(names: &[&str]) -> Value {
    let fields = names.iter().map(|name| ((*name).to_owned(), text()));
    json!({"type": "object", "properties": Value::Object(fields.collect())})
}

fn text() -> Value {
    json!({"type": "string"})
}

/// The type of `request`.
pub static REQUEST: LazyLock<Structural> = LazyLock::new(|| {
    let kind = texts(&["group", "version", "kind"]);
    let resource = texts(&["group", "version", "resource"]);
    let list = json!({"type": "array", "items": text()});
    Structural::read(&json!({"type": "object", "properties": {
        "kind": kind, "resource": resource, "subResource": text(),
        "requestKind": kind, "requestResource": resource, "requestSubResource": text(),
        "name": text(), "namespace": text(), "operation": text(),
        "userInfo": {"type": "object", "properties": {
            "username": text(), "uid": text(), "groups": list,
            "extra": {"type": "object", "additionalProperties": list},
        }},
        "dryRun": {"type": "boolean"},
        "options": {"x-kubernetes-preserve-unknown-fields": true},
    }}))
});

/// The type of `namespaceObject`.
pub static NAMESPACE: LazyLock<Structural> = LazyLock::new(|| {
    let list = json!({"type": "array", "items": text()});
    let map = json!({"type": "object", "additionalProperties": text()});
    let time = json!({"type": "string", "format": "date-time"});
    Structural::read(&json!({"type": "object", "properties": {
        "metadata": {"type": "object", "properties": {
            "name": text(), "generateName": text(), "namespace": text(), "labels": map, "annotations": map, "UID": text(),
            "creationTimestamp": time, "deletionGracePeriodSeconds": {"type": "integer"}, "deletionTimestamp": time,
            "generation": {"type": "integer"}, "resourceVersion": text(), "finalizers": list,
        }},
        "spec": {"type": "object", "properties": {"finalizers": list}},
        "status": {"type": "object", "properties": {
            "phase": text(),
            "conditions": {"type": "array", "items": {"type": "object", "properties": {
                "status": text(), "type": text(), "lastTransitionTime": time, "message": text(), "reason": text(),
            }}},
        }},
    }}))
});
