//! Mutating policies, asked one after the other.

use std::sync::Arc;
use std::time::Instant;

use access::admission::policies::mutation::{Key, Mutated, Rounds, Troubles};
use access::admission::policies::validation::error_type;
use access::admission::policies::{Hook, Policies};
use machinery::schema::Schema;
use machinery::{ApiError, Object};
use serde_json::Value;

use super::{Form, Invocation, audience, invocations};
use crate::admit::Operation;
use crate::decode;
use crate::schemas;
use crate::webhooks::write::{Audience, Write};

/// The policies that may change one write, and which of them want to look again.
pub(crate) struct Mutations {
    audience: Audience,
    policies: Arc<Policies>,
    rounds: Rounds,
    /// What they made of the object.
    last: Option<Object>,
}

impl Mutations {
    /// For one write; `None` when no policy is to be asked about it.
    pub(crate) fn of(operation: &Operation<'_>) -> Option<Self> {
        let policies = operation.call().server.admission_policies().load();
        if policies.mutating().is_empty() || operation.is_delete() {
            return None;
        }
        let audience = audience(operation, "MutatingAdmissionPolicy");
        (audience != Audience::Nobody).then(|| Self {
            audience,
            policies,
            rounds: Rounds::default(),
            last: None,
        })
    }

    /// Asks the policies of a round one after the other; true when one of them changed the object.
    ///
    /// # Errors
    /// What goes wrong with a policy that does not ignore it.
    pub(crate) async fn run(
        &mut self,
        operation: &Operation<'_>,
        object: &mut Object,
        old: Option<&Object>,
    ) -> Result<bool, ApiError> {
        if self.last.as_ref().is_some_and(|last| last != &*object) {
            self.rounds.require_again();
        }
        let mut troubles = Troubles::default();
        let all = {
            let write = Write::new(operation, object, old);
            invocations(
                &write,
                self.policies.mutating(),
                self.audience,
                |hook, binding, why| {
                    troubles.add(hook, binding.map(|b| &*b.name), why, true);
                },
            )
        };
        let mut changed = false;
        for invocation in &all {
            for params in &invocation.params {
                let asked = self.ask(
                    invocation,
                    params.as_ref(),
                    operation,
                    object,
                    old,
                    &mut troubles,
                );
                changed |= asked.await?;
            }
        }
        self.rounds.next();
        self.last = Some(object.clone());
        let refused = operation.with(object, old, |request| {
            troubles.refusal(|why| request.forbidden(object, why))
        });
        refused.map_or(Ok(changed), Err)
    }

    async fn ask(
        &mut self,
        invocation: &Invocation,
        params: Option<&Value>,
        operation: &Operation<'_>,
        object: &mut Object,
        old: Option<&Object>,
        troubles: &mut Troubles,
    ) -> Result<bool, ApiError> {
        let (hook, binding) = (&*invocation.hook, &invocation.binding.name);
        let write = Write::new(operation, object, old);
        let mut form = Form::new(&write, invocation.place).await?;
        match form.ask(operation, params, |shown| hook.meets(shown)).await {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(why) => {
                troubles.add(hook, Some(binding), &why, false);
                return Ok(false);
            }
        }
        let key = key(hook, binding, params);
        if !self.rounds.asks(&key) {
            return Ok(false);
        }
        let before = form.object.clone();
        let schema = schema(&write, invocation.place)?;
        for index in 0..hook.mutations() {
            let begun = Instant::now();
            let asked = form.ask(operation, params, |shown| {
                hook.mutate(index, shown, &schema)
            });
            let result = asked.await;
            let checks = &operation.call().server.admission_policies().checks;
            let error = error_type(result.as_ref().err().map(String::as_str));
            checks.mutated(&hook.name, binding, error, begun.elapsed().as_secs_f64());
            match result {
                Ok(Mutated::Unchanged) => {}
                Ok(Mutated::Merged(value)) => {
                    form.object = Some(shaped(&write, invocation.place, value, false)?);
                }
                Ok(Mutated::Patched(value)) => {
                    form.object = Some(shaped(&write, invocation.place, value, true)?);
                }
                Err(why) => troubles.add(hook, Some(binding), &why, false),
            }
        }
        let changed = form.object != before;
        if let (true, Some(Value::Object(map))) = (changed, form.object) {
            let new = write.out_of_form(&Object(map), invocation.place).await?;
            *object = new;
        }
        self.rounds.asked(key, changed, hook.wants_again());
        Ok(changed)
    }
}

fn key(hook: &Hook, binding: &str, params: Option<&Value>) -> Key {
    let meta = |params: &Value, field: &str| {
        let found = params.pointer(&format!("/metadata/{field}"));
        found.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let params = params.map(|p| (meta(p, "namespace"), meta(p, "name")));
    (hook.name.clone(), binding.to_owned(), params)
}

/// The schema of what is written, under a name of its resource.
fn schema(write: &Write<'_>, place: usize) -> Result<Schema, ApiError> {
    let resource = &write.resources[place];
    let (group, version, kind) = write.kind(place);
    let found = match kind == resource.names().kind {
        true => schemas::of(&*resource.kind),
        false => api::by_kind(&group, &version, &kind).and_then(schemas::of),
    };
    found.ok_or_else(|| {
        let shown = format!("{group}/{version}, Kind={kind}");
        ApiError::unavailable(format!(
            "Resource kind {shown} not found. There can be a delay between when CustomResourceDefinitions are created and when they are available."
        ))
    })
}

/// The object after a change: of its kind's shape, and with its defaults.
fn shaped(write: &Write<'_>, place: usize, value: Value, strict: bool) -> Result<Value, ApiError> {
    let object = Object::from_value(value);
    let mut object = object.map_err(|_| ApiError::internal("the patch leaves no object"))?;
    let resource = &write.resources[place];
    if write.operation.kind() == resource.names().kind {
        let report = resource.kind.check_fields(&mut object, &[]);
        if let Some(why) = report.type_error {
            return Err(ApiError::internal(why));
        }
        if strict && !report.unknown.is_empty() {
            let why = machinery::schema::strict_error(&report.unknown);
            return Err(ApiError::internal(why));
        }
        decode::default(resource, &mut object)?;
    }
    Ok(object.into_value())
}
