//! Delete: at once, after a grace period, or when the last finalizer is gone.
//!
//! Behaviour: `k8s.io/apiserver/pkg/registry/rest/delete.go`, `.../generic/registry/store.go` (`Delete`).

mod options;

use api::{Dependents, Part, Subresource};
use http::Response;
use jiff::{SignedDuration, Timestamp};
use machinery::{ApiError, Object, time};
use serde_json::{Value, json};
use store::Revision;

use super::{CommitError, commit_delete, commit_put, object_answer};
use crate::admit::{self, Operation};
use crate::allocate;
use crate::body::{Body, RequestBody};
use crate::cache::decode_stored;
use crate::call::Call;
use crate::negotiate::Form;
use crate::read::get::fetch;
use crate::resource::{Resource, Storage};
use crate::respond;

pub(crate) use options::{DeleteOptions, Propagation};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const TRIES: usize = 64;

/// What became of an object.
pub(crate) enum Deleted {
    /// It is gone; this is its last state.
    Gone(Object),
    /// It is marked and waits.
    Marked(Object),
}

/// Answers DELETE on one object.
pub(crate) async fn delete(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let custom = resource.kind.may_be_outdated();
    Form::negotiate(&call.headers, &call.query, custom)?;
    let options = DeleteOptions::read(call, body).await?;
    options.warn(call, resource);
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    match delete_one(call, resource, namespace, name, &options).await? {
        Deleted::Marked(object) => object_answer(call, resource, 200, object),
        Deleted::Gone(object) if resource.kind.returns_deleted() => {
            object_answer(call, resource, 200, object)
        }
        Deleted::Gone(object) => {
            let mut details = json!({"name": object.name(), "kind": resource.names().plural, "uid": object.uid()});
            if !resource.names().group.is_empty() {
                details["group"] = resource.names().group.into();
            }
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": details,
            });
            Ok(respond::value(200, &call.form, &status))
        }
    }
}

/// Deletes one object; tries again when it changes meanwhile.
pub(crate) async fn delete_one(
    call: &Call,
    resource: &Resource,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Deleted, ApiError> {
    let storage = resource.storage("delete")?;
    let key = resource.key(namespace, name)?;
    for _ in 0..TRIES {
        let current = fetch(call, storage, &key).await?;
        let current = current.ok_or_else(|| resource.not_found(name))?;
        let old = decode_stored(&current.value, current.mod_revision);
        let old = old.ok_or_else(|| ApiError::internal("the stored object cannot be read"))?;
        let old = resource.present(&call.server, old).await?;
        let attempt = Attempt {
            call,
            resource,
            storage,
            key: &key,
            revision: current.mod_revision,
        };
        match attempt.run(old, options).await {
            Err(CommitError::Conflict | CommitError::Taken) => {}
            Err(CommitError::Failed(error)) => return Err(error),
            Ok(deleted) => return Ok(deleted),
        }
    }
    Err(resource.conflict(name, super::update::MODIFIED))
}

struct Attempt<'a> {
    call: &'a Call,
    resource: &'a Resource,
    storage: &'a Storage,
    key: &'a str,
    revision: Revision,
}

