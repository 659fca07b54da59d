//! Certificates of pods: asked for, waited for and renewed, as `pod_lifecycle::pod_certificate` decides.
//!
//! Keys are made here, stay in memory and in volumes that are in memory, and never leave the node. One watch of this node's
//! requests runs while a pod has such a volume, and wakes the pod that a request is for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::watch::{Change, Reader, store};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec};
use k8s_openapi::api::core::v1::{Pod, PodCertificateProjection, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use pod_lifecycle::pod as parts;
use pod_lifecycle::pod_certificate::{PodCertificate, PrivateKey};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::keys;
use crate::context::Context;

/// A signer that answers so fast is waited for before anybody is told that its answer is missing.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// How long to wait after the next certificate could not be asked for, in seconds.
const RETRY_SECONDS: i64 = 30;
/// At most so many seconds lie between pods that would otherwise ask at the same moment.
const JITTER_SECONDS: i64 = 300;

/// The volume, and the place of the projection among its sources.
pub(super) type Place = (String, usize);

/// What a projection brings.
pub(super) struct Own {
    /// The key, PEM.
    pub(super) key: String,
    /// The certificate and those above it, PEM.
    pub(super) chain: String,
    /// When to look again.
    pub(super) wake_at: Option<Timestamp>,
}

type OfPod = HashMap<Place, Arc<tokio::sync::Mutex<PodCertificate>>>;

/// The certificates of this node's pods, by UID.
#[derive(Default)]
pub(crate) struct Certificates {
    known: Mutex<HashMap<String, OfPod>>,
    watched: Mutex<Option<Watched>>,
}

struct Watched {
    reader: Reader<PodCertificateRequest>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Certificates {
    /// The pod is gone; the last one ends the watch.
    pub(crate) fn forget(&self, uid: &str) {
        let mut known = self.known.lock();
        known.remove(uid);
        if known.is_empty() {
            *self.watched.lock() = None;
        }
    }

    fn of(&self, uid: &str, place: Place) -> Arc<tokio::sync::Mutex<PodCertificate>> {
        let mut known = self.known.lock();
        let of_pod = known.entry(uid.to_owned()).or_default();
        Arc::clone(of_pod.entry(place).or_default())
    }

    fn watch(&self, context: &Context) -> (Reader<PodCertificateRequest>, Arc<Notify>) {
        let mut watched = self.watched.lock();
        let watched = watched.get_or_insert_with(|| watch(context));
        (watched.reader.clone(), Arc::clone(&watched.changed))
    }
}

fn watch(context: &Context) -> Watched {
    let api: Api<PodCertificateRequest> = Api::all(context.client.clone());
    let own = format!("spec.nodeName={}", context.node_name);
    let (reader, changes) = store(api, watcher::Config::default().fields(&own));
    let changed = Arc::new(Notify::new());
    let (tell, pods) = (Arc::clone(&changed), Arc::clone(&context.pods));
    let task = tokio::spawn(async move {
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.next().await {
            let request = match change {
                Change::Applied { new, .. } => new,
                Change::Deleted(old) => old,
                Change::Synced => continue,
            };
            tell.notify_waiters();
            let pod = pods.lock().get(&request.spec.pod_uid).cloned();
            if let Some(pod) = pod {
                pod.objects_changed();
            }
        }
    });
    Watched {
        reader,
        changed,
        task,
    }
}

/// The certificate of a projection as it is now. Whatever is due is done: asking, asking again, complaining.
pub(super) async fn get(
    context: &Context,
    pod: &Pod,
    place: Place,
    projection: &PodCertificateProjection,
) -> Result<Own, String> {
    // In this order: the watch stays as long as it is known that somebody needs it.
    let certificate = context.certificates.of(parts::uid(pod), place);
    let (reader, changed) = context.certificates.watch(context);
    let mut certificate = certificate.lock().await;
    let patience = Instant::now() + FIRST_ANSWER;
    loop {
        let mut change = std::pin::pin!(changed.notified());
        change.as_mut().enable();
        let seen = certificate.awaited();
        let seen = seen.and_then(|name| reader.get(parts::namespace(pod), name));
        let step = certificate.step(seen.as_deref(), Timestamp::now(), jitter());
        for event in step.events {
            context.tell(pod, event);
        }
        let mut wake_at = step.wake_at;
        if step.ask {
            match ask(context, pod, projection, &mut certificate).await {
                Ok(()) => continue,
                Err(why) if certificate.credentials().is_err() => return Err(why),
                Err(why) => {
                    tracing::warn!(pod = parts::name(pod), why, "no new certificate");
                    wake_at = Some(parts::after(Timestamp::now(), RETRY_SECONDS));
                }
            }
        }
        if certificate.is_waiting() && tokio::time::timeout_at(patience, change).await.is_ok() {
            continue;
        }
        let now = certificate.credentials()?;
        return Ok(Own {
            key: now.key.0.to_string(),
            chain: now.chain.to_string(),
            wake_at,
        });
    }
}

fn jitter() -> i64 {
    rand::random_range(0..JITTER_SECONDS)
}

/// Makes a key and asks for a certificate for it.
async fn ask(
    context: &Context,
    pod: &Pod,
    projection: &PodCertificateProjection,
    certificate: &mut PodCertificate,
) -> Result<(), String> {
    let failed = |why: String| format!("while creating PodCertificateRequest: {why}");
    let spec = asked_by(context, pod, projection).await.map_err(failed)?;
    let key_type = projection.key_type.clone();
    let made = tokio::task::spawn_blocking(move || keys::generate(&key_type)).await;
    let made = made.unwrap_or_else(|lost| Err(lost.to_string()));
    let made = made.map_err(|why| failed(format!("while generating keypair: {why}")))?;
    let request = PodCertificateRequest {
        metadata: ObjectMeta {
            generate_name: Some("req-".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: spec.pod_name.clone(),
                uid: spec.pod_uid.clone(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: PodCertificateRequestSpec {
            stub_pkc_s10_request: ByteString(made.request),
            ..spec
        },
        status: None,
    };
    let api: Api<PodCertificateRequest> =
        Api::namespaced(context.client.clone(), parts::namespace(pod));
    let created = api.create(&PostParams::default(), &request).await;
    let created = created.map_err(|error| failed(format!("while creating on API: {error}")))?;
    let at = created.metadata.creation_timestamp;
    certificate.asked(
        PrivateKey(made.key.into()),
        created.metadata.name.unwrap_or_default(),
        at.map_or_else(Timestamp::now, |at| at.0),
        jitter(),
    );
    Ok(())
}

/// Who asks for what: everything but the key.
async fn asked_by(
    context: &Context,
    pod: &Pod,
    projection: &PodCertificateProjection,
) -> Result<PodCertificateRequestSpec, String> {
    let account = parts::spec(pod).service_account_name.clone();
    let account = account.unwrap_or_default();
    let account_uid = account_uid(&context.client, parts::namespace(pod), &account).await?;
    let node = context.nodes.get("", &context.node_name);
    let node_uid = node.and_then(|node| node.metadata.uid.clone());
    let unknown = || "while getting node object from local cache: not found".to_owned();
    Ok(PodCertificateRequestSpec {
        signer_name: projection.signer_name.clone(),
        pod_name: parts::name(pod).to_owned(),
        pod_uid: parts::uid(pod).to_owned(),
        service_account_name: account,
        service_account_uid: account_uid,
        node_name: context.node_name.clone(),
        node_uid: node_uid.ok_or_else(unknown)?,
        max_expiration_seconds: projection.max_expiration_seconds,
        unverified_user_annotations: projection.user_annotations.clone(),
        ..PodCertificateRequestSpec::default()
    })
}

async fn account_uid(client: &Client, namespace: &str, name: &str) -> Result<String, String> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = api.get(name).await;
    let account = account.map_err(|error| format!("while fetching service account: {error}"))?;
    Ok(account.metadata.uid.unwrap_or_default())
}
