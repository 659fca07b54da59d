//! ServiceAccount: an identity for what runs in pods. Its sub-resource `token` issues bound tokens.
//!
//! Upstream: `pkg/registry/core/serviceaccount`.

use k8s_openapi::api::core::v1::ServiceAccount as Typed;
use machinery::{ErrorList, Object};
use serde_json::Value;

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
    const MAY_WARN: bool = false;
    const RETURNS_DELETED: bool = true;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Token];

    fn prepare_create(_context: &Context, new: &mut Object) {
        only_names(new);
    }

    fn prepare_update(_context: &Context, _part: Part, new: &mut Object, _old: &Object) {
        only_names(new);
    }

    fn validate_create(_context: &Context, _new: &Typed) -> ErrorList {
        ErrorList::new()
    }

    fn validate_update(_context: &Context, _part: Part, _new: &Typed, _old: &Typed) -> ErrorList {
        ErrorList::new()
    }
}

/// Of the references to secrets only the names mean anything.
fn only_names(account: &mut Object) {
    let secrets = account.0.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        secret.retain(|key, _| key == "name");
    }
}
