//! Writes: what creates, updates, patches and deletes have in common.

pub(crate) mod binding;
pub(crate) mod collection;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod eviction;
pub(crate) mod managed;
pub(crate) mod patch;
pub(crate) mod scale;
pub(crate) mod update;

use std::sync::Arc;
use std::time::Duration;

use api::Part;
use bytes::Bytes;
use http::Response;
use machinery::{ApiError, ErrorList, Object, Path};
use serde_json::{Value, json};
use store::{Compare, Op, Revision, Txn, TxnResult};

use crate::body::Body;
use crate::cache::spliced;
use crate::call::Call;
use crate::decode::write_options;
use crate::resource::{Resource, Storage};
use crate::respond;
use crate::server::store_error;
use crate::shape::Shaper;

/// How long events are kept.
const EVENT_TTL: Duration = Duration::from_secs(3600);

/// Writes an object of one of the program's kinds in the one way that there is.
fn settle(resource: &Resource, object: &mut Object) {
    if !resource.kind.may_be_outdated() {
        crate::protobuf::settle(object);
    }
}

/// Metadata has no empty lists and maps: a label or an owner taken away as the last one takes the field with it.
fn drop_empty(metadata: &mut serde_json::Map<String, Value>) {
    let fields = [
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ];
    for field in fields {
        let empty = match metadata.get(field) {
            Some(Value::Null) => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            _ => false,
        };
        if empty {
            metadata.remove(field);
        }
    }
}

/// What a patch is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A part of the object.
    Part(Part),
    /// Its scale.
    Scale,
}

/// Options that every write has.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    /// Everything but the last step.
    pub(crate) dry_run: bool,
    /// Who manages the fields that this write sets.
    pub(crate) manager: String,
    /// Takes fields from other managers (apply only).
    pub(crate) force: bool,
}

impl WriteOptions {
    /// Reads the options of a request.
    ///
    /// # Errors
    /// 422.
    pub(crate) fn parse(call: &Call) -> Result<Self, ApiError> {
        let mut errors = ErrorList::new();
        let values: Vec<&str> = call.query.all("dryRun").collect();
        let dry_run = dry_run(&mut errors, &values);
        let given = call.query.text("fieldManager");
        api::meta::field_manager(&mut errors, &Path::new("fieldManager"), given);
        if !errors.is_empty() {
            return Err(ApiError::invalid(
                "meta.k8s.io",
                write_options(call),
                "",
                &errors,
            ));
        }
        let manager = if given.is_empty() {
            agent(call)
        } else {
            given.to_owned()
        };
        Ok(Self {
            dry_run,
            manager,
            force: call.query.flag("force"),
        })
    }
}

impl WriteOptions {
    /// The options as webhooks are told them.
    pub(crate) fn told(&self, call: &Call, kind: &str) -> Value {
        let mut told = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            told["dryRun"] = json!(["All"]);
        }
        for key in ["fieldManager", "fieldValidation"] {
            if let Some(text) = call.query.get(key).filter(|text| !text.is_empty()) {
                told[key] = text.into();
            }
        }
        told
    }
}

/// Whether `dryRun` asks for it; other values than `All` are errors.
pub(crate) fn dry_run(errors: &mut ErrorList, values: &[&str]) -> bool {
    if values.iter().any(|value| *value != "All") {
        errors.not_supported(&Path::new("dryRun"), json!(values), &["All"]);
    }
    values.contains(&"All")
}

/// The client's name for itself, up to the first slash.
fn agent(call: &Call) -> String {
    let name = call.header("user-agent").split('/').next().unwrap_or("");
    let printable: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    if printable.is_empty() {
        "unknown".to_owned()
    } else {
        printable
    }
}

/// An object after a write.
pub(crate) struct Written {
    /// The object as the client sees it.
    pub(crate) object: Object,
    /// It did not exist before.
    pub(crate) created: bool,
    /// Its bytes in the store, where those are what the client sees.
    pub(crate) stored: Option<Stored>,
}

/// An object as the store has it: what every later reader is shown, and so the answer to its writer.
pub(crate) struct Stored {
    value: Bytes,
    revision: Revision,
}

/// What is written in the same transaction as an object: all of it or nothing.
#[derive(Default)]
pub(crate) struct Along {
    pub(crate) compare: Vec<Compare>,
    pub(crate) ops: Vec<Op>,
    /// Where it is kept, or known from.
    storages: Vec<Arc<Storage>>,
}

impl Along {
    /// Something that is kept there.
    pub(crate) fn with(storage: &Arc<Storage>) -> Self {
        Self {
            storages: vec![storage.clone()],
            ..Self::default()
        }
    }

    /// Whether it holds is seen there as well.
    pub(crate) fn seen_in(&mut self, storage: &Arc<Storage>) {
        self.storages.push(storage.clone());
    }
}

/// Why a transaction did not happen.
pub(crate) enum CommitError {
    /// Somebody else was first.
    Conflict,
    /// What was to be written along with the object is not as it was.
    Taken,
    /// Anything else.
    Failed(ApiError),
}