impl Attempt<'_> {
    async fn run(&self, old: Object, options: &DeleteOptions) -> Result<Deleted, CommitError> {
        self.preconditions(&old, options)
            .map_err(CommitError::Failed)?;
        self.admit(&old, options)
            .await
            .map_err(CommitError::Failed)?;
        let kind = &self.resource.kind;
        let mut new = old.clone();
        let first = old.deletion_timestamp().is_none();
        if first && kind.prepare_delete(self.call.context(), &mut new) {
            if is_two_phase(self.resource) {
                set_finalizers(&mut new, options.propagation, kind.dependents());
            }
            let now = time::rfc3339(self.call.now);
            new.set_meta_str("deletionTimestamp", &now);
            return self.marked(new, &old, options).await;
        }
        if is_held(&old, self.resource) {
            return Ok(Deleted::Marked(old));
        }
        let grace = self.grace(&mut new, options);
        if grace == Grace::Pending {
            return Ok(Deleted::Marked(old));
        }
        set_finalizers(&mut new, options.propagation, kind.dependents());
        let is_held_back = new.finalizers().next().is_some();
        match grace {
            Grace::Period(seconds) if is_held_back || seconds > 0 => {
                self.marked(new, &old, options).await
            }
            // What had a period and has it no more is shown with it.
            Grace::Period(_) => self.gone(new, &old, options).await,
            _ if is_held_back => {
                self.mark_now(&mut new);
                self.marked(new, &old, options).await
            }
            _ => self.gone(old.clone(), &old, options).await,
        }
    }

    async fn admit(&self, old: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
        let operation = Operation::delete(self.call, self.resource)
            .with_options(options.dry_run, || options.told());
        let nothing = Object::default();
        let mut scratch = Object::default();
        admit::mutate(&operation, &mut scratch, Some(old)).await?;
        admit::validate(&operation, &nothing, Some(old)).await
    }

    /// Writes the marks down; whoever is waited for lets the object go.
    async fn marked(
        &self,
        mut new: Object,
        old: &Object,
        options: &DeleteOptions,
    ) -> Result<Deleted, CommitError> {
        if !options.dry_run && new != *old {
            commit_put(
                self.call,
                self.resource,
                self.storage,
                self.key,
                &mut new,
                self.revision,
            )
            .await?;
        }
        Ok(Deleted::Marked(new))
    }

    async fn gone(
        &self,
        mut shown: Object,
        old: &Object,
        options: &DeleteOptions,
    ) -> Result<Deleted, CommitError> {
        if !options.dry_run {
            let along = allocate::for_delete(self.call, self.resource, old);
            let revision =
                commit_delete(self.call, self.storage, self.key, self.revision, along).await?;
            shown.set_meta_str("resourceVersion", &revision.to_string());
        }
        Ok(Deleted::Gone(shown))
    }

    fn preconditions(&self, old: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
        let names = self.resource.names();
        // As upstream: by the kind, not by the resource.
        let conflict =
            |why: String| Err(ApiError::conflict(names.group, names.kind, old.name(), why));
        if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != old.uid()) {
            return conflict(format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
                 deleted and then recreated",
                old.uid()
            ));
        }
        let wanted = options.resource_version.as_deref();
        if let Some(version) = wanted.filter(|v| *v != old.resource_version()) {
            return conflict(format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in \
                 record ({}). The object might have been modified",
                old.resource_version()
            ));
        }
        Ok(())
    }

    /// The time that the object's owner is given, noted in the metadata.
    fn grace(&self, new: &mut Object, options: &DeleteOptions) -> Grace {
        let requested = options
            .grace_period_seconds
            .map(|s| if s < 0 { 1 } else { s });
        let Some(own) = self.resource.kind.grace_period(new, requested) else {
            return Grace::None;
        };
        let Some(marked) = new.deletion_timestamp().map(time::parse) else {
            mark(new, later(self.call.now, own), own);
            count_deletion(new);
            return Grace::Period(own);
        };
        let before = new
            .metadata()
            .and_then(|m| m.get("deletionGracePeriodSeconds"));
        let before = before.and_then(Value::as_i64).unwrap_or(0);
        match requested {
            _ if before == 0 => Grace::None,
            // A period is only ever made shorter.
            Some(seconds) if seconds < before => {
                let at = later(marked.unwrap_or(self.call.now), seconds - before);
                let is_past = at < self.call.now;
                let seconds = if is_past { seconds.min(1) } else { seconds };
                mark(new, at.max(self.call.now), seconds);
                Grace::Period(seconds)
            }
            _ => Grace::Pending,
        }
    }

    /// Marks an object that nobody is given time for.
    fn mark_now(&self, new: &mut Object) {
        let marked = new.deletion_timestamp().map(time::parse);
        if marked.is_none() {
            count_deletion(new);
        }
        let now = self.call.now;
        let at = marked
            .flatten()
            .filter(|marked| *marked <= now)
            .unwrap_or(now);
        mark(new, at, 0);
    }
}

/// How a deletion waits for the owner of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grace {
    /// Not at all.
    None,
    /// So many seconds.
    Period(i64),
    /// As it did already.
    Pending,
}

/// To be deleted is a wish as any other.
fn count_deletion(new: &mut Object) {
    if new.generation() > 0 {
        let generation = new.generation() + 1;
        new.metadata_mut()
            .insert("generation".into(), generation.into());
    }
}

/// A time so many seconds later; the end of time when there is none.
fn later(from: Timestamp, seconds: i64) -> Timestamp {
    from.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

fn mark(new: &mut Object, at: Timestamp, grace: i64) {
    let metadata = new.metadata_mut();
    metadata.insert("deletionTimestamp".into(), time::rfc3339(at).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
}

/// The finalizers of the garbage collector follow the wish of the client; without one, what is there stays, and then the
/// kind is asked.
fn set_finalizers(new: &mut Object, wish: Option<Propagation>, dependents: Dependents) {
    let is_ours = |f: &str| f == ORPHAN || f == FOREGROUND;
    let wish = match dependents {
        Dependents::None => Propagation::Background,
        _ if wish.is_none() && new.finalizers().any(is_ours) => return,
        Dependents::Orphaned(_) => wish.unwrap_or(Propagation::Orphan),
        Dependents::Deleted => match wish {
            Some(wish) => wish,
            None => return,
        },
    };
    let others = new.finalizers().filter(|f| !is_ours(f));
    let mut finalizers: Vec<Value> = others.map(Value::from).collect();
    match wish {
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    let metadata = new.metadata_mut();
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}

/// Whether objects of a kind are emptied through `finalize` before they go.
fn is_two_phase(resource: &Resource) -> bool {
    resource
        .kind
        .subresources()
        .contains(&Subresource::Part(Part::Finalize))
}

/// Whether an object of such a kind still waits for that.
pub(crate) fn is_held(object: &Object, resource: &Resource) -> bool {
    let finalizers = object.at(&["spec", "finalizers"]).and_then(Value::as_array);
    is_two_phase(resource) && finalizers.is_some_and(|f| !f.is_empty())
}
