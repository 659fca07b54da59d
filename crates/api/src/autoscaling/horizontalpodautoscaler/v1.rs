//! The older version of the kind: a target for CPU alone. What it has no field for is in annotations.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object};
use serde_json::json;

use super::{COLUMNS, NAMES, convert};
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};

type New = super::HorizontalPodAutoscaler;

/// The kind `HorizontalPodAutoscaler` of `autoscaling/v1`.
pub struct HorizontalPodAutoscaler;

impl Kind for HorizontalPodAutoscaler {
    type Object = Typed;
    const NAMES: Names = Names {
        version: "v1",
        stored_as: Some((NAMES.group, NAMES.plural)),
        ..NAMES
    };
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = COLUMNS;
    const HAS_GENERATION: bool = true;

    fn to_stored(object: &mut Object) {
        convert::to_new(object);
    }

    fn from_stored(object: &mut Object) {
        convert::to_old(object);
    }

    /// What the newer version makes of it, as this one shows that.
    fn default(object: &mut Typed) {
        let mut new = convert::new_of(object);
        New::default(&mut new);
        *object = convert::old_of(&new);
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        let status = json!({"currentReplicas": 0, "desiredReplicas": 0});
        new.0.insert("status".into(), status);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
    }

    fn validate_create(context: &Context, new: &Typed) -> ErrorList {
        New::validate_create(context, &convert::new_of(new))
    }

    fn validate_update(context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let (new, old) = (convert::new_of(new), convert::new_of(old));
        New::validate_update(context, part, &new, &old)
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        New::row(&convert::new_of(object), tree, now)
    }
}