impl From<ApiError> for CommitError {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

/// Writes an object (in the resource's own form) under the condition that nobody has written it since `expected` (0: it
/// must not exist), and waits until this server's readers see it. Sets the resourceVersion.
pub(crate) async fn commit_put(
    call: &Call,
    resource: &Resource,
    storage: &Storage,
    key: &str,
    object: &mut Object,
    expected: Revision,
) -> Result<(), CommitError> {
    let along = Along::default();
    let stored = commit_put_along(call, resource, storage, key, object, expected, along);
    stored.await.map(drop)
}

/// The same, together with something else. Gives the stored bytes where those are what the resource shows.
pub(crate) async fn commit_put_along(
    call: &Call,
    resource: &Resource,
    storage: &Storage,
    key: &str,
    object: &mut Object,
    expected: Revision,
    along: Along,
) -> Result<Option<Stored>, CommitError> {
    object.set_meta_str("resourceVersion", "");
    if !resource.is_converted() && !resource.kind.may_be_outdated() {
        let value = object.encode();
        let revision = put(call, storage, key, value.clone(), expected, along).await?;
        object.set_meta_str("resourceVersion", &revision.to_string());
        return Ok(Some(Stored { value, revision }));
    }
    let stored = resource.as_stored(&call.server, object.clone()).await;
    let stored = stored.map_err(CommitError::Failed)?;
    let revision = put(call, storage, key, stored.encode(), expected, along).await?;
    if resource.kind.may_be_outdated() {
        // What became of it on the way in, and what is set where nothing was stored, everybody sees from now on.
        let shown = resource.present(&call.server, stored).await;
        *object = shown.map_err(CommitError::Failed)?;
    }
    object.set_meta_str("resourceVersion", &revision.to_string());
    Ok(None)
}

async fn put(
    call: &Call,
    storage: &Storage,
    key: &str,
    value: Bytes,
    expected: Revision,
    along: Along,
) -> Result<Revision, CommitError> {
    let key = storage.full_key(key);
    let is_event = storage.group.is_empty() && &*storage.resource == "events";
    let put = Op::Put {
        key: key.clone(),
        value,
        ttl: is_event.then_some(EVENT_TTL),
    };
    commit(call, storage, key, expected, put, along).await
}

/// An object that is not stored, as it would be shown if it were.
async fn as_if_stored(
    call: &Call,
    resource: &Resource,
    object: Object,
) -> Result<Object, ApiError> {
    if !resource.kind.may_be_outdated() {
        return Ok(object);
    }
    let stored = resource.as_stored(&call.server, object).await?;
    resource.present(&call.server, stored).await
}

/// Removes an object, under the same condition and together with something else; gives the revision of the removal.
pub(crate) async fn commit_delete(
    call: &Call,
    storage: &Storage,
    key: &str,
    expected: Revision,
    along: Along,
) -> Result<Revision, CommitError> {
    let key = storage.full_key(key);
    let delete = Op::Delete { key: key.clone() };
    commit(call, storage, key, expected, delete, along).await
}

async fn commit(
    call: &Call,
    storage: &Storage,
    key: Bytes,
    expected: Revision,
    op: Op,
    along: Along,
) -> Result<Revision, CommitError> {
    let is_alone = along.compare.is_empty();
    let own = Compare::ModRevision {
        key: key.clone(),
        equals: expected,
    };
    let txn = Txn {
        compare: [vec![own], along.compare].concat(),
        success: [vec![op], along.ops].concat(),
        failure_read: if is_alone { Vec::new() } else { vec![key] },
    };
    let failed = |error| CommitError::Failed(store_error(error));
    let operation = match (&txn.success[0], expected) {
        (Op::Put { .. }, 0) => "create",
        (Op::Put { .. }, _) => "update",
        _ => "delete",
    };
    let began = std::time::Instant::now();
    let written = call.server.store().txn(txn).await;
    let of = (&*storage.group, &*storage.resource);
    (call.server.metrics().measures).stored(operation, of, began.elapsed());
    match written.map_err(failed)? {
        TxnResult::Failed { current, .. } => {
            let seen = current
                .first()
                .map(|kv| kv.as_ref().map_or(0, |kv| kv.mod_revision));
            if is_alone || seen != Some(expected) {
                return Err(CommitError::Conflict);
            }
            for storage in &along.storages {
                let fresh = storage.cache.wait_fresh().await;
                fresh.map_err(CommitError::Failed)?;
            }
            Err(CommitError::Taken)
        }
        TxnResult::Committed { revision, .. } => {
            show(storage, revision).await;
            for other in &along.storages {
                show(other, revision).await;
            }
            Ok(revision)
        }
    }
}

/// Whoever has the answer finds his write in every view: authorization and admission included. Should the cache be
/// stuck, the write has still happened and is told so.
async fn show(storage: &Storage, revision: Revision) {
    if let Err(error) = storage.cache.wait_for(revision).await {
        tracing::warn!(%error, revision, resource = &*storage.resource, "the watch cache is late");
    }
}

/// The answer to a write.
pub(crate) fn written(
    call: &Call,
    resource: &Resource,
    written: Written,
) -> Result<Response<Body>, ApiError> {
    let code = if written.created { 201 } else { 200 };
    if let Some(stored) = &written.stored {
        let shaper = Shaper::of(call, resource)?;
        let as_stored = shaper.is_plain() && shaper.form.shape == crate::negotiate::Shape::Object;
        let shown = spliced(&stored.value, stored.revision).filter(|_| as_stored);
        if let Some(bytes) = shown {
            return Ok(respond::json_bytes(code, &shaper.form, bytes));
        }
    }
    object_answer(call, resource, code, written.object)
}

/// An answer with one object in the shape asked for.
pub(crate) fn object_answer(
    call: &Call,
    resource: &Resource,
    code: u16,
    object: Object,
) -> Result<Response<Body>, ApiError> {
    let shaper = Shaper::of(call, resource)?;
    shaper.check_number(false)?;
    if shaper.form.shape == crate::negotiate::Shape::Object {
        return Ok(match shaper.is_plain() {
            true => respond::json_bytes(code, &shaper.form, object.encode()),
            false => respond::value(code, &shaper.form, &object.into_value()),
        });
    }
    Ok(respond::value(code, &shaper.form, &shaper.one(object)))
}
