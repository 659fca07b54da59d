//! Mirrors of static pods in the API: one for each, no more, and none that shows an older version.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::PostParams;
use pod_lifecycle::{backoff, pod as parts};

use super::{HASH, MIRROR, State, StaticPods, annotation, shows};
use crate::context::Context;
use crate::status;

/// Why a mirror is not there yet.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The mirror belongs to the Node, which is not there yet.
    #[error("the node is not registered yet")]
    NotRegistered,
    /// The API refused.
    #[error("write the mirror")]
    Api(#[source] Box<kube::Error>),
}

/// What is to be done about a mirror.
pub(super) enum Due {
    /// There is none of this pod.
    Make(Arc<Pod>),
    /// It shows nothing that is there, or it is being deleted: another one takes its place.
    Delete(Arc<Pod>),
}

impl StaticPods {
    pub(super) fn due(&self) -> Vec<Due> {
        self.state.lock().due()
    }
}

impl State {
    fn due(&self) -> Vec<Due> {
        if !self.mirrors_known {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (key, own) in &self.running {
            match self.mirrors.get(key) {
                None => due.push(Due::Make(Arc::clone(&own.pod))),
                Some(mirror) if parts::is_deleting(mirror) || !shows(mirror, &own.pod) => {
                    due.push(Due::Delete(Arc::clone(mirror)));
                }
                Some(_) => {}
            }
        }
        // The mirror of a pod that is on its way out shows how it ends.
        let stray = self.mirrors.iter().filter(|(key, _)| {
            !self.running.contains_key(*key) && !self.leaving.contains_key(*key)
        });
        due.extend(stray.map(|(_, mirror)| Due::Delete(Arc::clone(mirror))));
        due
    }
}

/// Keeps the mirrors in step for ever.
pub(crate) async fn keep(context: Arc<Context>) {
    let mut failures = 0;
    loop {
        let mut failed = false;
        for due in context.static_pods.due() {
            let done = match due {
                Due::Make(pod) => make(&context, &pod).await,
                Due::Delete(mirror) => {
                    let done = status::delete(context.client.clone(), &mirror).await;
                    done.map_err(|error| Error::Api(Box::new(error)))
                }
            };
            if let Err(error) = done {
                let error = cri::chain(&error);
                eprintln!("MIRROR {error}");
                tracing::debug!(error, "the mirror of a static pod is not as it should be");
                failed = true;
            }
        }
        failures = if failed { failures + 1 } else { 0 };
        let again = async {
            match failed {
                true => {
                    let seconds = backoff::retry_seconds(failures);
                    tokio::time::sleep(Duration::from_secs(seconds.unsigned_abs())).await;
                }
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = context.static_pods.mirrors_changed.notified() => {}
            () = again => {}
        }
    }
}

async fn make(context: &Context, pod: &Pod) -> Result<(), Error> {
    let node = context.nodes.get("", &context.node_name);
    let uid = node.and_then(|node| node.metadata.uid.clone());
    let uid = uid.ok_or(Error::NotRegistered)?;
    let api: Api<Pod> = Api::namespaced(context.client.clone(), parts::namespace(pod));
    let mirror = mirror_of(pod, &context.node_name, uid);
    let made = api.create(&PostParams::default(), &mirror).await;
    made.map(drop).map_err(|error| Error::Api(Box::new(error)))
}

/// What stands for a static pod in the API; it belongs to the Node.
pub(super) fn mirror_of(pod: &Pod, node: &str, node_uid: String) -> Pod {
    let mut mirror = pod.clone();
    mirror.metadata.uid = None;
    let hash = annotation(pod, HASH).unwrap_or_default().to_owned();
    let annotations = mirror.metadata.annotations.get_or_insert_default();
    annotations.insert(MIRROR.to_owned(), hash);
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: node_uid,
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror.status = None;
    mirror
}
