//! Admission: the plug-ins of `access` before a write is prepared, and again before it is stored; and the rule that
//! nobody grants what he does not hold.

mod gates;

use std::time::{Duration, Instant};

use access::admission::{self, Notes, Request};
use access::{Attributes, Authorizer, Privileged};
use machinery::{ApiError, Object};
use serde_json::Value;

use crate::authorize::{decide, decide_apart};
use crate::call::Call;
use crate::measures::Measures;
use crate::policies::{self, Mutations};
use crate::resource::Resource;
use crate::webhooks::{self, Rounds};
use crate::write::create::name_suffix;

pub(crate) use gates::Gates;

/// How long a write waits for what a controller is about to make.
const PATIENCE: Duration = Duration::from_secs(1);

/// A write, as admission sees it.
pub(crate) struct Operation<'a> {
    call: &'a Call,
    resource: &'a Resource,
    operation: admission::Operation,
    /// The kind of the body, where it is not the resource's own.
    kind: &'a str,
    suffix: String,
    dry_run: bool,
    /// The options of the write, as webhooks are told them: made when one is.
    options: Box<dyn Fn() -> Value + Send + Sync + 'a>,
}

impl<'a> Operation<'a> {
    fn new(call: &'a Call, resource: &'a Resource, operation: admission::Operation) -> Self {
        Self {
            call,
            resource,
            operation,
            kind: resource.names().kind,
            suffix: name_suffix(),
            dry_run: false,
            options: Box::new(|| Value::Null),
        }
    }

    /// A create.
    pub(crate) fn create(call: &'a Call, resource: &'a Resource) -> Self {
        Self::new(call, resource, admission::Operation::Create)
    }

    /// An update.
    pub(crate) fn update(call: &'a Call, resource: &'a Resource) -> Self {
        Self::new(call, resource, admission::Operation::Update)
    }

    /// A delete.
    pub(crate) fn delete(call: &'a Call, resource: &'a Resource) -> Self {
        Self::new(call, resource, admission::Operation::Delete)
    }

    /// A connection.
    pub(crate) fn connect(call: &'a Call, resource: &'a Resource) -> Self {
        Self::new(call, resource, admission::Operation::Connect)
    }

    /// With a body of another kind than the resource's.
    #[must_use]
    pub(crate) fn of_kind(self, kind: &'a str) -> Self {
        Self { kind, ..self }
    }

    /// With these options.
    #[must_use]
    pub(crate) fn with_options(
        self,
        dry_run: bool,
        options: impl Fn() -> Value + Send + Sync + 'a,
    ) -> Self {
        Self {
            dry_run,
            options: Box::new(options),
            ..self
        }
    }

