//! Server-side apply: who owns which field, and what an applied configuration makes of an object.
//!
//! [`update`] keeps `metadata.managedFields` right for every create, update and patch; [`apply`] merges an applied
//! configuration and finds conflicts. Start with those two. Behaviour and wording:
//! `k8s.io/apimachinery/pkg/util/managedfields` and `sigs.k8s.io/structured-merge-diff`.
//!
//! What managers own is said in the version that each of them writes in: see [`Versions`].

mod compare;
mod extract;
mod managers;
mod merge;
mod path;
mod scale;
mod set;
mod shape;
mod typed;
mod versions;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use compare::{Comparison, compare};
pub use extract::field_set;
pub use managers::{ManagerId, Managers, Operation, Owned};
use merge::Emptied;
pub use path::{PathElement, Scalar};
pub use scale::{SCALE_VERSION, Scaled};
pub use set::FieldSet;
use versions::{Compared, Shrinking};
pub use versions::{Versions, Wanted};

use crate::schema::{ListType, MapType, Schema};
use crate::status::Details;
use crate::value::same;
use crate::{ApiError, Object, time};

/// Who writes, what, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager; empty becomes `unknown`.
    pub manager: &'a str,
    /// The version that the request is in, for example `apps/v1`.
    pub api_version: &'a str,
    /// The sub-resource, or empty.
    pub subresource: &'a str,
    /// The time of the request.
    pub now: Timestamp,
    /// The kind's schema.
    pub schema: &'a Schema,
    /// The fields that this end point takes no notice of, such as `status` on the main resource.
    pub reset_fields: &'a FieldSet,
    /// What is known of objects in the versions of other managers.
    pub versions: &'a Versions,
}

/// Why a configuration does not apply.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields with other values.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The request is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// The configuration does not fit the schema, or the stored owners cannot be read.
    #[error("{0}")]
    Invalid(String),
    /// An object has to be known in another version before it can be said.
    #[error("an object is needed in version {}", .0.to)]
    Wants(Box<Wanted>),
}

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner.
    pub manager: ManagerId,
    /// The field, for example `.spec.replicas`.
    pub path: String,
    elements: Vec<PathElement>,
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        match error {
            ApplyError::BadRequest(why) => Self::bad_request(why),
            ApplyError::Invalid(why) => Self::new(500, "", why),
            ApplyError::Wants(_) => Self::internal(message),
            ApplyError::Conflicts(conflicts) => {
                let cause = |c: &Conflict| {
                    let why = format!("conflict with {}", c.manager.describe());
                    ("FieldManagerConflict".to_owned(), why, c.path.clone())
                };
                let causes = conflicts.iter().map(cause).collect();
                Self {
                    details: Some(Box::new(Details {
                        causes,
                        ..Details::default()
                    })),
                    ..Self::new(409, "Conflict", message)
                }
            }
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        let (manager, path) = (one.manager.describe(), &one.path);
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut lines = Vec::new();
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager.describe()));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.path));
    }
    let (count, lines) = (conflicts.len(), lines.join("\n"));
    format!("Apply failed with {count} conflicts: {lines}")
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Fields that nobody owns.
static NOBODYS: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

impl Writer<'_> {
    fn id(&self, manager: &str, operation: Operation) -> ManagerId {
        let manager = if manager.is_empty() {
            "unknown"
        } else {
            manager
        };
        ManagerId {
            manager: manager.to_owned(),
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => self.api_version.to_owned(),
            },
            subresource: self.subresource.to_owned(),
        }
    }

    /// Gives the manager what it changed between two versions, and takes that from all others.
    fn track(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
        manager: &str,
    ) -> Result<(), ApplyError> {
        let changes = Compared::of(live, new, managers, self)?;
        disown(managers, &changes, None);
        let changes = changes.into_own();
        let mut set = changes.modified;
        set.absorb(changes.added);
        set.subtract(&NOBODYS);
        if !set.is_empty() {
            let own = managers
                .entry(self.id(manager, Operation::Update))
                .or_default();
            own.set.absorb(set);
            own.api_version = self.api_version.to_owned();
            own.time = Some(time::rfc3339(self.now));
        }
        managers::cap(managers);
        Ok(())
    }
}

