//! Who manages which fields: `metadata.managedFields`, kept by every write and decided by server-side apply.

use api::Part;
use machinery::apply::{self, ApplyError, FieldSet, Versions, Wanted, Writer};
use machinery::schema::Schema;
use machinery::{ApiError, Object};
use serde_json::Value;

use super::WriteOptions;
use crate::call::Call;
use crate::resource::Resource;
use crate::schemas;

fn with_writer<T>(
    call: &Call,
    resource: &Resource,
    options: &WriteOptions,
    part: Part,
    versions: &Versions,
    act: impl FnOnce(&Writer<'_>) -> T,
) -> T {
    let schema = schemas::of(&*resource.kind);
    act(&Writer {
        manager: &options.manager,
        api_version: &resource.names().api_version(),
        subresource: &call.info.subresource,
        now: call.now,
        schema: schema.as_ref().unwrap_or(Schema::any()),
        reset_fields: &FieldSet::of_fields(resource.kind.resets(part)),
        versions,
    })
}

/// The same objects in another version; none if there is no such version.
fn in_version(call: &Call, resource: &Resource, api_version: &str) -> Option<Resource> {
    if resource.names().api_version() == api_version {
        return Some(resource.clone());
    }
    if let Some(kind) = resource.kind.in_version(api_version) {
        let storage = resource.storage("get").ok()?.clone();
        return Some(Resource::custom(kind, storage));
    }
    let others = call.server.resources().equivalents(resource, "");
    let mut others = others.into_iter();
    others.find(|other| other.names().api_version() == api_version)
}

/// An object in the version that another manager writes in, for those who compare; none if there is no such version.
///
/// # Errors
/// It is not converted.
pub(crate) async fn converted(
    call: &Call,
    resource: &Resource,
    wanted: &Wanted,
) -> Result<Option<(Value, Schema)>, ApiError> {
    let object = Object::from_value(wanted.object.clone()).unwrap_or_default();
    let from = in_version(call, resource, object.api_version());
    let (Some(from), Some(to)) = (from, in_version(call, resource, &wanted.to)) else {
        if resource.kind.may_be_outdated() {
            let why = "request to convert CR to an invalid group/version";
            return Err(ApiError::new(500, "", format!("{why}: {}", wanted.to)));
        }
        return Ok(None);
    };
    let mut object = object;
    if let Some(converter) = resource.converter() {
        let converted = converter
            .convert(&call.server, vec![object], &to.kind)
            .await?;
        object = converted.into_iter().next().unwrap_or_default();
    } else if !resource.kind.may_be_outdated() {
        if from.is_converted() {
            from.kind.to_stored(&mut object);
        }
        object = to.in_own_form(object);
    }
    let names = to.names();
    object.set_type(&names.api_version(), names.kind);
    let schema = schemas::of(&*to.kind).unwrap_or_else(|| Schema::any().clone());
    Ok(Some((object.into_value(), schema)))
}

/// Notes who set which fields of a new (no `live`) or changed object.
pub(crate) async fn track(
    call: &Call,
    resource: &Resource,
    options: &WriteOptions,
    part: Part,
    live: Option<&Object>,
    new: &mut Object,
) {
    let mut versions = Versions::default();
    loop {
        let tracked = try_track(call, resource, options, part, live, new, &versions);
        let Err(ApplyError::Wants(wanted)) = tracked else {
            return;
        };
        match converted(call, resource, &wanted).await {
            Ok(found) => versions.learn(*wanted, found),
            // Nothing can be said then: owners stay as they are.
            Err(_) => return set_entries(new, live.and_then(entries)),
        }
    }
}

/// The same for a new object of the server's own.
pub(crate) fn track_new(
    call: &Call,
    resource: &Resource,
    options: &WriteOptions,
    new: &mut Object,
) {
    let versions = Versions::default();
    // Without other managers no other version is looked at.
    let _ = try_track(call, resource, options, Part::Main, None, new, &versions);
}

fn entries(object: &Object) -> Option<Value> {
    object.metadata()?.get("managedFields").cloned()
}

fn set_entries(object: &mut Object, entries: Option<Value>) {
    let metadata = object.metadata_mut();
    match entries {
        Some(entries) => drop(metadata.insert("managedFields".into(), entries)),
        None => drop(metadata.remove("managedFields")),
    }
}

fn try_track(
    call: &Call,
    resource: &Resource,
    options: &WriteOptions,
    part: Part,
    live: Option<&Object>,
    new: &mut Object,
    versions: &Versions,
) -> Result<(), ApplyError> {
    let note = |object: &mut Object| {
        // Nobody owns what is spelled out and says nothing; but no owners at all is a wish.
        let declared = entries(object);
        super::settle(resource, object);
        set_entries(object, declared);
        with_writer(call, resource, options, part, versions, |writer| {
            apply::update(live, object, writer)
        })
    };
    if live.is_none() {
        return note(new);
    }
    // It counts as a change where it does upstream.
    let mut settled = new.clone();
    note(&mut settled)?;
    set_entries(new, entries(&settled));
    Ok(())
}

/// Merges an applied configuration into an object, or makes one of it.
///
/// # Errors
/// Conflicts with other managers, or a configuration that does not fit.
pub(crate) fn apply(
    call: &Call,
    resource: &Resource,
    options: &WriteOptions,
    part: Part,
    applied: &Object,
    current: Option<&Object>,
    versions: &Versions,
) -> Result<Object, ApplyError> {
    with_writer(call, resource, options, part, versions, |writer| {
        apply::apply(current, applied, writer, options.force)
    })
}

fn with_writer_of_scale<T>(
    call: &Call,
    options: &WriteOptions,
    act: impl FnOnce(&Writer<'_>) -> T,
) -> T {
    let schema = api::schema::of_kind("autoscaling", "v1", "Scale");
    act(&Writer {
        manager: &options.manager,
        api_version: apply::SCALE_VERSION,
        subresource: &call.info.subresource,
        now: call.now,
        schema: schema.as_ref().unwrap_or(Schema::any()),
        reset_fields: &FieldSet::of_fields(&[]),
        // All owners of a scale write in its one version.
        versions: &Versions::default(),
    })
}

/// Notes who set the replicas of a changed scale.
pub(crate) fn track_scale(call: &Call, options: &WriteOptions, live: &Object, new: &mut Object) {
    let tracked = with_writer_of_scale(call, options, |writer| {
        apply::update(Some(live), new, writer)
    });
    if tracked.is_err() {
        set_entries(new, entries(live));
    }
}

/// Merges an applied configuration into a scale.
///
/// # Errors
/// Conflicts with other managers, or a configuration that does not fit.
pub(crate) fn apply_scale(
    call: &Call,
    options: &WriteOptions,
    applied: &Object,
    live: &Object,
) -> Result<Object, ApiError> {
    let result = with_writer_of_scale(call, options, |writer| {
        apply::apply(Some(live), applied, writer, options.force)
    });
    Ok(result?)
}