    fn word(&self) -> &'static str {
        match self.operation {
            admission::Operation::Create => "CREATE",
            admission::Operation::Update => "UPDATE",
            admission::Operation::Delete => "DELETE",
            admission::Operation::Connect => "CONNECT",
        }
    }

    fn measure(&self, step: &'static str, refused: bool, began: Instant) {
        let operation = self.word();
        let measures = &self.call.server.metrics().measures;
        measures.admitted(operation, step, refused, began.elapsed());
    }

    /// The resource that is written.
    pub(crate) fn resource(&self) -> &'a Resource {
        self.resource
    }

    /// What is done.
    pub(crate) fn kind_of_write(&self) -> admission::Operation {
        self.operation
    }

    /// It has no object, only an old one.
    pub(crate) fn is_delete(&self) -> bool {
        self.operation == admission::Operation::Delete
    }

    /// The kind of the body.
    pub(crate) fn kind(&self) -> &'a str {
        self.kind
    }

    /// Nothing will be stored.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// The options of the write.
    pub(crate) fn options(&self) -> Value {
        (self.options)()
    }

    /// The request.
    pub(crate) fn call(&self) -> &'a Call {
        self.call
    }

    /// Acts with the write as admission sees it, where nobody asks what else the user may do.
    pub(crate) fn with<T>(
        &self,
        object: &Object,
        old: Option<&Object>,
        act: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        self.asking(self.name(object), old, &Privileged, act)
    }

    /// The name of what is written: that of the path, or its own where the path has none.
    fn name<'o>(&'o self, object: &'o Object) -> &'o str {
        match self.call.info.name.as_str() {
            "" => object.name(),
            name => name,
        }
    }

    /// Acts with the write as admission sees it; `authorizer` answers for what else the user may do.
    fn asking<T>(
        &self,
        name: &str,
        old: Option<&Object>,
        authorizer: &dyn Authorizer,
        act: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let (call, info) = (self.call, &self.call.info);
        let notes = Notes::default();
        let result = act(&Request {
            user: &call.user,
            operation: self.operation,
            group: &info.group,
            resource: self.resource.names().plural,
            subresource: &info.subresource,
            kind: self.kind,
            namespace: &info.namespace,
            name,
            old,
            name_suffix: &self.suffix,
            settings: &call.server.policy().admission,
            notes: &notes,
            authorizer,
        });
        for warning in notes.warnings.into_inner() {
            call.warn(warning);
        }
        for (key, value) in notes.annotations.into_inner() {
            call.annotate(&key, &value);
        }
        let seen = notes.pod_security.into_inner();
        if !seen.is_empty() {
            let about = match (&*info.group, &*info.resource) {
                ("", "pods") => "pod",
                ("", "namespaces") => "namespace",
                _ => "controller",
            };
            let of = (
                &*self.word().to_ascii_lowercase(),
                about,
                &*info.subresource,
            );
            (call.server.metrics().measures.pod_security).note(&seen, of);
        }
        result
    }
}

/// How long each plug-in took.
struct Stopwatch<'a> {
    measures: &'a Measures,
    operation: &'static str,
    step: &'static str,
    last: Instant,
    laps: Vec<(&'static str, bool, Duration)>,
}

impl<'a> Stopwatch<'a> {
    fn new(operation: &Operation<'a>, step: &'static str) -> Self {
        Self {
            measures: &operation.call.server.metrics().measures,
            operation: operation.word(),
            step,
            last: Instant::now(),
            laps: Vec::with_capacity(admission::PLUGINS.len()),
        }
    }

    /// To be told of each plug-in when it has answered.
    fn note(&mut self) -> impl FnMut(&'static str, bool) {
        |name, refused| {
            let now = Instant::now();
            self.laps.push((name, refused, now - self.last));
            self.last = now;
        }
    }
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        self.measures.plugged(self.operation, self.step, &self.laps);
    }
}

/// Makes the namespace of something new where the operator wants that; then waits a moment for objects that controllers are
/// about to make and without which the write would be refused.
///
/// # Errors
/// The namespace cannot be made.
pub(crate) async fn patience(operation: &Operation<'_>, object: &Object) -> Result<(), ApiError> {
    let server = &operation.call.server;
    if !operation.call.own {
        server.gates().provide(operation, object).await?;
    }
    let awaited = |object: &Object| {
        operation.with(object, None, |request| {
            admission::awaits(request, object, &**server)
        })
    };
    let Some(first) = awaited(object) else {
        return Ok(());
    };
    let Some(storage) = server.resources().storage("", first.resource) else {
        return Ok(());
    };
    let mut changed = storage.cache.subscribe();
    let wait = async { while awaited(object).is_some() && changed.changed().await.is_ok() {} };
    // What has not come by then is missing in earnest, and admission says so.
    let _ = tokio::time::timeout(PATIENCE, wait).await;
    Ok(())
}

