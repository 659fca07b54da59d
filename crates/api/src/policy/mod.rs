//! The group `policy`.

pub mod poddisruptionbudget;

use k8s_openapi::api::policy::v1::Eviction as TypedEviction;
use machinery::ErrorList;

use crate::kind::{Context, Kind, Names, Part, Scope, Verb};

/// The kind `Eviction`: the body of a pod's `eviction`.
pub struct Eviction;

impl Kind for Eviction {
    type Object = TypedEviction;
    const NAMES: Names = Names::new("policy", "v1", "Eviction", "evictions", "eviction");
    const SCOPE: Scope = Scope::Namespaced;
    const VERBS: &'static [Verb] = Verb::CREATE_ONLY;

    fn validate_create(_context: &Context, _new: &TypedEviction) -> ErrorList {
        ErrorList::new()
    }

    fn validate_update(
        _context: &Context,
        _part: Part,
        _new: &TypedEviction,
        _old: &TypedEviction,
    ) -> ErrorList {
        ErrorList::new()
    }
}
