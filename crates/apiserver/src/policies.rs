//! Admission policies: expressions that writes keep to, and expressions that change them.
//!
//! Contract: a policy is in force when the write that made its binding is answered, and no more when that is gone. Those that may
//! change an object are asked one after the other, between the plug-ins and the webhooks; when somebody after them changed it,
//! those that want to see that are asked again. Those that may only refuse are asked after the plug-ins had their last word,
//! before the webhooks. Without policies a write costs one look at a pointer.
//!
//! What they say is decided in `access::admission::policies`; here a write is shown to them in the form that they want.

mod checks;
mod mutate;

use std::sync::Arc;
use std::time::Instant;

use access::Lookup as _;
use access::admission::policies::validation::Outcome;
use access::admission::policies::{Binding, Hook, Part, Policies, Shown, part_of};
use arc_swap::ArcSwap;
use machinery::{ApiError, Object};
use parking_lot::Mutex;
use serde_json::Value;
use store::EventKind;

use crate::admit::Operation;
use crate::authorize::decide;
use crate::cache::{Change, Follower};
use crate::webhooks::write::{Audience, Write};
use checks::Checks;
pub(crate) use mutate::Mutations;

/// The policies of the moment.
#[derive(Default)]
pub(crate) struct Table {
    current: ArcSwap<Policies>,
    changing: Mutex<()>,
    checks: Checks,
}

impl Table {
    /// All of them, as they are now.
    pub(crate) fn load(&self) -> Arc<Policies> {
        self.current.load_full()
    }

    fn apply(&self, mutating: bool, part: Part, change: &Change) {
        let object = match change.kind {
            EventKind::Put => change.object.decode(),
            EventKind::Delete => None,
        };
        let _changing = self.changing.lock();
        let mut next = Policies::clone(&self.current.load());
        next.apply(mutating, part, change.object.name(), object.as_ref());
        self.current.store(Arc::new(next));
    }

    /// Puts policies and bindings of files in the place of those that were there before.
    pub(crate) fn replace_static(&self, mutating: bool, before: &[Object], now: &[Object]) {
        let part = |object: &Object| match object.kind().ends_with("Binding") {
            true => Part::Binding,
            false => Part::Policy,
        };
        let _changing = self.changing.lock();
        let mut next = Policies::clone(&self.current.load());
        for gone in before {
            next.apply(mutating, part(gone), gone.name(), None);
        }
        for new in now {
            next.apply(mutating, part(new), new.name(), Some(new));
        }
        self.current.store(Arc::new(next));
    }

    /// Follows a resource, if it holds policies or bindings.
    pub(crate) fn follows(self: &Arc<Self>, group: &str, resource: &str) -> Option<Follower> {
        let (mutating, part) = part_of(group, resource)?;
        let table = self.clone();
        Some(Box::new(move |change| table.apply(mutating, part, change)))
    }

    /// What has been counted, in the text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        self.checks.render()
    }
}

/// Who is asked about such a write by a plug-in of this name.
fn audience(operation: &Operation<'_>, plug_in: &str) -> Audience {
    let settings = &operation.call().server.policy().admission;
    match settings.has(plug_in) {
        true => Audience::of_policies(operation),
        false => Audience::Nobody,
    }
}

/// A write in the form of one of its resource's names.
struct Form {
    request: Value,
    object: Option<Value>,
    old: Option<Value>,
    namespace: Option<Value>,
}

impl Form {
    /// # Errors
    /// 404: the namespace is not there. 500: the object cannot be converted.
    async fn new(write: &Write<'_>, place: usize) -> Result<Self, ApiError> {
        let tree = |object: Option<Object>| object.map(Object::into_value);
        let names = write.resources[0].names();
        let is_namespace = names.group.is_empty() && names.plural == "namespaces";
        let namespace = match write.namespace() {
            "" => None,
            _ if is_namespace => None,
            name => {
                let found = write
                    .operation
                    .call()
                    .server
                    .get("", "namespaces", "", name);
                let found = found.ok_or_else(|| ApiError::not_found("", "namespaces", name))?;
                Some(Value::Object(found.0.clone()))
            }
        };
        Ok(Self {
            request: write.request(place),
            object: tree(write.object_in(place).await?),
            old: tree(write.old_in(place).await?),
            namespace,
        })
    }