/// Takes changed and removed fields from all managers but one, and drops managers that own nothing and those whose version
/// is gone.
fn disown(managers: &mut Managers, changes: &Compared<'_>, except: Option<&ManagerId>) {
    for (id, owned) in managers.iter_mut() {
        if Some(id) == except {
            continue;
        }
        owned.set = match changes.at(&owned.api_version) {
            None => FieldSet::new(),
            Some(changes) => owned
                .set
                .difference(&changes.modified)
                .difference(&changes.added)
                .difference(&changes.removed),
        };
    }
    managers.retain(|_, owned| !owned.set.is_empty());
}

fn entries(object: &Object) -> Option<&Vec<Value>> {
    object.metadata()?.get("managedFields")?.as_array()
}

fn set_entries(object: &mut Object, managers: &Managers) {
    let entries = managers::encode(managers);
    if entries.is_empty() {
        object.metadata_mut().remove("managedFields");
    } else {
        object
            .metadata_mut()
            .insert("managedFields".to_owned(), entries.into());
    }
}

/// The owners that a write starts from: those in the request if it has any, else the stored ones.
fn start(live: Option<&Object>, new: &Object, writer: &Writer<'_>) -> Managers {
    let stored = || {
        let entries = live.and_then(entries);
        let decoded = entries.map(|e| managers::decode(e));
        decoded.and_then(Result::ok).unwrap_or_default()
    };
    if !writer.subresource.is_empty() {
        return stored();
    }
    match entries(new).map(Vec::as_slice) {
        // An empty list, or a list of one empty entry, asks to forget all owners.
        Some([]) => Managers::new(),
        Some([Value::Object(one)]) if one.is_empty() => Managers::new(),
        Some(entries) => match managers::decode(entries) {
            Ok(managers) if !managers.is_empty() => managers,
            _ => stored(),
        },
        None => stored(),
    }
}

/// Brings `managedFields` of the new version up to date with a create (`live` is none), an update or a patch.
///
/// # Errors
/// [`ApplyError::Wants`]; the new version is as it was then.
pub fn update(
    live: Option<&Object>,
    new: &mut Object,
    writer: &Writer<'_>,
) -> Result<(), ApplyError> {
    let mut managers = start(live, new, writer);
    let declared = new.metadata_mut().remove("managedFields");
    // Objects from before anybody tracked owners stay untracked until the first apply.
    if managers.is_empty() && live.is_some_and(|live| !live.uid().is_empty()) {
        return Ok(());
    }
    let mut old = live.map(|live| live.0.clone()).unwrap_or_default();
    // Nobody owns owners, and whoever converts an object need not see them.
    if let Some(Value::Object(metadata)) = old.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    let tree = Value::Object(std::mem::take(&mut new.0));
    let tracked = writer.track(&Value::Object(old), &tree, &mut managers, writer.manager);
    if let Value::Object(map) = tree {
        new.0 = map;
    }
    if let Err(error) = tracked {
        let metadata = new.metadata_mut();
        declared.map(|declared| metadata.insert("managedFields".to_owned(), declared));
        return Err(error);
    }
    set_entries(new, &managers);
    Ok(())
}

/// Applies a configuration to the live object (none to create it) and gives the new version with its owners.
///
/// The result still wants defaults and validation. Nothing changed is no error: the result then equals the live object
/// but for owners.
///
/// # Errors
/// Conflicts with other owners unless `force`; a configuration that does not fit.
pub fn apply(
    live: Option<&Object>,
    config: &Object,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Object, ApplyError> {
    let declared = config.metadata().and_then(|m| m.get("managedFields"));
    if declared.is_some_and(|m| !m.is_null()) {
        let why = "metadata.managedFields must be nil";
        return Err(ApplyError::BadRequest(why.to_owned()));
    }
    let tree = Value::Object(config.0.clone());
    typed::check(&tree, writer.schema).map_err(|why| {
        let what = describe(config);
        ApplyError::Invalid(format!(
            "failed to create typed patch object ({what}): {why}"
        ))
    })?;
    let stored = live.and_then(entries).map(Vec::as_slice);
    let mut managers = managers::decode(stored.unwrap_or_default())
        .map_err(|e| ApplyError::Invalid(format!("failed to decode managed fields: {e}")))?;
    let mut current = live.map(|live| live.0.clone()).unwrap_or_default();
    if let Some(Value::Object(metadata)) = current.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    let current = Value::Object(current);
    if managers.is_empty() {
        let nothing = Value::Object(Map::new());
        writer.track(&nothing, &current, &mut managers, BEFORE_FIRST_APPLY)?;
    }
    let result = merge_config(&current, &tree, &managers, writer, force);
    let (new, managers) = match result {
        Err(ApplyError::Conflicts(conflicts)) if writer.manager == "kubectl" => {
            let allowed = last_applied_fields(&current, writer).unwrap_or_default();
            let left: Vec<Conflict> = conflicts
                .into_iter()
                .filter(|conflict| !allowed.has(&conflict.elements))
                .collect();
            if !left.is_empty() {
                return Err(ApplyError::Conflicts(left));
            }
            merge_config(&current, &tree, &managers, writer, true)?
        }
        other => other?,
    };
    let mut new = Object::from_value(new).unwrap_or_default();
    refresh_last_applied(&mut new, config, writer);
    set_entries(&mut new, &managers);
    Ok(new)
}

/// Merges a configuration into an object for whoever owns no fields: nothing is tracked, nothing is taken away.
///
/// # Errors
/// It does not fit the schema, or would replace a list, map or object as a whole.
pub fn merge_unowned(live: &Value, config: &Value, schema: &Schema) -> Result<Value, String> {
    typed::check(config, schema)
        .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let mut atomics = Vec::new();
    find_atomics("", config, schema, &mut atomics);
    if !atomics.is_empty() {
        let atomics = atomics.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomics}"
        ));
    }
    Ok(merge::merge(live, config, schema))
}