/// Lets the plug-ins, then the policies and then the webhooks change the object; whether any did. When policies or webhooks
/// did, all look again once.
///
/// # Errors
/// The first refusal.
pub(crate) async fn mutate(
    operation: &Operation<'_>,
    object: &mut Object,
    old: Option<&Object>,
) -> Result<bool, ApiError> {
    if operation.call.own {
        return Ok(false);
    }
    let began = Instant::now();
    let admitted = plug_ins(operation, object, old).await;
    operation.measure("admit", admitted.is_err(), began);
    let by_plug_ins = admitted?;
    let settings = &operation.call.server.policy().admission;
    let mut policies = Mutations::of(operation);
    let rounds = Rounds::of(operation).filter(|_| settings.has("MutatingAdmissionWebhook"));
    let (mut rounds, mut changed) = (rounds, false);
    if let Some(policies) = &mut policies {
        changed |= policies.run(operation, object, old).await?;
    }
    if let Some(rounds) = &mut rounds {
        changed |= rounds.run(operation, object, old).await?;
    }
    if !changed {
        return Ok(by_plug_ins);
    }
    let before = object.clone();
    plug_ins(operation, object, old).await?;
    if let Some(policies) = &mut policies {
        policies.run(operation, object, old).await?;
    }
    if let Some(rounds) = &mut rounds {
        if *object != before {
            rounds.require_again();
        }
        rounds.run(operation, object, old).await?;
    }
    Ok(true)
}

/// Whether the plug-ins have changed the object.
async fn plug_ins(
    operation: &Operation<'_>,
    object: &mut Object,
    old: Option<&Object>,
) -> Result<bool, ApiError> {
    let server = &*operation.call.server;
    let name = operation.name(object).to_owned();
    let ask = |authorizer: &dyn Authorizer, object: &mut Object| {
        let mut stopwatch = Stopwatch::new(operation, "admit");
        operation.asking(&name, old, authorizer, |request| {
            admission::admit(request, object, server, stopwatch.note())
        })
    };
    let names = operation.resource.names();
    if !admission::may_change(&operation.call.info.group, names.plural) {
        // Nearly all writes: nobody changes the object, and so nobody needs to know how it was.
        let before = cfg!(debug_assertions).then(|| object.clone());
        decide(server, |authorizer| ask(authorizer, object)).await?;
        debug_assert!(
            before.is_none_or(|before| before == *object),
            "a plug-in changed one of the {}, which its `changes` do not name",
            names.plural
        );
        return Ok(false);
    }
    let before = &*object;
    let admitted = decide(server, |authorizer| {
        let mut changed = before.clone();
        ask(authorizer, &mut changed).map(|()| changed)
    });
    let admitted = admitted.await?;
    let changed = admitted != *object;
    *object = admitted;
    Ok(changed)
}

/// The last word before the store: the plug-ins, then the policies, then the webhooks.
///
/// # Errors
/// The first refusal.
pub(crate) async fn validate(
    operation: &Operation<'_>,
    object: &Object,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    if operation.call.own {
        return Ok(());
    }
    let began = Instant::now();
    let valid = refuse(operation, object, old).await;
    operation.measure("validate", valid.is_err(), began);
    valid?;
    policies::validate(operation, object, old).await?;
    let settings = &operation.call.server.policy().admission;
    match settings.has("ValidatingAdmissionWebhook") {
        true => webhooks::validate(operation, object, old).await,
        false => Ok(()),
    }
}

async fn refuse(
    operation: &Operation<'_>,
    object: &Object,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    let server = &*operation.call.server;
    let writes = operation.operation != admission::Operation::Delete;
    let is_whole = writes && operation.kind == operation.resource.names().kind;
    if is_whole && access::rbac::is_policy(operation.call.attributes()) {
        let mut attributes = Attributes::clone(operation.call.attributes());
        operation.name(object).clone_into(&mut attributes.name);
        // The rules are being read here, and roles are asked for rights as well: taking their lock twice could wait for ever.
        decide_apart(server, |authorizer| {
            let index = server.rbac().read();
            access::rbac::check_write(&attributes, object, old, &index, authorizer)
        })
        .await?;
    }
    decide(server, |authorizer| {
        let mut stopwatch = Stopwatch::new(operation, "validate");
        operation.asking(operation.name(object), old, authorizer, |request| {
            admission::validate(request, object, server, stopwatch.note())?;
            if writes {
                access::admission::policies::rights::check_write(request, object, server)?;
            }
            Ok::<(), ApiError>(())
        })
    })
    .await?;
    server.gates().validate(operation, object, old).await
}
