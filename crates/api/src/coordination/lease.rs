//! Lease: who holds something, and until when. Node heartbeats and leader election write it.
//!
//! Upstream: `pkg/registry/coordination/lease`, `pkg/apis/coordination/validation`.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::OrEmpty;

/// The kind `Lease`.
pub struct Lease;

impl Kind for Lease {
    type Object = Typed;
    const NAMES: Names = Names::new("coordination.k8s.io", "v1", "Lease", "leases", "lease");
    const SCOPE: Scope = Scope::Namespaced;
    const MAY_WARN: bool = false;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Holder",
            "holderIdentity contains the identity of the holder of a current \
                                 lease. If Coordinated Leader Election is used, the holder identity \
                                 must be equal to the elected LeaseCandidate.metadata.name field.",
        ),
        columns::AGE,
    ];
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn prepare_create(_context: &Context, new: &mut Object) {
        drop_disabled(new);
    }

    fn prepare_update(_context: &Context, _part: Part, new: &mut Object, old: &Object) {
        let used = |key: &&str| old.at(&["spec", key]).is_some();
        if !COORDINATED.iter().any(used) {
            drop_disabled(new);
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let Some(spec) = &new.spec else { return errors };
        let path = Path::new("spec");
        if let Some(seconds) = spec.lease_duration_seconds.filter(|s| *s <= 0) {
            let at = path.child("leaseDurationSeconds");
            errors.invalid(&at, seconds, "must be greater than 0");
        }
        if let Some(transitions) = spec.lease_transitions {
            errors.not_negative(&path.child("leaseTransitions"), i64::from(transitions));
        }
        let strategy = spec.strategy.text();
        if let Some(strategy) = &spec.strategy {
            // The path repeats itself upstream too.
            let at = path.child("strategy").child("strategy");
            if strategy.contains('/') {
                errors.invalid_each(&at, strategy, names::qualified_name(strategy));
            } else {
                errors.one_of(&at, strategy, &["OldestEmulationVersion"]);
            }
        }
        if !spec.preferred_holder.text().is_empty() && strategy.is_empty() {
            let detail = "may only be specified if `strategy` is defined";
            errors.forbidden(&path.child("preferredHolder"), detail);
        }
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, _old: &Typed) -> ErrorList {
        Self::validate_create(context, new)
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let holder = object
            .spec
            .as_ref()
            .map_or("", |s| s.holder_identity.text());
        Row::from(vec![
            tree.name().into(),
            holder.into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// The fields of coordinated leader election, which v1.37 has switched off.
const COORDINATED: [&str; 2] = ["preferredHolder", "strategy"];

fn drop_disabled(lease: &mut Object) {
    if lease
        .at(&["spec"])
        .is_some_and(serde_json::Value::is_object)
    {
        let spec = lease.object_at_mut(&["spec"]);
        for key in COORDINATED {
            spec.remove(key);
        }
    }
}
