//! Pods that were marked for disruption and are there two minutes later all the same: the mark is taken back.

use std::sync::Arc;
use std::time::Duration;

use control::{Action, Key, Look, Patch, Plan, Reconciler, Target, Wake};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::pods;

const TIMEOUT: Duration = Duration::from_secs(2 * 60);
const CONDITION: &str = "DisruptionTarget";
/// The kubelet takes its time to end a pod that it has marked.
const BY_KUBELET: &str = "TerminationByKubelet";

/// Takes stale marks back.
pub struct StaleDisruptions;

/// One pod.
pub struct Observed {
    pod: Arc<Pod>,
    now: Timestamp,
}

impl Reconciler for StaleDisruptions {
    type Observed = Observed;

    const NAME: &'static str = "stale-pod-disruption-controller";
    const IDENTITY: &'static str = "disruption-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on::<Pod>(|change, _| {
            let marked = change.new.as_ref().filter(|pod| marked_at(pod).is_some());
            marked
                .map(|pod| Key::of(pod.as_ref()))
                .into_iter()
                .collect()
        });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let pod = look.caches.of::<Pod>().get(look.key)?;
        Some(Observed { pod, now: look.now })
    }

    fn reconcile(o: &Observed) -> Plan {
        let Some(since) = marked_at(&o.pod) else {
            return Plan::idle("it is not marked for disruption");
        };
        let waited = Duration::try_from(since.duration_until(o.now)).unwrap_or_default();
        if waited < TIMEOUT {
            return Plan {
                requeue_after: Some(TIMEOUT - waited),
                because: "it is marked for disruption and should go soon".to_owned(),
                ..Plan::default()
            };
        }
        let mut condition = json!({
            "type": CONDITION, "status": "False", "reason": null, "message": null,
            "lastTransitionTime": machinery::time::rfc3339(o.now),
        });
        if let Some(generation) = o.pod.metadata.generation {
            condition["observedGeneration"] = generation.into();
        }
        let patch = json!({
            "metadata": {"uid": o.pod.metadata.uid, "resourceVersion": o.pod.metadata.resource_version},
            "status": {"conditions": [condition]},
        });
        Plan {
            actions: vec![Action::Patch {
                target: Target::of(o.pod.as_ref()),
                patch: Patch::Strategic(patch),
                subresource: Some("status"),
                report: None,
            }],
            because: "it was marked for disruption but nobody deleted it".to_owned(),
            ..Plan::default()
        }
    }
}

/// Since when a pod has been marked that nobody deletes.
fn marked_at(pod: &Pod) -> Option<Timestamp> {
    let condition = pods::condition(pod, CONDITION)?;
    let by_kubelet = condition.reason.as_deref() == Some(BY_KUBELET);
    let stays = !pods::is_deleting(pod) && !pods::is_terminal(pod);
    if condition.status != "True" || by_kubelet || !stays {
        return None;
    }
    let time = condition.last_transition_time.as_ref();
    Some(time.map_or(Timestamp::UNIX_EPOCH, |t| t.0))
}
