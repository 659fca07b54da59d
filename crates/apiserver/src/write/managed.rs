//! Who manages which fields: `metadata.managedFields`, kept by every write and decided by server-side apply.

use api::{AnyKind, Part, Subresource};
use machinery::apply::{self, FieldSet, Writer};
use machinery::schema::Schema;
use machinery::{ApiError, Object};

use super::WriteOptions;
use crate::call::Call;
use crate::resource::Resource;
use crate::schemas;

/// The fields that a write to this part takes no notice of.
fn reset_fields(kind: &dyn AnyKind, part: Part) -> FieldSet {
    let has_status = kind
        .subresources()
        .contains(&Subresource::Part(Part::Status));
    match part {
        Part::Status => FieldSet::of_fields(&[&["spec"]]),
        Part::Approval => FieldSet::of_fields(&[&["spec"], &["status", "certificate"]]),
        _ if has_status => FieldSet::of_fields(&[&["status"]]),
        _ => FieldSet::of_fields(&[]),
    }
}

fn with_writer<T>(
    call: &Call,
    resource: &Resource,
    options: &WriteOptions,
    part: Part,
    act: impl FnOnce(&Writer<'_>) -> T,
) -> T {
    let schema = schemas::of(&*resource.kind);
    act(&Writer {
        manager: &options.manager,
        api_version: &resource.names().api_version(),
        subresource: &call.info.subresource,
        now: call.now,
        schema: schema.as_ref().unwrap_or(Schema::any()),
        reset_fields: &reset_fields(&*resource.kind, part),
    })
}

/// Notes who set which fields of a new (no `live`) or changed object.
pub(crate) fn track(
    call: &Call,
    resource: &Resource,
    options: &WriteOptions,
    part: Part,
    live: Option<&Object>,
    new: &mut Object,
) {
    let note = |object: &mut Object| {
        // Nobody owns what is spelled out and says nothing.
        super::settle(resource, object);
        with_writer(call, resource, options, part, |writer| {
            apply::update(live, object, writer)
        });
    };
    if live.is_none() {
        return note(new);
    }
    // It counts as a change where it does upstream.
    let mut settled = new.clone();
    note(&mut settled);
    let managed = settled.metadata_mut().remove("managedFields");
    let metadata = new.metadata_mut();
    match managed {
        Some(managed) => drop(metadata.insert("managedFields".into(), managed)),
        None => drop(metadata.remove("managedFields")),
    }
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
) -> Result<Object, ApiError> {
    let result = with_writer(call, resource, options, part, |writer| {
        apply::apply(current, applied, writer, options.force)
    });
    Ok(result?)
}
