//! Cluster IPs and node ports of services.

use machinery::{ApiError, Object};

use crate::call::Call;
use crate::resource::Resource;

/// What was allocated for a write that is not stored yet; given back unless kept.
pub(crate) struct Claim;

impl Claim {
    /// The write is stored.
    pub(crate) fn keep(self) {}
}

/// Allocates for a new object.
pub(crate) fn on_create(
    _call: &Call,
    _resource: &Resource,
    _object: &mut Object,
    _dry_run: bool,
) -> Result<Claim, ApiError> {
    Ok(Claim)
}

/// Allocates for a changed object.
pub(crate) fn on_update(
    _call: &Call,
    _resource: &Resource,
    _new: &mut Object,
    _old: &Object,
    _dry_run: bool,
) -> Result<Claim, ApiError> {
    Ok(Claim)
}

/// Gives back what a removed object had.
pub(crate) fn on_delete(_call: &Call, _resource: &Resource, _object: &Object) {}