/// Whatever in a value is replaced as a whole.
fn find_atomics(path: &str, value: &Value, schema: &Schema, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if schema.map_type() == MapType::Atomic {
                found.push(path.to_owned());
            }
            for (key, value) in map {
                if let Some(field) = schema.property(key) {
                    find_atomics(&format!("{path}.{key}"), value, field, found);
                }
            }
        }
        Value::Array(items) => {
            if schema.list_type() == ListType::Atomic {
                found.push(path.to_owned());
            }
            for (index, item) in items.iter().enumerate() {
                let element = schema.items().unwrap_or(Schema::any());
                find_atomics(&format!("{path}[{index}]"), item, element, found);
            }
        }
        _ => {}
    }
}

/// `namespace/name; group/version, Kind=kind`, as messages name an object.
fn describe(object: &Object) -> String {
    format!(
        "{}/{}; {}, Kind={}",
        object.namespace(),
        object.name(),
        match object.api_version() {
            // The core group prints as an empty group.
            version if !version.contains('/') => format!("/{version}"),
            version => version.to_owned(),
        },
        object.kind()
    )
}

fn merge_config(
    live: &Value,
    config: &Value,
    managers: &Managers,
    writer: &Writer<'_>,
    force: bool,
) -> Result<(Value, Managers), ApplyError> {
    let schema = writer.schema;
    let id = writer.id(writer.manager, Operation::Apply);
    let mut managers = managers.clone();
    let last = managers.get(&id).cloned();
    let set = field_set(config, schema).recursive_difference(writer.reset_fields);
    let own = managers.entry(id.clone()).or_default();
    own.set = set;
    own.api_version = writer.api_version.to_owned();

    let merged = merge::merge(live, config, schema);
    let pruned = match last.filter(|last| !last.set.is_empty()) {
        Some(last) => prune(&merged, &last, &managers, writer)?,
        None => None,
    };
    let compared = pruned.as_ref().map_or(&merged, |p| &p.compared);
    let changes = Compared::of(live, compared, &managers, writer)?;
    if !force {
        let conflicts = find_conflicts(&managers, &changes, &id);
        if !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
    }
    disown(&mut managers, &changes, Some(&id));
    let new = pruned.map_or(merged, |p| p.kept);
    if let Some(own) = managers.get_mut(&id) {
        own.set = own.set.difference(&NOBODYS);
        if !same(live, &new) {
            own.time = Some(time::rfc3339(writer.now));
        }
    }
    managers.retain(|_, owned| !owned.set.is_empty());
    Ok((new, managers))
}

fn find_conflicts(managers: &Managers, changes: &Compared<'_>, id: &ManagerId) -> Vec<Conflict> {
    let others = managers.iter().filter(|(other, _)| *other != id);
    let conflict = |manager: &ManagerId, elements: Vec<PathElement>| Conflict {
        manager: manager.clone(),
        path: elements.iter().map(ToString::to_string).collect(),
        elements,
    };
    others
        .flat_map(|(manager, owned)| {
            let changed = changes.at(&owned.api_version);
            let changed = changed.map(|c| c.modified.union(&c.added));
            let paths = owned.set.intersection(&changed.unwrap_or_default()).paths();
            paths.into_iter().map(move |path| conflict(manager, path))
        })
        .collect()
}

