//! Update: a whole new state for an object or for one part of it; also the loop that every change of a stored object
//! runs in.
//!
//! Behaviour: `k8s.io/apiserver/pkg/registry/rest/update.go`, `.../generic/registry/store.go` (`Update`).

use access::Attributes;
use api::Part;
use http::Response;
use machinery::apply::Wanted;
use machinery::schema::Schema;
use machinery::{ApiError, Object};
use serde_json::Value;
use store::Revision;

use super::{
    CommitError, Stored, WriteOptions, Written, commit_delete, commit_put_along, create, managed,
    written,
};
use crate::admit::{self, Operation};
use crate::allocate;
use crate::body::{Body, RequestBody};
use crate::cache::decode_stored;
use crate::call::Call;
use crate::charge;
use crate::decode;
use crate::read::get::fetch;
use crate::resource::{Resource, Storage};
use crate::server::store_error;

/// The text of a conflict that everybody knows.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";
/// How often a change is tried again when others are faster.
const TRIES: usize = 64;

/// Who manages what after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The fields that changed belong to the writer.
    Update,
    /// The change has settled it itself (server-side apply).
    Settled,
}

/// A change of a stored object: given the present state, the wanted one.
pub(crate) trait Change: Send + Sync {
    /// The wanted state; defaulted.
    fn make(&self, current: &Object) -> Result<Object, ApiError>;
    /// Who manages the fields afterwards.
    fn ownership(&self) -> Ownership {
        Ownership::Update
    }
    /// A version that the wanted state names is the client's word: when it is gone, the client has to decide anew.
    fn names_version(&self) -> bool {
        false
    }
    /// The object to create when there is none, for changes that can.
    fn make_new(&self) -> Option<Result<Object, ApiError>> {
        None
    }
    /// What has to be known before [`Change::make`], which has just failed, can say its last word.
    fn wanted(&self) -> Option<Wanted> {
        None
    }
    /// Takes in what came of it.
    fn learn(&self, _wanted: Wanted, _found: Option<(Value, Schema)>) {}
    /// What admission is shown in the place of the object.
    fn view(&self) -> Option<&dyn View> {
        None
    }
}

/// An object as a sub-resource with a kind of its own shows it.
pub(crate) trait View: Send + Sync {
    /// That kind.
    fn kind(&self) -> &'static str;
    /// The object in this view.
    fn of(&self, object: &Object) -> Object;
    /// Takes over into the object what the view says.
    ///
    /// # Errors
    /// The view says what cannot be.
    fn take_over(&self, view: &Object, object: &mut Object) -> Result<(), ApiError>;
}

struct Replace {
    object: Object,
    creates: bool,
}

impl Change for Replace {
    fn make(&self, _current: &Object) -> Result<Object, ApiError> {
        Ok(self.object.clone())
    }

    fn names_version(&self) -> bool {
        true
    }

    fn make_new(&self) -> Option<Result<Object, ApiError>> {
        self.creates.then(|| Ok(self.object.clone()))
    }
}

/// Answers PUT.
pub(crate) async fn update(
    call: &Call,
    resource: &Resource,
    part: Part,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(call)?;
    let mut object = decode::object(call, resource, body).await?;
    decode::check_namespace(call, resource, &mut object)?;
    decode::check_name(call, &object)?;
    let creates = part == Part::Main && resource.kind.create_on_update();
    let change = Replace { object, creates };
    let updated = apply_change(call, resource, Some(part), &options, &change).await?;
    written(call, resource, updated)
}

/// Carries a change to one part out (`None`: the server's own change, which kinds have no rules about); tries again when
/// somebody else was faster and the change does not insist on a version.
pub(crate) async fn apply_change(
    call: &Call,
    resource: &Resource,
    part: Option<Part>,
    options: &WriteOptions,
    change: &dyn Change,
) -> Result<Written, ApiError> {
    let storage = resource.storage("update")?;
    let key = resource.key(&call.info.namespace, &call.info.name)?;
    for _ in 0..TRIES {
        let Some(current) = fetch(call, storage, &key).await? else {
            let Some(new) = change.make_new() else {
                return Err(resource.not_found(&call.info.name));
            };
            let made = create_instead(call, resource, new?, options, change.ownership()).await;
            match made {
                // Somebody else made it in this moment: then it is there to be changed.
                Err(error) if error.reason == "AlreadyExists" => continue,
                made => return made,
            }
        };
        let revision = current.mod_revision;
        let old = decode_stored(&current.value, revision);
        let old = old.ok_or_else(|| ApiError::internal("the stored object cannot be read"))?;
        let storage_version = storage.kind.names().api_version();
        let attempt = Attempt {
            outdated: old.api_version() != storage_version,
            call,
            resource,
            storage,
            key: &key,
            part,
            options,
            revision,
        };
        let old = resource.present(&call.server, old).await?;
        match attempt.run(change, old).await {
            Err(CommitError::Conflict | CommitError::Taken) => {}
            Err(CommitError::Failed(error)) => return Err(error),
            Ok(written) => return Ok(written),
        }
    }
    Err(resource.conflict(&call.info.name, MODIFIED))
}

