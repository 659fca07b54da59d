//! ConfigMaps and Secrets that pods of this node refer to: one watch per object, for as long as a pod needs it.
//!
//! The Node authorizer lets a kubelet see only these, by name. ClusterTrustBundles are for everybody: [`bundles`] has one
//! watch for all.

mod bundles;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::watch::{Change, Reader, store};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ClusterTrustBundleProjection, ConfigMap, Secret};
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use pod_lifecycle::env::Sources;
use tokio::task::JoinHandle;

use crate::pods::Mailbox;

/// How long to wait for the first sight of an object.
const FIRST_SIGHT: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Objects {
    client: Client,
    config_maps: Mutex<HashMap<Key, Watched<ConfigMap>>>,
    secrets: Mutex<HashMap<Key, Watched<Secret>>>,
    bundles: bundles::Bundles,
}

/// Namespace and name.
type Key = (String, String);

type Subscribers = Arc<Mutex<HashMap<String, Arc<Mailbox>>>>;

struct Watched<K> {
    reader: Reader<K>,
    subscribers: Subscribers,
    task: JoinHandle<()>,
}

impl<K> Drop for Watched<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The names a pod refers to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Needs {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) bundles: Vec<ClusterTrustBundleProjection>,
}

impl Objects {
    pub(crate) fn new(client: Client) -> Objects {
        Objects {
            client,
            config_maps: Mutex::default(),
            secrets: Mutex::default(),
            bundles: bundles::Bundles::default(),
        }
    }

    /// Says that a pod refers to exactly these objects from now on; empty: to none.
    pub(crate) fn subscribe(&self, pod: &Arc<Mailbox>, uid: &str, namespace: &str, needs: &Needs) {
        let client = &self.client;
        let maps = || Api::namespaced(client.clone(), namespace);
        keep(
            &self.config_maps,
            namespace,
            &needs.config_maps,
            uid,
            pod,
            maps,
        );
        let secrets = || Api::namespaced(client.clone(), namespace);
        keep(&self.secrets, namespace, &needs.secrets, uid, pod, secrets);
        self.bundles.subscribe(client, pod, uid, &needs.bundles);
    }

    /// The certificates that a projection brings now, PEM.
    pub(crate) async fn anchors(
        &self,
        projection: &ClusterTrustBundleProjection,
    ) -> Result<Vec<u8>, String> {
        self.bundles.anchors(projection).await
    }

    /// The objects of those names as they are now; waits for the first sight of each.
    pub(crate) async fn get(&self, namespace: &str, needs: &Needs) -> Result<Sources, String> {
        let mut sources = Sources::default();
        for name in &needs.config_maps {
            let found = first_sight(&self.config_maps, namespace, name, "configmap").await?;
            sources.config_maps.insert(name.clone(), found);
        }
        for name in &needs.secrets {
            let found = first_sight(&self.secrets, namespace, name, "secret").await?;
            sources.secrets.insert(name.clone(), found);
        }
        Ok(sources)
    }
}

fn keep<K>(
    all: &Mutex<HashMap<Key, Watched<K>>>,
    namespace: &str,
    names: &BTreeSet<String>,
    uid: &str,
    pod: &Arc<Mailbox>,
    api: impl Fn() -> Api<K>,
) where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    K: serde::de::DeserializeOwned,
{
    let mut all = all.lock();
    all.retain(|(home, name), watched| {
        let mut subscribers = watched.subscribers.lock();
        if home != namespace || !names.contains(name) {
            subscribers.remove(uid);
        }
        !subscribers.is_empty()
    });
    for name in names {
        let key = (namespace.to_owned(), name.clone());
        let watched = all.entry(key).or_insert_with(|| watch(api(), name));
        let mut subscribers = watched.subscribers.lock();
        subscribers.insert(uid.to_owned(), Arc::clone(pod));
    }
}

fn watch<K>(api: Api<K>, name: &str) -> Watched<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    K: serde::de::DeserializeOwned,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let (reader, changes) = store(api, config);
    let subscribers: Subscribers = Arc::default();
    let tell = Arc::clone(&subscribers);
    let task = tokio::spawn(async move {
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.next().await {
            // A pod that waited for the first list has been woken by it.
            if !matches!(change, Change::Synced) {
                tell.lock().values().for_each(|pod| pod.objects_changed());
            }
        }
    });
    Watched {
        reader,
        subscribers,
        task,
    }
}

async fn first_sight<K: Send + Sync>(
    all: &Mutex<HashMap<Key, Watched<K>>>,
    namespace: &str,
    name: &str,
    kind: &str,
) -> Result<Option<Arc<K>>, String> {
    let key = (namespace.to_owned(), name.to_owned());
    let reader = all.lock().get(&key).map(|w| w.reader.clone());
    let Some(reader) = reader else {
        return Err(format!("object \"{namespace}\"/\"{name}\" not registered"));
    };
    match tokio::time::timeout(FIRST_SIGHT, reader.synced()).await {
        Ok(true) => Ok(reader.get(namespace, name)),
        _ => Err(format!(
            "failed to sync {kind} cache: timed out waiting for the condition"
        )),
    }
}

/// The objects a pod refers to: those of its environment, its volumes and its pull secrets.
pub(crate) fn needs_of(pod: &k8s_openapi::api::core::v1::Pod) -> Needs {
    use pod_lifecycle::{env, payload, pod as parts};
    let mut needs = Needs::default();
    let spec = parts::spec(pod);
    let plain: Vec<_> = parts::ephemeral_containers(pod)
        .iter()
        .map(parts::plain)
        .collect();
    for container in parts::lasting_containers(pod).chain(&plain) {
        let (maps, secrets) = env::references(container);
        needs
            .config_maps
            .extend(maps.into_iter().map(str::to_owned));
        needs.secrets.extend(secrets.into_iter().map(str::to_owned));
    }
    for volume in spec.volumes.iter().flatten() {
        if let Some(refs) = payload::references(volume) {
            let own = |names: Vec<&str>| -> HashSet<String> {
                names.into_iter().map(str::to_owned).collect()
            };
            needs.config_maps.extend(own(refs.config_maps));
            needs.secrets.extend(own(refs.secrets));
            needs.bundles.extend(refs.bundles.into_iter().cloned());
        }
    }
    let pull = spec.image_pull_secrets.iter().flatten();
    needs.secrets.extend(pull.map(|r| r.name.clone()));
    needs.config_maps.remove("");
    needs.secrets.remove("");
    needs
}
