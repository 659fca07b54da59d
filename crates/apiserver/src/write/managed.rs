//! Who manages which fields: `metadata.managedFields`, kept by every write and decided by server-side apply.

use api::Part;
use machinery::{ApiError, Object};

use super::WriteOptions;
use crate::call::Call;
use crate::resource::Resource;

/// Notes who set the fields of a new object.
pub(crate) fn on_create(
    _call: &Call,
    _resource: &Resource,
    _options: &WriteOptions,
    _new: &mut Object,
) -> Result<(), ApiError> {
    Ok(())
}

/// Notes who changed which fields.
pub(crate) fn on_update(
    _call: &Call,
    _resource: &Resource,
    _options: &WriteOptions,
    _new: &mut Object,
    _old: &Object,
) -> Result<(), ApiError> {
    Ok(())
}

/// Merges an applied configuration into an object.
pub(crate) fn apply(
    _call: &Call,
    _resource: &Resource,
    _options: &WriteOptions,
    _part: Part,
    _applied: &Object,
    _current: Option<&Object>,
) -> Result<Object, ApiError> {
    Err(ApiError::unsupported_media_type(&[]))
}
