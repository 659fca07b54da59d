//! Admission: the plug-ins of `access` before a write is prepared, and again before it is stored; and the rule that
//! nobody grants what he does not hold.

use std::time::Duration;

use access::admission::{self, Request};
use access::node::Graph;
use access::rbac::Index;
use access::{Attributes, Authorizer, Decision, Privileged, Rules, Shared, User, Verdict};
use machinery::{ApiError, Object};

use crate::call::Call;
use crate::resource::Resource;
use crate::write::create::name_suffix;

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
}

impl<'a> Operation<'a> {
    fn new(call: &'a Call, resource: &'a Resource, operation: admission::Operation) -> Self {
        Self {
            call,
            resource,
            operation,
            kind: resource.names().kind,
            suffix: name_suffix(),
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

    /// The request.
    pub(crate) fn call(&self) -> &'a Call {
        self.call
    }

    /// Acts with the write as admission sees it.
    pub(crate) fn with<T>(
        &self,
        object: &Object,
        old: Option<&Object>,
        act: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let (call, info) = (self.call, &self.call.info);
        let name = if info.name.is_empty() {
            object.name().to_owned()
        } else {
            info.name.clone()
        };
        act(&Request {
            user: &call.user,
            operation: self.operation,
            group: &info.group,
            resource: self.resource.names().plural,
            subresource: &info.subresource,
            kind: self.kind,
            namespace: &info.namespace,
            name: &name,
            old,
            name_suffix: &self.suffix,
            without: &call.server.policy().without_admission,
            authorizer: call.server.authorizer(),
        })
    }
}

/// Waits a moment for objects that controllers are about to make and without which the write would be refused.
pub(crate) async fn patience(operation: &Operation<'_>, object: &Object) {
    let server = &operation.call.server;
    let awaited = |object: &Object| {
        operation.with(object, None, |request| {
            admission::awaits(request, object, &**server)
        })
    };
    let Some(first) = awaited(object) else { return };
    let Some(storage) = server.resources().storage("", first.resource) else {
        return;
    };
    let mut changed = storage.cache.subscribe();
    let wait = async { while awaited(object).is_some() && changed.changed().await.is_ok() {} };
    // What has not come by then is missing in earnest, and admission says so.
    let _ = tokio::time::timeout(PATIENCE, wait).await;
}

/// Lets the plug-ins change the object.
///
/// # Errors
/// The first refusal.
pub(crate) fn mutate(
    operation: &Operation<'_>,
    object: &mut Object,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    let lookup = &*operation.call.server;
    let before = object.clone();
    operation.with(&before, old, |request| {
        admission::admit(request, object, lookup)
    })
}

/// The last word before the store.
///
/// # Errors
/// The first refusal.
pub(crate) fn validate(
    operation: &Operation<'_>,
    object: &Object,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    let server = &operation.call.server;
    let writes = operation.operation != admission::Operation::Delete;
    if writes && operation.kind == operation.resource.names().kind {
        let mut attributes = operation.call.attributes();
        if attributes.name.is_empty() {
            object.name().clone_into(&mut attributes.name);
        }
        let index = server.rbac().read();
        let holder = Holder {
            nodes: server.nodes(),
            index: &index,
        };
        access::rbac::check_write(&attributes, object, old, &index, &holder)?;
    }
    operation.with(object, old, |request| {
        admission::validate(request, object, &**server)
    })
}

/// The server's authorizers over a role index that is being read already: taking its lock twice could wait for ever.
struct Holder<'a> {
    nodes: &'a Shared<Graph>,
    index: &'a Index,
}

impl Authorizer for Holder<'_> {
    fn authorize(&self, attributes: &Attributes) -> Verdict {
        let mut verdict = Privileged.authorize(attributes);
        if verdict.decision == Decision::NoOpinion {
            verdict = self.nodes.authorize(attributes);
        }
        if verdict.decision == Decision::NoOpinion {
            verdict = self.index.authorize(attributes);
        }
        verdict
    }

    fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        self.index.rules_for(user, namespace)
    }
}
