//! Runs the scheduler: watches pods, nodes and name-spaces, asks `scheduling` for decisions, binds pods.
//!
//! One task owns the picture of the cluster and the queue, so decisions never race; bindings travel in tasks of their own,
//! at most [`BINDINGS`] at a time, with the pod assumed on its node meanwhile. Nothing polls: the task sleeps until a watch,
//! a finished binding or the end of a back-off wakes it.
//! Not here: which node is best, and when a pod is worth another try (`scheduling`).

mod bind;
mod cluster;

use std::pin::pin;

use client::events::Recorder;
use client::watch::{Change, store};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::runtime::watcher;
use kube::{Api, Client};
use scheduling::UNNAMED_SCHEDULER;

use crate::bind::Binder;
use crate::cluster::Cluster;

/// Bindings under way at once.
const BINDINGS: usize = 64;

/// Schedules pods that name the scheduler `default-scheduler` until the future is dropped.
pub async fn run(client: Client) {
    run_as(client, UNNAMED_SCHEDULER).await;
}

/// Schedules pods that name this scheduler until the future is dropped.
pub async fn run_as(client: Client, name: &str) {
    let (_, pods) = store(Api::<Pod>::all(client.clone()), watcher::Config::default());
    let (_, nodes) = store(Api::<Node>::all(client.clone()), watcher::Config::default());
    let (_, namespaces) = store(
        Api::<Namespace>::all(client.clone()),
        watcher::Config::default(),
    );
    let seen = futures::stream::select(
        pods.map(Seen::Pod).boxed(),
        futures::stream::select(
            nodes.map(Seen::Node).boxed(),
            namespaces.map(Seen::Namespace).boxed(),
        ),
    );
    let binder = Binder::new(client.clone(), Recorder::start(client, name, ""));
    let mut seen = pin!(seen);
    let mut cluster = Cluster::new(name);
    let mut bindings = FuturesUnordered::new();
    loop {
        let now = Timestamp::now();
        while cluster.is_synced() && bindings.len() < BINDINGS {
            let Some(step) = cluster.next(now) else { break };
            bindings.push(binder.clone().carry_out(step).boxed());
        }
        let due = cluster.next_due().filter(|_| bindings.len() < BINDINGS);
        tokio::select! {
            event = seen.next() => match event {
                Some(event) => cluster.see(event, Timestamp::now()),
                None => return,
            },
            Some(outcome) = bindings.next() => cluster.finish(outcome, Timestamp::now()),
            () = sleep_until(due) => {}
        }
        // Whatever else has arrived by now is taken in before the next decision.
        while let Some(Some(event)) = seen.next().now_or_never() {
            cluster.see(event, Timestamp::now());
        }
    }
}

/// One thing that was seen.
enum Seen {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Namespace(Change<Namespace>),
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
