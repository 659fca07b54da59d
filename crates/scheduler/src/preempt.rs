//! Makes room for a pod: those that have to go are told why and deleted.

use client::events::EventType;
use futures::future::join_all;
use kube::api::{DeleteParams, Preconditions};
use scheduling::{PREEMPTION, PodInfo, Preemption};
use serde_json::json;

use crate::bind::Binder;

impl Binder {
    /// Deletes the victims; the pods of lower priority that were promised the node have to look for another one.
    pub(crate) async fn make_room(
        &self,
        pod: &PodInfo,
        preemption: &Preemption,
        disappointed: &[PodInfo],
    ) {
        for other in disappointed {
            let status = json!({"nominatedNodeName": null});
            if let Err(error) = self.write_status(other, status).await {
                tracing::debug!(pod = %other.key.name, %error, "a promise was not taken back");
            }
        }
        let staying = preemption
            .victims
            .iter()
            .filter(|victim| !victim.terminating);
        let each = staying.map(|victim| self.preempt(pod, victim, &preemption.node));
        join_all(each).await;
    }

    async fn preempt(&self, pod: &PodInfo, victim: &PodInfo, node: &str) {
        if let Err(error) = self.condemn_and_delete(pod, victim).await {
            let gone = matches!(&error, kube::Error::Api(status) if status.code == 404);
            if !gone {
                tracing::warn!(pod = %victim.key.name, %error, "a pod was not preempted");
            }
            return;
        }
        let message = format!("Preempted by pod {} on node {node}", pod.uid);
        self.record(
            victim,
            EventType::Normal,
            "Preempted",
            "Preempting",
            message,
        );
    }

    async fn condemn_and_delete(&self, pod: &PodInfo, victim: &PodInfo) -> kube::Result<()> {
        let message = format!(
            "{}: preempting to accommodate a higher priority pod",
            pod.scheduler
        );
        let mut condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": PREEMPTION, "message": message,
            "lastTransitionTime": machinery::time::rfc3339(jiff::Timestamp::now()),
        });
        if let Some(generation) = victim.generation {
            condition["observedGeneration"] = generation.into();
        }
        let status = json!({"conditions": [condition]});
        self.write_status(victim, status).await?;
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(victim.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let pods = self.pods(victim);
        pods.delete(&victim.key.name, &parameters).await.map(drop)
    }
}
