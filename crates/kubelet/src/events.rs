//! Events about pods.

use client::events::{Event, EventType};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};

use crate::context::Context;

impl Context {
    /// Tells the cluster what happened to a pod.
    pub(crate) fn tell(&self, pod: &Pod, event: pod_lifecycle::Event) {
        let meta = &pod.metadata;
        self.recorder.record(Event {
            about: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path: event.field_path,
            },
            event_type: match event.warning {
                true => EventType::Warning,
                false => EventType::Normal,
            },
            reason: event.reason,
            action: String::new(),
            message: event.message,
        });
    }
}
