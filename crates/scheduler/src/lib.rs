//! Runs the scheduler: watches pods, nodes, storage and what says how pods belong together, asks `scheduling` for
//! decisions, binds pods, and lets others make room.
//!
//! One task changes the picture of the cluster and the queue, so decisions never race (others only count what is there); bindings travel in tasks of their own,
//! at most [`BINDINGS`] at a time, with the pod assumed on its node meanwhile. Nothing polls: the task sleeps until a watch,
//! a finished binding or the end of a back-off wakes it.
//! Not here: which node is best, and when a pod is worth another try (`scheduling`).

mod bind;
mod claims;
mod cluster;
mod measures;
mod preempt;

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use client::events::Recorder;
use client::watch::{Change, Reader, store};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
pub use scheduling::UNNAMED_SCHEDULER;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::bind::Binder;
use crate::claims::Claims;
use crate::cluster::Cluster;
use crate::measures::Measures;

pub use crate::measures::Metrics;

/// The first and the longest pause between two attempts for a pod.
pub const BACKOFF: (Duration, Duration) = (scheduling::BACKOFF_START, scheduling::BACKOFF_MAX);

/// The plug-ins that take part in decisions, with the weights of their scores.
pub fn plugins() -> impl Iterator<Item = (&'static str, i64)> {
    let scores = scheduling::plugins::SCORES;
    let weight = move |name: &str| {
        let mut known = scores.iter();
        let found = known.find(|(plugin, _)| plugin.name() == name);
        found.map_or(0, |(_, weight)| *weight)
    };
    let filters = scheduling::plugins::FILTERS
        .iter()
        .map(|plugin| plugin.name());
    let filtering: Vec<&'static str> = filters.collect();
    let scoring = scores.iter().map(|(plugin, _)| plugin.name());
    let scoring: Vec<_> = scoring.filter(|name| !filtering.contains(name)).collect();
    ["SchedulingGates", "PrioritySort"]
        .into_iter()
        .chain(filtering)
        .chain(["DefaultPreemption"])
        .chain(scoring)
        .chain(["DefaultBinder"])
        .map(move |name| (name, weight(name)))
}

/// Bindings under way at once.
const BINDINGS: usize = 64;

/// Schedules pods that name the scheduler `default-scheduler` until the future is dropped.
pub async fn run(client: Client) {
    run_as(client, UNNAMED_SCHEDULER).await;
}

/// Schedules pods that name this scheduler until the future is dropped.
pub async fn run_as(client: Client, name: &str) {
    run_told(client, name, drop).await;
}

/// The same; `tell` gets what reads its figures while it runs.
pub async fn run_told(client: Client, name: &str, tell: impl FnOnce(Metrics)) {
    let (known_pods, pods) = watched::<Pod>(&client);
    let (known_claims, claims) = watched::<PersistentVolumeClaim>(&client);
    let (_, nodes) = watched::<Node>(&client);
    let (_, namespaces) = watched::<Namespace>(&client);
    let (_, volumes) = watched::<PersistentVolume>(&client);
    let (_, classes) = watched::<StorageClass>(&client);
    let (_, csi_nodes) = watched::<CSINode>(&client);
    let (_, budgets) = watched::<PodDisruptionBudget>(&client);
    let (_, services) = watched::<Service>(&client);
    let (_, rcs) = watched::<ReplicationController>(&client);
    let (_, sets) = watched::<ReplicaSet>(&client);
    let (_, stateful) = watched::<StatefulSet>(&client);
    let seen = futures::stream::select_all([
        pods.map(Seen::Pod).boxed(),
        nodes.map(Seen::Node).boxed(),
        namespaces.map(Seen::Namespace).boxed(),
        claims.map(Seen::Claim).boxed(),
        volumes.map(Seen::Volume).boxed(),
        classes.map(Seen::Class).boxed(),
        csi_nodes.map(Seen::CsiNode).boxed(),
        budgets.map(Seen::Budget).boxed(),
        services.map(Seen::Service).boxed(),
        rcs.map(Seen::ReplicationController).boxed(),
        sets.map(Seen::ReplicaSet).boxed(),
        stateful.map(Seen::StatefulSet).boxed(),
    ]);
    let (moved, changed) = watch::channel(0_u64);
    let claims = Claims {
        client: client.clone(),
        claims: known_claims,
        pods: known_pods,
        changed,
    };
    let cluster = Arc::new(Mutex::new(Cluster::new(name)));
    let measures = Arc::new(Measures::new(name));
    tell(Metrics::new(Arc::clone(&cluster), Arc::clone(&measures)));
    let events = Recorder::start(client.clone(), name, "");
    let binder = Binder::new(client, events, claims, Arc::clone(&measures));
    let mut seen = pin!(seen);
    let mut bindings = FuturesUnordered::new();
    loop {
        let now = Timestamp::now();
        let due = {
            let mut own = cluster.lock();
            while own.is_synced() && bindings.len() < BINDINGS {
                let Some((step, took)) = own.next(now) else {
                    break;
                };
                measures.decided(&step, took);
                bindings.push(binder.clone().carry_out(step).boxed());
            }
            own.next_due().filter(|_| bindings.len() < BINDINGS)
        };
        tokio::select! {
            event = seen.next() => match event {
                Some(event) => take_in(&mut cluster.lock(), event, &moved),
                None => return,
            },
            Some(outcome) = bindings.next() => cluster.lock().finish(outcome, Timestamp::now()),
            () = sleep_until(due) => {}
        }
        // Whatever else has arrived by now is taken in before the next decision.
        while let Some(Some(event)) = seen.next().now_or_never() {
            take_in(&mut cluster.lock(), event, &moved);
        }
    }
}

/// All objects of a kind, as they are and as they change.
fn watched<K>(client: &Client) -> (Reader<K>, impl Stream<Item = Change<K>> + Send + use<K>)
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    store(Api::<K>::all(client.clone()), watcher::Config::default())
}

/// Takes in what was seen; bindings that wait for claims are told.
fn take_in(cluster: &mut Cluster, seen: Seen, moved: &watch::Sender<u64>) {
    let concerns_claims = matches!(seen, Seen::Claim(_) | Seen::Pod(Change::Deleted(_)));
    cluster.see(seen, Timestamp::now());
    if concerns_claims {
        moved.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// One thing that was seen.
enum Seen {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Namespace(Change<Namespace>),
    Claim(Change<PersistentVolumeClaim>),
    Volume(Change<PersistentVolume>),
    Class(Change<StorageClass>),
    CsiNode(Change<CSINode>),
    Budget(Change<PodDisruptionBudget>),
    Service(Change<Service>),
    ReplicationController(Change<ReplicationController>),
    ReplicaSet(Change<ReplicaSet>),
    StatefulSet(Change<StatefulSet>),
}

async fn sleep_until(due: Option<Timestamp>) {
    match due {
        Some(due) => {
            let left = due.duration_since(Timestamp::now());
            tokio::time::sleep(left.try_into().unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}
