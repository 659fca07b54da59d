//! Carries decisions out: bindings, conditions, events.

use std::sync::Arc;
use std::time::Instant;

use client::events::{Event, EventType, Recorder};
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use scheduling::{PodInfo, Tries};
use serde_json::{Value, json};

use crate::claims::{Claims, Unbound};
use crate::cluster::{Outcome, Step};
use crate::measures::Measures;

#[derive(Clone)]
pub(crate) struct Binder {
    client: Client,
    events: Recorder,
    claims: Claims,
    measures: Arc<Measures>,
}

impl Binder {
    pub(crate) fn new(
        client: Client,
        events: Recorder,
        claims: Claims,
        measures: Arc<Measures>,
    ) -> Self {
        Self {
            measures,
            client,
            events,
            claims,
        }
    }

    pub(crate) async fn carry_out(self, step: Step) -> Outcome {
        let attempt = (step.tries, step.started);
        match step.decision {
            Ok((node, volumes)) => {
                let began = Instant::now();
                let ready = self.claims.clone().bind(&step.pod, &node, volumes).await;
                (self.measures).point("PreBind", ready.is_ok(), began.elapsed());
                match ready {
                    Ok(()) => self.bind(step.pod, &node, attempt).await,
                    Err(Unbound::PodGone) => Outcome::Done(step.pod.key),
                    Err(Unbound::Failed(why)) => {
                        tracing::warn!(pod = %step.pod.key.name, why, "the pod's claims are not bound");
                        self.tell(&step.pod, "SchedulerError", &why, None).await;
                        self.measures.failed(attempt.1);
                        Outcome::Failed(Box::new(step.pod))
                    }
                }
            }
            Err(why) => {
                let node = step.preemption.as_ref().map(|p| p.node.as_str());
                if let Some(preemption) = &step.preemption {
                    self.make_room(&step.pod, preemption, &step.disappointed)
                        .await;
                }
                self.measures.unschedulable(attempt.1);
                self.tell(&step.pod, "Unschedulable", &why.to_string(), node)
                    .await;
                Outcome::Done(step.pod.key)
            }
        }
    }

    pub(crate) fn pods(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.key.namespace)
    }

    async fn bind(&self, pod: PodInfo, node: &str, attempt: (Tries, Instant)) -> Outcome {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.key.name.clone()),
                namespace: Some(pod.key.namespace.clone()),
                uid: Some(pod.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let parameters = PostParams::default();
        let began = Instant::now();
        let bound: kube::Result<Status> = self
            .pods(&pod)
            .create_subresource("binding", &pod.key.name, &parameters, &binding)
            .await;
        (self.measures).point("Bind", bound.is_ok(), began.elapsed());
        match bound {
            Ok(_) => {
                self.measures.scheduled(attempt);
                let PodInfo { key, .. } = &pod;
                let message = format!(
                    "Successfully assigned {}/{} to {node}",
                    key.namespace, key.name
                );
                self.record(&pod, EventType::Normal, "Scheduled", "Binding", message);
                Outcome::Done(pod.key)
            }
            // The pod is gone, or somebody else's by now: its watch event says all there is to know.
            Err(kube::Error::Api(status)) if status.code == 404 => Outcome::Done(pod.key),
            Err(error) => {
                tracing::warn!(pod = %pod.key.name, %error, "binding failed");
                self.measures.failed(attempt.1);
                self.tell(&pod, "SchedulerError", &error.to_string(), None)
                    .await;
                Outcome::Failed(Box::new(pod))
            }
        }
    }

    /// Writes the pod's `PodScheduled` condition, the node that it is promised, and the event.
    async fn tell(&self, pod: &PodInfo, reason: &str, message: &str, promised: Option<&str>) {
        let (kind, action) = (EventType::Warning, "Scheduling");
        self.record(pod, kind, "FailedScheduling", action, message.to_owned());
        let mut status = json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        }]});
        if let Some(node) = promised {
            status["nominatedNodeName"] = node.into();
        }
        if let Err(error) = self.write_status(pod, status).await {
            tracing::debug!(pod = %pod.key.name, %error, "the pod's condition was not written");
        }
    }

    /// Patches the status of a pod, if it still is the same.
    pub(crate) async fn write_status(&self, pod: &PodInfo, status: Value) -> kube::Result<Pod> {
        let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
        let parameters = PatchParams::default();
        let patch = Patch::Strategic(patch);
        self.pods(pod)
            .patch_status(&pod.key.name, &parameters, &patch)
            .await
    }

    pub(crate) fn record(
        &self,
        pod: &PodInfo,
        event_type: EventType,
        reason: &str,
        action: &str,
        message: String,
    ) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(pod.key.name.clone()),
            namespace: Some(pod.key.namespace.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        };
        let (reason, action) = (reason.to_owned(), action.to_owned());
        self.events.record(Event {
            about,
            event_type,
            reason,
            action,
            message,
        });
    }
}
