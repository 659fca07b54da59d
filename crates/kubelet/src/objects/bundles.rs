//! ClusterTrustBundles: one watch of all, while a pod of this node projects some. Pods are woken for those that they look at.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use client::watch::{Change, Reader, store};
use futures::StreamExt;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use pod_lifecycle::trust;
use tokio::task::JoinHandle;

use super::FIRST_SIGHT;
use crate::pods::Mailbox;

/// See the module.
pub(super) struct Bundles {
    watched: Mutex<Option<Watched>>,
    /// The order of certificates in this life.
    order: u64,
}

impl Default for Bundles {
    fn default() -> Self {
        Self {
            watched: Mutex::default(),
            order: RandomState::new().hash_one(0),
        }
    }
}

/// By UID of the pod.
type Subscribers = Arc<Mutex<HashMap<String, Subscriber>>>;

struct Subscriber {
    pod: Arc<Mailbox>,
    wants: Vec<ClusterTrustBundleProjection>,
}

struct Watched {
    reader: Reader<ClusterTrustBundle>,
    subscribers: Subscribers,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bundles {
    /// Says what a pod projects from now on. The last one that projects nothing ends the watch.
    pub(super) fn subscribe(
        &self,
        client: &Client,
        pod: &Arc<Mailbox>,
        uid: &str,
        wants: &[ClusterTrustBundleProjection],
    ) {
        let mut watched = self.watched.lock();
        if wants.is_empty() {
            let alone = watched.as_ref().is_some_and(|w| {
                let mut subscribers = w.subscribers.lock();
                subscribers.remove(uid);
                subscribers.is_empty()
            });
            if alone {
                *watched = None;
            }
            return;
        }
        let watched = watched.get_or_insert_with(|| watch(client));
        let subscriber = Subscriber {
            pod: Arc::clone(pod),
            wants: wants.to_vec(),
        };
        let mut subscribers = watched.subscribers.lock();
        subscribers.insert(uid.to_owned(), subscriber);
    }

    /// What a projection brings now; waits for the first sight of all bundles.
    pub(super) async fn anchors(
        &self,
        projection: &ClusterTrustBundleProjection,
    ) -> Result<Vec<u8>, String> {
        let reader = self.watched.lock().as_ref().map(|w| w.reader.clone());
        let synced = match &reader {
            Some(reader) => tokio::time::timeout(FIRST_SIGHT, reader.synced()).await,
            None => Ok(false),
        };
        match (synced, reader) {
            (Ok(true), Some(reader)) => trust::anchors(projection, &reader.list(), self.order),
            _ => Err("ClusterTrustBundle informer has not yet synced".to_owned()),
        }
    }
}

fn watch(client: &Client) -> Watched {
    let api: Api<ClusterTrustBundle> = Api::all(client.clone());
    let (reader, changes) = store(api, watcher::Config::default());
    let subscribers = Subscribers::default();
    let tell = Arc::clone(&subscribers);
    let task = tokio::spawn(async move {
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.next().await {
            // A pod that waited for the first list has been woken by it.
            let sides: Vec<Arc<ClusterTrustBundle>> = match change {
                Change::Applied { new, old } => old.into_iter().chain([new]).collect(),
                Change::Deleted(bundle) => vec![bundle],
                Change::Synced => continue,
            };
            for subscriber in tell.lock().values() {
                let mut wants = subscriber.wants.iter();
                if wants.any(|w| sides.iter().any(|bundle| trust::concerns(w, bundle))) {
                    subscriber.pod.objects_changed();
                }
            }
        }
    });
    Watched {
        reader,
        subscribers,
        task,
    }
}
