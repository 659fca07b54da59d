//! ServiceAccount: an identity for what runs in pods. Its sub-resource `token` issues bound tokens.
//!
//! Upstream: `pkg/registry/core/serviceaccount`.

use k8s_openapi::api::core::v1::ServiceAccount as Typed;
use machinery::{ErrorList, Object};

use crate::kind::{Context, Kind, Names, Part, Scope, Subresource};

/// The kind `ServiceAccount`.
pub struct ServiceAccount;

impl Kind for ServiceAccount {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "",
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        "serviceaccount",
    )
    .short(&["sa"]);
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Token];

    fn prepare_create(_context: &Context, new: &mut Object) {
        // A new account has no secrets but those that the tokens controller adds.
        new.0.remove("secrets");
    }

    fn validate_create(_context: &Context, _new: &Typed) -> ErrorList {
        ErrorList::new()
    }

    fn validate_update(_context: &Context, _part: Part, _new: &Typed, _old: &Typed) -> ErrorList {
        ErrorList::new()
    }
}
