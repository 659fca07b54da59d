//! A pod stays five minutes on a node that is not ready or not reachable, unless it says otherwise.
//!
//! Behaviour: `plugin/pkg/admission/defaulttolerationseconds`.

use machinery::{ApiError, Object};
use serde_json::{Value, json};

use super::{Operation, Request};
use crate::Lookup;

pub(super) fn admit(
    request: &Request,
    pod: &mut Object,
    _lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let concerns = request.is_for("", "pods")
        && request.subresource.is_empty()
        && matches!(request.operation, Operation::Create | Operation::Update);
    if !concerns {
        return Ok(());
    }
    let there = pod.at(&["spec", "tolerations"]).and_then(Value::as_array);
    let mut tolerations = there.cloned().unwrap_or_default();
    let before = tolerations.len();
    let seconds = request.settings.toleration_seconds;
    let taints = [
        ("node.kubernetes.io/not-ready", seconds.not_ready),
        ("node.kubernetes.io/unreachable", seconds.unreachable),
    ];
    for (taint, seconds) in taints {
        let text =
            |t: &Value, key: &str| t.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        let tolerates = |t: &Value| {
            let (key, effect) = (text(t, "key"), text(t, "effect"));
            (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        };
        if !tolerations[..before].iter().any(tolerates) {
            tolerations.push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
            }));
        }
    }
    if tolerations.len() > before {
        pod.object_at_mut(&["spec"])
            .insert("tolerations".into(), tolerations.into());
    }
    Ok(())
}
