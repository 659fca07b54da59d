//! Publishing the status of a pod: one patch with what changed, never of conditions that others own.

#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use pod_lifecycle::conditions::PASSING;
use serde_json::{Map, Value, json};

/// Fields whose strategic merge would keep what is no longer there.
const MERGED_LISTS: &[&str] = &["podIPs", "hostIPs"];

/// Fields that are the kubelet's alone: what is no longer said is taken away.
const OWN: &[&str] = &[
    "reason",
    "message",
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// Why a status could not be published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The status cannot be written as JSON.
    #[error("encode the status")]
    Encode(#[from] serde_json::Error),
    /// The API refused.
    #[error("patch the status")]
    Api(#[from] Box<kube::Error>),
}

impl Error {
    /// There is no such pod, or it is another one by now.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Error::Api(error) => is_gone(error),
            Error::Encode(_) => false,
        }
    }
}

fn is_gone(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 404 || status.code == 409,
        _ => false,
    }
}

/// Publishes `new` where `old` was published before.
pub(crate) async fn publish(
    client: Client,
    pod: &Pod,
    old: &PodStatus,
    new: &PodStatus,
) -> Result<(), Error> {
    let Some(patch) = patch(pod, old, new)? else {
        return Ok(());
    };
    let name = pod_lifecycle::pod::name(pod);
    let api: Api<Pod> = Api::namespaced(client, pod_lifecycle::pod::namespace(pod));
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .map_err(Box::new)?;
    Ok(())
}

/// The patch that makes `old` into `new`; `None` if they are the same.
pub(crate) fn patch(
    pod: &Pod,
    old: &PodStatus,
    new: &PodStatus,
) -> Result<Option<Value>, serde_json::Error> {
    let (old, new) = (fields(old)?, fields(new)?);
    let mut changes = Map::new();
    for (key, value) in &new {
        let before = old.get(key);
        if before == Some(value) {
            continue;
        }
        let change = match (key.as_str(), value, before) {
            ("conditions", Value::Array(conditions), _) => changed_conditions(conditions, before),
            (key, Value::Array(items), Some(_)) if MERGED_LISTS.contains(&key) => {
                let replace = json!({"$patch": "replace"});
                Value::Array(
                    std::iter::once(replace)
                        .chain(items.iter().cloned())
                        .collect(),
                )
            }
            _ => value.clone(),
        };
        changes.insert(key.clone(), change);
    }
    for key in OWN
        .iter()
        .filter(|k| old.contains_key(**k) && !new.contains_key(**k))
    {
        changes.insert((*key).to_owned(), Value::Null);
    }
    if changes.is_empty() {
        return Ok(None);
    }
    Ok(Some(json!({
        "metadata": {"uid": pod_lifecycle::pod::uid(pod)},
        "status": changes,
    })))
}

fn fields(status: &PodStatus) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::to_value(status)? {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// Conditions merge by type: only those that changed are sent, with what they no longer say set to null. Those that come
/// and go are taken away.
fn changed_conditions(new: &[Value], old: Option<&Value>) -> Value {
    let old = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut changed = Vec::new();
    for condition in new {
        let before = old.iter().find(|o| o["type"] == condition["type"]);
        if before == Some(condition) {
            continue;
        }
        let mut condition = condition.clone();
        if let (Some(Value::Object(before)), Value::Object(now)) = (before, &mut condition) {
            for key in before.keys() {
                now.entry(key.clone()).or_insert(Value::Null);
            }
        }
        changed.push(condition);
    }
    let gone = old.iter().filter(|o| {
        let passes = PASSING.iter().any(|kind| o["type"] == **kind);
        passes && !new.iter().any(|n| n["type"] == o["type"])
    });
    changed.extend(gone.map(|o| json!({"$patch": "delete", "type": o["type"]})));
    Value::Array(changed)
}

/// Deletes the object of a pod that has ended. Already gone, or another pod by now: fine.
pub(crate) async fn delete(client: Client, pod: &Pod) -> Result<(), kube::Error> {
    let name = pod_lifecycle::pod::name(pod);
    let api: Api<Pod> = Api::namespaced(client, pod_lifecycle::pod::namespace(pod));
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}
