//! ResourceClaim: devices that pods ask for, and which ones were given to them.
//!
//! The specification never changes; the scheduler writes the allocation and who uses it, drivers the state of devices, each
//! with a permission of its own (`status.rs`).
//! Upstream: `pkg/registry/resource/resourceclaim`, `ValidateResourceClaim`, `printResourceClaim`.

mod authorization;
mod status;

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{ResourceClaim as Typed, ResourceClaimStatus};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};

use super::request;
use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::Items;

/// The kind `ResourceClaim`.
pub struct ResourceClaim;

impl Kind for ResourceClaim {
    type Object = Typed;
    const NAMES: Names = Names::new(
        super::GROUP,
        "v1",
        "ResourceClaim",
        "resourceclaims",
        "resourceclaim",
    );
    const SCOPE: Scope = Scope::Namespaced;
    const RETURNS_DELETED: bool = true;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "State",
            "A summary of the current state (allocated, pending, reserved, etc.).",
        ),
        columns::AGE,
    ];

    fn default(object: &mut Typed) {
        request::default(object.spec.as_mut());
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert("status".into(), serde_json::json!({}));
        request::drop_disabled(request::spec_of(new));
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        if part == Part::Status {
            status::prepare(new, old);
        } else {
            request::drop_disabled(request::spec_of(new));
        }
    }

    fn validate_create(context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let (namespace, path) = (namespace(new), Path::new("spec"));
        let wanted = || request::wants_admin(new.spec.as_ref(), &path);
        request::admin_access(&mut errors, context, namespace, wanted);
        request::validate(&mut errors, &path, new.spec.as_ref());
        errors
    }

    fn validate_update(context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if part != Part::Status {
            errors.fixed(&Path::new("spec"), &new.spec, &old.spec);
            return errors;
        }
        let empty = ResourceClaimStatus::default();
        let now = new.status.as_ref().unwrap_or(&empty);
        let before = old.status.as_ref().unwrap_or(&empty);
        let granted = || status::wants_admin(now).filter(|_| status::wants_admin(before).is_none());
        request::admin_access(&mut errors, context, namespace(new), granted);
        authorization::check(&mut errors, context, now, before);
        status::validate(&mut errors, new, now, before);
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let cells = vec![
            tree.name().into(),
            state(object).into(),
            kind::age(tree, now).into(),
        ];
        Row::from(cells)
    }
}

fn namespace(claim: &Typed) -> &str {
    claim.metadata.namespace.as_deref().unwrap_or_default()
}

fn state(claim: &Typed) -> String {
    let deleted = claim.metadata.deletion_timestamp.is_some();
    let status = claim.status.as_ref();
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    match status.filter(|s| s.allocation.is_some()) {
        None if !deleted => states.push("pending"),
        None => {}
        Some(status) => {
            states.push("allocated");
            if !status.reserved_for.items().is_empty() {
                states.push("reserved");
            }
        }
    }
    states.join(",")
}
