//! A write, as webhooks and policies are told of it: under all names that its resource has, in the form of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use access::Lookup as _;
use access::admission::expression::conditions::{self, Matched};
use access::admission::expression::{self, Asker, Facts};
use access::admission::rules::{Name, Subject, is_exempt, is_policy};
use access::admission::webhook::Webhook;
use api::admissionregistration::webhook::EXCLUDED;
use machinery::{ApiError, Object};
use parking_lot::Mutex;
use serde_json::Value;

use crate::admit::Operation;
use crate::authorize::decide;
use crate::metrics::webhooks::Asked;
use crate::resource::Resource;

/// Who of the webhooks, or of the policies, is asked about a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    Nobody,
    /// Those that stand in files: what is written may say who else is asked.
    Static,
    Everybody,
}

impl Audience {
    /// Which of the policies.
    pub(crate) fn of_policies(operation: &Operation<'_>) -> Self {
        Self::of(operation, is_policy)
    }

    /// Which of the webhooks.
    pub(crate) fn of_webhooks(operation: &Operation<'_>) -> Self {
        Self::of(operation, is_exempt)
    }

    fn of(operation: &Operation<'_>, is_exempt: fn(&str, &str) -> bool) -> Self {
        let names = operation.resource().names();
        // An eviction has been asked about as such; the pod goes without further questions, as upstream.
        let within = operation.is_delete() && !operation.call().info.subresource.is_empty();
        if within || EXCLUDED.contains(&(names.group, names.plural)) {
            return Self::Nobody;
        }
        match is_exempt(names.group, names.kind) {
            true => Self::Static,
            false => Self::Everybody,
        }
    }

    /// Whether one belongs to it.
    pub(crate) fn holds(self, is_static: bool) -> bool {
        match self {
            Self::Nobody => false,
            Self::Static => is_static,
            Self::Everybody => true,
        }
    }
}

/// A write on its way.
pub(crate) struct Write<'a> {
    pub(crate) operation: &'a Operation<'a>,
    /// Absent for a delete.
    pub(crate) object: Option<&'a Object>,
    pub(crate) old: Option<&'a Object>,
    /// The resource under all its names; the first is what the client used.
    pub(crate) resources: Vec<Resource>,
    /// What somebody had to be asked for, by place and whether it is the old object.
    forms: Mutex<BTreeMap<(usize, bool), Object>>,
}

impl<'a> Write<'a> {
    pub(crate) fn new(
        operation: &'a Operation<'a>,
        object: &'a Object,
        old: Option<&'a Object>,
    ) -> Self {
        let resource = operation.resource();
        let mut resources = vec![resource.clone()];
        let known = operation.call().server.resources();
        resources.extend(known.equivalents(resource, &operation.call().info.subresource));
        Self {
            operation,
            object: (!operation.is_delete()).then_some(object),
            // What a connection leads to is no former state of it.
            old: old.filter(|_| operation.kind_of_write() != access::admission::Operation::Connect),
            resources,
            forms: Mutex::default(),
        }
    }

    /// The name under which a webhook is to be asked about the write, if it is.
    pub(super) async fn concerns(
        &self,
        webhook: &Webhook,
        mutating: bool,
    ) -> Result<Option<usize>, ApiError> {
        let Some(place) = self.matches(webhook)? else {
            return Ok(None);
        };
        let meets = self.meets(webhook, place, mutating).await?;
        Ok(meets.then_some(place))
    }

    /// How the write at a webhook is counted.
    pub(super) fn counted<'b>(&'b self, webhook: &'b Webhook, mutating: bool) -> Asked<'b> {
        Asked {
            name: &webhook.spec.name,
            mutating,
            operation: self.operation.kind_of_write().as_str(),
        }
    }

    fn matches(&self, webhook: &Webhook) -> Result<Option<usize>, ApiError> {
        let criteria = webhook.criteria.as_ref().map_err(ApiError::internal)?;
        self.with_subject(|subject| criteria.matches(subject))
    }