/// An update of something that is not there, for kinds that may be created so: the writer must be allowed to create.
async fn create_instead(
    call: &Call,
    resource: &Resource,
    mut new: Object,
    options: &WriteOptions,
    ownership: Ownership,
) -> Result<Written, ApiError> {
    if !new.resource_version().is_empty() && new.resource_version() != "0" || !new.uid().is_empty()
    {
        return Err(resource.conflict(&call.info.name, MODIFIED));
    }
    let mut attributes = Attributes::clone(call.attributes());
    attributes.verb = "create".to_owned();
    crate::authorize::authorize(&call.server, &attributes).await?;
    new.set_meta_str("resourceVersion", "");
    create::store_new(call, resource, new, options, ownership).await
}

/// An object that was there before.
fn changed(object: Object, stored: Option<Stored>) -> Written {
    Written {
        object,
        created: false,
        stored,
    }
}

struct Attempt<'a> {
    call: &'a Call,
    resource: &'a Resource,
    storage: &'a Storage,
    key: &'a str,
    part: Option<Part>,
    options: &'a WriteOptions,
    revision: Revision,
    /// It is stored in another version than objects are stored in today.
    outdated: bool,
}

impl Attempt<'_> {
    async fn run(&self, change: &dyn Change, old: Object) -> Result<Written, CommitError> {
        let (call, resource) = (self.call, self.resource);
        let mut new = self.make(change, &old).await?;
        let insists = self
            .check_version(&mut new, &old, change.names_version())
            .map_err(CommitError::Failed)?;
        let insists = insists && change.names_version();
        let claim = self
            .prepare_and_check(change, &mut new, &old)
            .await
            .map_err(CommitError::Failed)?;
        if is_finished(&new, &old, resource) {
            let gone = self.remove(new, &old, insists).await?;
            return Ok(changed(gone, None));
        }
        if is_same(&new, &old) && !self.outdated {
            return Ok(changed(self.refresh(old).await?, None));
        }
        if self.part.is_some() {
            let operation = Operation::update(call, resource);
            let paid = charge::charge(&operation, &new, Some(&old), self.options.dry_run).await;
            paid.map_err(CommitError::Failed)?;
        }
        if self.options.dry_run {
            let shown = super::as_if_stored(call, resource, new).await?;
            return Ok(changed(shown, None));
        }
        let along = claim.along(call, &new);
        let put = commit_put_along(
            call,
            resource,
            self.storage,
            self.key,
            &mut new,
            self.revision,
            along,
        )
        .await;
        match put {
            Ok(stored) => Ok(changed(new, stored)),
            Err(CommitError::Conflict) => Err(self.lost(insists)),
            Err(CommitError::Taken) => {
                claim.look_again(call).await?;
                Err(CommitError::Taken)
            }
            Err(failed) => Err(failed),
        }
    }

    /// The wanted state, with what it takes to say it.
    async fn make(&self, change: &dyn Change, old: &Object) -> Result<Object, CommitError> {
        loop {
            let failed = match change.make(old) {
                Ok(new) => return Ok(new),
                Err(failed) => failed,
            };
            let Some(wanted) = change.wanted() else {
                return Err(CommitError::Failed(failed));
            };
            let found = managed::converted(self.call, self.resource, &wanted).await;
            change.learn(wanted, found.map_err(CommitError::Failed)?);
        }
    }

    /// A write that changes nothing is none, unless the store keeps the object otherwise than it would today.
    async fn refresh(&self, mut old: Object) -> Result<Object, CommitError> {
        if self.options.dry_run {
            return Ok(old);
        }
        let key = self.storage.full_key(self.key);
        let written = self.call.server.store().refresh(&key, self.revision).await;
        if let Some(revision) = written.map_err(store_error)? {
            super::show(self.storage, revision).await;
            old.set_meta_str("resourceVersion", &revision.to_string());
        }
        Ok(old)
    }

    /// Whoever named a version is told that it is gone; others try again.
    fn lost(&self, insists: bool) -> CommitError {
        match insists {
            true => CommitError::Failed(self.resource.conflict(&self.call.info.name, MODIFIED)),
            false => CommitError::Conflict,
        }
    }

    /// The change may be bound to a version and to one incarnation of the object.
    fn check_version(
        &self,
        new: &mut Object,
        old: &Object,
        is_bound: bool,
    ) -> Result<bool, ApiError> {
        let (resource, name) = (self.resource, self.call.info.name.as_str());
        // What a patch says of it is looked at with the other fields.
        if is_bound && !new.uid().is_empty() && new.uid() != old.uid() {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: {}{}, ResourceVersion: 0, \
                 AdditionalErrorMsg: Precondition failed: UID in precondition: {}, UID in object meta: {}",
                self.storage.prefix,
                self.key,
                new.uid(),
                old.uid()
            );
            return Err(resource.conflict(name, why));
        }
        let wanted = new.resource_version();
        if wanted.is_empty() || wanted == "0" {
            if self.part.is_some() && !resource.kind.unconditional_update() {
                return Err(without_version(resource, name));
            }
            if resource.kind.unconditional_update() {
                new.set_meta_str("resourceVersion", old.resource_version());
            }
            return Ok(false);
        }
        if wanted.parse::<u64>().is_err() {
            let why = format!("strconv.ParseUint: parsing {wanted:?}: invalid syntax");
            return Err(ApiError::new(500, "", why));
        }
        if wanted != old.resource_version() {
            return Err(resource.conflict(name, MODIFIED));
        }
        Ok(true)
    }

    /// Admission, preparation, validation, in the order of the road.
    async fn prepare_and_check(
        &self,
        change: &dyn Change,
        new: &mut Object,
        old: &Object,
    ) -> Result<allocate::Claim, ApiError> {
        let (call, resource) = (self.call, self.resource);
        let told = || self.options.told(call, "UpdateOptions");
        let operation = Operation::update(call, resource).with_options(self.options.dry_run, told);
        if let (Some(part), Ownership::Update) = (self.part, change.ownership()) {
            managed::track(call, resource, self.options, part, Some(old), new).await;
        }
        let operation = match change.view() {
            None => operation,
            Some(view) => operation.of_kind(view.kind()),
        };
        if self.part.is_some() {
            let admitted = match change.view() {
                None => admit::mutate(&operation, new, Some(old)).await?,
                Some(view) => {
                    let mut shown = view.of(new);
                    admit::mutate(&operation, &mut shown, Some(&view.of(old))).await?;
                    view.take_over(&shown, new)?;
                    true
                }
            };
            if admitted {
                decode::default(resource, new)?;
            }
        }
        keep_server_metadata(new, old);
        let names = resource.names();
        new.set_type(&names.api_version(), names.kind);
        if let Some(part) = self.part {
            resource.kind.prepare_update(call.context(), part, new, old);
        }
        // What only spells out empty values is no change.
        super::settle(resource, new);
        // Upstream binds a pod past its update rules, so its generation stands still.
        let counts = self.part.is_some() && resource.kind.has_generation();
        if counts && (changed_beyond_status(new, old, resource) || self.changed_counted(new, old)) {
            new.metadata_mut()
                .insert("generation".into(), (old.generation() + 1).into());
        }
        let claim =
            allocate::for_write(call, resource, new, Some(old), self.options.dry_run).await?;
        super::settle(resource, new);
        self.validate(new, old)?;
        match change.view().filter(|_| self.part.is_some()) {
            Some(view) => {
                let (new, old) = (view.of(new), view.of(old));
                admit::validate(&operation, &new, Some(&old)).await?;
            }
            None if self.part.is_some() => admit::validate(&operation, new, Some(old)).await?,
            None => {}
        }
        Ok(claim)
    }

    /// Whether metadata that counts for the generation differs.
    fn changed_counted(&self, new: &Object, old: &Object) -> bool {
        let counted = self.resource.kind.generation_counts().iter();
        self.part == Some(Part::Main) && { counted }
            .any(|key| new.at(&["metadata", key]) != old.at(&["metadata", key]))
    }

    fn validate(&self, new: &Object, old: &Object) -> Result<(), ApiError> {
        let mut errors = api::meta::validate_object_meta_update(new, old);
        let kind = &self.resource.kind;
        if let Some(part) = self.part {
            let own = kind.validate_update(self.call.context(), part, new, old);
            errors.append(own.map_err(|error| decode::wrong_shape(self.resource, &error))?);
        }
        if errors.is_empty() {
            let part = self.part.into_iter();
            for warning in part.flat_map(|part| kind.update_warnings(part, new, old)) {
                self.call.warn(warning);
            }
            return Ok(());
        }
        let names = self.resource.names();
        let group = names.stored_as.map_or(names.group, |(group, _)| group);
        Err(ApiError::invalid(group, names.kind, new.name(), &errors))
    }

    /// The last finalizer is gone: the object goes too.
    async fn remove(
        &self,
        mut new: Object,
        old: &Object,
        insists: bool,
    ) -> Result<Object, CommitError> {
        if self.options.dry_run {
            return Ok(new);
        }
        let along = allocate::for_delete(self.call, self.resource, old);
        match commit_delete(self.call, self.storage, self.key, self.revision, along).await {
            Ok(revision) => {
                new.set_meta_str("resourceVersion", &revision.to_string());
                Ok(new)
            }
            Err(CommitError::Conflict) => Err(self.lost(insists)),
            Err(failed) => Err(failed),
        }
    }
}

