//! ServiceAccount: an identity for what runs in pods. Its sub-resource `token` issues bound tokens.
//!
//! Upstream: `pkg/registry/core/serviceaccount`.

use k8s_openapi::api::core::v1::ServiceAccount as Typed;
use machinery::{ErrorList, Object};
use serde_json::Value;

use crate::kind::{Context, Kind, Names, Part, Scope, Subresource};

/// Pods of the account may mount only the secrets that it lists.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

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

    fn warnings(new: &Typed) -> Vec<String> {
        is_enforced(new)
            .then(|| {
                format!(
                    "metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to isolate access \
                     to mounted secrets"
                )
            })
            .into_iter()
            .collect()
    }

    fn update_warnings(_part: Part, new: &Typed, old: &Typed) -> Vec<String> {
        match is_enforced(old) {
            true => Vec::new(),
            false => Self::warnings(new),
        }
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

fn is_enforced(account: &Typed) -> bool {
    let annotations = account.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key(ENFORCE))
}