/// A new version as owners are compared with it, and as it is kept.
struct Pruned {
    compared: Value,
    kept: Value,
}

/// Removes what the manager applied last time and does not any more, unless somebody else owns it.
fn prune(
    merged: &Value,
    last: &Owned,
    managers: &Managers,
    writer: &Writer<'_>,
) -> Result<Option<Pruned>, ApplyError> {
    let Some(there) = versions::as_last_applied(merged, &last.api_version, writer)? else {
        return Ok(None);
    };
    let named = |value: &Value, schema: &Schema| field_set(value, schema).with_named_fields(schema);
    let without = |value: &Value, paths: &FieldSet, schema: &Schema| {
        merge::remove(value, paths, schema, Emptied::Null).unwrap_or_default()
    };
    let last_set = last.set.with_named_fields(there.schema);
    let mut left = Shrinking {
        pruned: without(&there.object, &last_set, there.schema),
        merged: there.object.clone(),
    };
    let mut owned: BTreeMap<&str, FieldSet> = BTreeMap::new();
    for owner in managers.values() {
        owned
            .entry(&owner.api_version)
            .or_default()
            .extend(&owner.set);
    }
    // Those of the version that was applied last come first: what conversion needs is there again.
    let first = owned.remove(last.api_version.as_str()).unwrap_or_default();
    left.give_back(&last.api_version, &first, writer, &without, &named)?;
    for (version, set) in owned {
        left.give_back(version, &set, writer, &without, &named)?;
    }
    // What nobody ever owned but stands in a removed element comes back, unless the last set had it.
    let back = writer
        .versions
        .view(&left.pruned, &last.api_version, writer)?;
    let with_owned = back.map_or(Value::Null, |view| view.object);
    let all = named(&there.object, there.schema);
    let gone = all
        .difference(&named(&with_owned, there.schema))
        .intersection(&last_set);
    let kept = merge::remove(&there.object, &gone, there.schema, Emptied::Gone);
    let compared = without(&there.object, &gone, there.schema);
    let home = |value: Value| -> Result<Value, ApplyError> {
        let view = writer.versions.view(&value, writer.api_version, writer)?;
        Ok(view.map_or(value, |view| view.object))
    };
    Ok(Some(Pruned {
        compared: home(compared)?,
        kept: home(kept.unwrap_or_default())?,
    }))
}

/// The fields that client-side apply wrote and that still have the values it wrote.
fn last_applied_fields(live: &Value, writer: &Writer<'_>) -> Option<FieldSet> {
    let annotations = live.get("metadata")?.get("annotations")?;
    let text = annotations.get(LAST_APPLIED)?.as_str()?;
    let config: Value = serde_json::from_str(text).ok()?;
    if config.get("apiVersion")?.as_str()? != writer.api_version {
        return None;
    }
    let changes = compare(&config, live, writer.schema);
    let set = field_set(&config, writer.schema);
    let changed = changes.modified.union(&changes.added);
    Some(set.difference(&changed).difference(&changes.removed))
}

/// `kubectl` may go back to client-side apply as long as its annotation is kept up to date.
fn refresh_last_applied(new: &mut Object, config: &Object, writer: &Writer<'_>) {
    let kept = new
        .annotations()
        .any(|(k, v)| k == LAST_APPLIED && !v.is_empty());
    if writer.manager != "kubectl" || !kept {
        return;
    }
    let mut config = config.clone();
    let annotations = config.object_at_mut(&["metadata", "annotations"]);
    annotations.remove(LAST_APPLIED);
    if annotations.is_empty() {
        config.metadata_mut().remove("annotations");
    }
    let mut text = String::from_utf8_lossy(&config.encode()).into_owned();
    text.push('\n');
    let annotations = new.object_at_mut(&["metadata", "annotations"]);
    annotations.insert(LAST_APPLIED.to_owned(), text.into());
}

/// Keeps the times of `managedFields` when a write changed nothing else, so that it is no write at all.
pub fn settle(live: &Object, new: &mut Object) {
    let strip = |object: &Object| {
        let mut object = object.clone();
        for entry in object
            .metadata_mut()
            .get_mut("managedFields")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Value::Object(entry) = entry {
                entry.remove("time");
            }
        }
        object.into_value()
    };
    if entries(new).is_some() && same(&strip(live), &strip(new)) {
        *new = live.clone();
    }
}

#[cfg(test)]
mod tests;