    /// Asks something that depends on what the user may do.
    async fn ask<T>(
        &self,
        operation: &Operation<'_>,
        params: Option<&Value>,
        mut ask: impl FnMut(&Shown<'_>) -> T,
    ) -> T {
        let call = operation.call();
        decide(&call.server, |authorizer| {
            ask(&Shown {
                request: &self.request,
                object: self.object.as_ref(),
                old: self.old.as_ref(),
                namespace: self.namespace.as_ref(),
                params,
                user: &call.user,
                authorizer,
            })
        })
        .await
    }
}

/// A policy, a binding of it that is about a write, and the parameters that it is to be asked with.
struct Invocation {
    hook: Arc<Hook>,
    binding: Arc<Binding>,
    /// The place of the name under which the policy knows the resource.
    place: usize,
    params: Vec<Option<Value>>,
}

/// Who is to be asked about a write; `trouble` is told what is wrong with whom.
fn invocations(
    write: &Write<'_>,
    hooks: &[Arc<Hook>],
    audience: Audience,
    mut trouble: impl FnMut(&Hook, Option<&Binding>, &str),
) -> Vec<Invocation> {
    let server = &*write.operation.call().server;
    let mut all = Vec::new();
    for hook in hooks.iter().filter(|hook| audience.holds(hook.is_static())) {
        let place = match write.with_subject(|subject| hook.concerns(subject, write.name())) {
            Ok(None) => continue,
            Ok(Some(place)) => place,
            Err(error) => {
                trouble(hook, None, &error.message);
                continue;
            }
        };
        if let Err(why) = hook.ready(server) {
            trouble(hook, None, &why);
            continue;
        }
        for binding in &hook.bindings {
            let concerned = write.with_subject(|subject| binding.concerns(subject, write.name()));
            let params = match concerned {
                Ok(false) => continue,
                Ok(true) => hook.params(binding, write.namespace(), server),
                Err(error) => Err(error.message),
            };
            match params {
                Err(why) => trouble(hook, Some(binding), &why),
                Ok(params) => all.push(Invocation {
                    hook: hook.clone(),
                    binding: binding.clone(),
                    place,
                    params,
                }),
            }
        }
    }
    all
}

/// Asks all policies that may refuse a write.
///
/// # Errors
/// The first refusal.
pub(crate) async fn validate(
    operation: &Operation<'_>,
    object: &Object,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    let call = operation.call();
    let table = call.server.admission_policies();
    let policies = table.load();
    if policies.validating().is_empty() {
        return Ok(());
    }
    let audience = audience(operation, "ValidatingAdmissionPolicy");
    if audience == Audience::Nobody {
        return Ok(());
    }
    let write = Write::new(operation, object, old);
    let mut outcome = Outcome::default();
    let all = invocations(
        &write,
        policies.validating(),
        audience,
        |hook, binding, why| {
            outcome.misconfigured(hook, binding, why);
        },
    );
    let mut forms: Vec<(usize, Form)> = Vec::new();
    for invocation in &all {
        let known = forms.iter().position(|(own, _)| *own == invocation.place);
        let known = match known {
            Some(known) => known,
            None => {
                forms.push((invocation.place, Form::new(&write, invocation.place).await?));
                forms.len() - 1
            }
        };
        let form = &forms[known].1;
        for params in &invocation.params {
            let (hook, binding) = (&invocation.hook, &invocation.binding);
            let (begun, before) = (Instant::now(), outcome.checks.len());
            let opinion = form
                .ask(operation, params.as_ref(), |shown| hook.validate(shown))
                .await;
            outcome.hear(hook, binding, opinion);
            let took = begun.elapsed();
            table
                .checks
                .validated(&outcome.checks[before..], took.as_secs_f64());
        }
    }
    for (key, value) in outcome.annotations() {
        call.annotate(&key, &value);
    }
    let refused = operation.with(object, old, |request| {
        outcome.refusal(|why| request.forbidden(object, why))
    });
    outcome.warnings.into_iter().for_each(|w| call.warn(w));
    refused.map_or(Ok(()), Err)
}