/// 422 for an update that has to name the version that it replaces. As upstream, the resource stands for the kind.
fn without_version(resource: &Resource, name: &str) -> ApiError {
    let at = machinery::Path::new("metadata").child("resourceVersion");
    let mut errors = machinery::ErrorList::new();
    errors.invalid(&at, 0, "must be specified for an update");
    let names = resource.names();
    ApiError::invalid(names.group, names.plural, name, &errors)
}

/// Metadata that no client changes.
fn keep_server_metadata(new: &mut Object, old: &Object) {
    let own = old.metadata().cloned().unwrap_or_default();
    let metadata = new.metadata_mut();
    metadata.remove("selfLink");
    let keep = |metadata: &mut serde_json::Map<String, Value>, key: &str, always: bool| {
        if !always && metadata.contains_key(key) {
            return;
        }
        match own.get(key) {
            Some(value) => drop(metadata.insert(key.into(), value.clone())),
            None => drop(metadata.remove(key)),
        }
    };
    for key in ["creationTimestamp", "generation"] {
        keep(metadata, key, true);
    }
    for key in [
        "uid",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    ] {
        keep(metadata, key, false);
    }
    super::drop_empty(metadata);
}

/// Whether anything but metadata and status differs; the number that counts such changes goes up. The status of a custom
/// kind without that sub-resource is a field like any other.
fn changed_beyond_status(new: &Object, old: &Object, resource: &Resource) -> bool {
    let plain_status = resource.kind.may_be_outdated() && resource.subresource("status").is_none();
    let counted = |object: &Object| {
        let keys = object
            .0
            .iter()
            .filter(|(k, _)| *k != "metadata" && (plain_status || *k != "status"));
        keys.map(|(k, v)| (k.clone(), v.clone()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    counted(new) != counted(old)
}

/// Whether a write would change nothing (the times of managed fields aside).
fn is_same(new: &Object, old: &Object) -> bool {
    let plain = |object: &Object| {
        let mut object = object.clone();
        let entries = object
            .metadata_mut()
            .get_mut("managedFields")
            .and_then(Value::as_array_mut);
        for entry in entries
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            entry.remove("time");
        }
        object
    };
    plain(new) == plain(old)
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(crate) fn is_finished(new: &Object, old: &Object, resource: &Resource) -> bool {
    let grace = old
        .metadata()
        .and_then(|m| m.get("deletionGracePeriodSeconds"));
    let no_grace = grace
        .and_then(Value::as_i64)
        .is_none_or(|seconds| seconds == 0);
    old.deletion_timestamp().is_some()
        && no_grace
        && new.finalizers().next().is_none()
        && !super::delete::is_held(new, resource)
}