    /// Acts with the write as rules and selectors see it.
    pub(crate) fn with_subject<T>(&self, act: impl FnOnce(&Subject<'_>) -> T) -> T {
        let names: Vec<Name<'_>> = self.resources.iter().map(name).collect();
        let server = &self.operation.call().server;
        let find_namespace = |name: &str| -> Result<Arc<Object>, ApiError> {
            let found = server.get("", "namespaces", "", name);
            found.ok_or_else(|| ApiError::not_found("", "namespaces", name))
        };
        act(&Subject {
            operation: self.operation.kind_of_write(),
            names: &names,
            subresource: &self.operation.call().info.subresource,
            namespace: self.namespace(),
            object: self.object,
            old: self.old,
            find_namespace: &find_namespace,
        })
    }

    /// The value of `request`, under one of the resource's names.
    pub(crate) fn request(&self, place: usize) -> Value {
        let (kind, asked) = (self.kind(place), self.kind(0));
        let operation = self.operation;
        let mut request = expression::request(
            shape(&self.resources[0], &asked.2, operation),
            shape(&self.resources[place], &kind.2, operation),
            self.namespace(),
            self.name(),
            operation.kind_of_write(),
            &operation.call().user,
            operation.is_dry_run(),
            operation.options(),
        );
        // A sub-resource may have a body of another group.
        for (field, own) in [("kind", &kind), ("requestKind", &asked)] {
            request[field]["group"] = own.0.as_str().into();
            request[field]["version"] = own.1.as_str().into();
        }
        request
    }

    /// Whether the conditions of a webhook hold, under one of the resource's names.
    async fn meets(
        &self,
        webhook: &Webhook,
        place: usize,
        mutating: bool,
    ) -> Result<bool, ApiError> {
        if webhook.conditions.is_empty() {
            return Ok(true);
        }
        let tree = |object: Option<Object>| object.map(|object| Value::Object(object.0));
        let object = tree(self.object_in(place).await?);
        let old = tree(self.old_in(place).await?);
        let call = self.operation.call();
        let request = self.request(place);
        let server = &*call.server;
        let started = Instant::now();
        let matched = decide(server, |authorizer| {
            let facts = Facts::admission(&request, object.as_ref(), old.as_ref(), None);
            let asker = Asker::new(&call.user, authorizer);
            let facts = facts.with_authorizer(asker, &request);
            Ok::<_, ApiError>(conditions::check(&webhook.conditions, &facts))
        });
        let matched = matched.await?;
        let told = match &matched {
            Matched::Yes => Some(true),
            Matched::No(_) => Some(false),
            Matched::Unknown(_) => None,
        };
        let counted = self.counted(webhook, mutating);
        server
            .metrics()
            .webhooks
            .conditions(counted, started.elapsed(), told);
        match matched {
            Matched::Yes => Ok(true),
            Matched::No(_) => Ok(false),
            Matched::Unknown(_) if webhook.ignores_failure() => Ok(false),
            Matched::Unknown(why) => {
                let names = self.resources[0].names();
                Err(ApiError::forbidden(
                    names.group,
                    names.plural,
                    self.name(),
                    why,
                ))
            }
        }
    }

    /// The namespace; for one itself its own name.
    pub(crate) fn namespace(&self) -> &str {
        let names = self.resources[0].names();
        if names.group.is_empty() && names.plural == "namespaces" {
            return self.name();
        }
        &self.operation.call().info.namespace
    }

    /// The name of the object, empty while it has none.
    pub(crate) fn name(&self) -> &str {
        let named = self.operation.call().info.name.as_str();
        if !named.is_empty() {
            return named;
        }
        self.object.or(self.old).map_or("", Object::name)
    }

    /// The object in the form that it has under another name.
    pub(crate) async fn object_in(&self, place: usize) -> Result<Option<Object>, ApiError> {
        self.in_form(self.object, place, false).await
    }

    /// The old object in that form.
    pub(crate) async fn old_in(&self, place: usize) -> Result<Option<Object>, ApiError> {
        self.in_form(self.old, place, true).await
    }

    async fn in_form(
        &self,
        object: Option<&Object>,
        place: usize,
        old: bool,
    ) -> Result<Option<Object>, ApiError> {
        let Some(object) = object else {
            return Ok(None);
        };
        let known = self.forms.lock().get(&(place, old)).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let (from, to) = (&self.resources[0], &self.resources[place]);
        let made = self.convert(object, from, to).await?;
        if place > 0 && from.converter().is_some() {
            self.forms.lock().insert((place, old), made.clone());
        }
        Ok(Some(made))
    }

    /// An object that has such a form, as the client knows it.
    pub(crate) async fn out_of_form(
        &self,
        object: &Object,
        place: usize,
    ) -> Result<Object, ApiError> {
        self.convert(object, &self.resources[place], &self.resources[0])
            .await
    }

    async fn convert(
        &self,
        object: &Object,
        from: &Resource,
        to: &Resource,
    ) -> Result<Object, ApiError> {
        let (own, other) = (from.names(), to.names());
        let same = (own.group, own.version) == (other.group, other.version);
        // A body of a kind of its own is the same under every name.
        if same || object.kind() != own.kind {
            return Ok(object.clone());
        }
        let mut object = object.clone();
        if let Some(converter) = from.converter() {
            let server = &self.operation.call().server;
            let converted = converter.convert(server, vec![object], &to.kind).await;
            let converted = converted.map_err(|error| ApiError::internal(error.message))?;
            return Ok(converted.into_iter().next().unwrap_or_default());
        }
        if from.is_converted() {
            from.kind.to_stored(&mut object);
        }
        let mut object = to.in_own_form(object);
        object.set_type(&other.api_version(), other.kind);
        Ok(object)
    }

    /// Group, version and name of the kind of what is written, under a name of the resource.
    pub(crate) fn kind(&self, place: usize) -> (String, String, String) {
        let names = self.resources[place].names();
        let kind = self.operation.kind();
        if kind == names.kind {
            return (names.group.into(), names.version.into(), kind.into());
        }
        let version = self.object.or(self.old).map_or("v1", Object::api_version);
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let version = if version.is_empty() { "v1" } else { version };
        (group.into(), version.into(), kind.into())
    }
}

/// How a resource is called in the facts of conditions.
fn shape<'a>(
    resource: &'a Resource,
    kind: &'a str,
    operation: &'a Operation<'_>,
) -> expression::Names<'a> {
    let names = resource.names();
    expression::Names {
        group: names.group,
        version: names.version,
        resource: names.plural,
        kind,
        subresource: &operation.call().info.subresource,
    }
}

/// How a resource is called.
pub(crate) fn name(resource: &Resource) -> Name<'_> {
    let names = resource.names();
    Name {
        group: names.group,
        version: names.version,
        resource: names.plural,
    }
}
