//! A new node is not ready: it is tainted until the node controller sees that it is.
//!
//! Behaviour: `plugin/pkg/admission/nodetaint`.

use machinery::{ApiError, Object};
use serde_json::{Value, json};

use super::{Operation, Request};
use crate::Lookup;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) fn admit(
    request: &Request,
    node: &mut Object,
    _lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let concerns = request.is_for("", "nodes")
        && request.subresource.is_empty()
        && request.operation == Operation::Create;
    if !concerns {
        return Ok(());
    }
    let taints = node
        .object_at_mut(&["spec"])
        .entry("taints")
        .or_insert_with(|| json!([]));
    if taints.is_null() {
        *taints = json!([]);
    }
    let Value::Array(taints) = taints else {
        return Ok(());
    };
    let is_it = |t: &Value| t.get("key") == Some(&NOT_READY.into()) && t["effect"] == "NoSchedule";
    if !taints.iter().any(is_it) {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
    Ok(())
}
