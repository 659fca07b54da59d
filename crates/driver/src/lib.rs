//! The one loop that runs every controller.
//!
//! It keeps the caches in step by one watch per kind, queues the items that changes concern, asks the controller's
//! brain for a plan and carries the plan out with the controller's own identity. Items are queued once, wait until the
//! cache shows their own last writes (KEP-5647), and come back with a growing delay after failures. Nothing polls: the
//! only timers are those that a plan or a failure arms.
//!
//! No opinion about any kind lives here; those are in `controllers`. Start with [`Driver`].

mod apply;
mod discover;
mod hub;
mod items;
mod measures;
mod queue;
mod reflect;
mod request;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::events::Recorder;
use control::caches::Needs;
use control::{Caches, Key, Look, Names, Plan, Reconciler, Resource, Wake};
use jiff::Timestamp;
use kube::Client;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::apply::Applier;
use crate::hub::Hub;
use crate::items::{Done, Items, Memory, Taken};

/// How long kinds may come and go before discovery is read again.
const DISCOVERY_SETTLES: Duration = Duration::from_millis(500);

/// A controller without its types.
trait Brain: Send + Sync {
    fn decide(&self, look: &Look<'_>) -> Option<Plan>;
}

impl<R: Reconciler> Brain for R {
    fn decide(&self, look: &Look<'_>) -> Option<Plan> {
        self.observe(look).map(|observed| R::reconcile(&observed))
    }
}

struct Controller {
    brain: Arc<dyn Brain>,
    client: Client,
    workers: usize,
    needs: Needs,
    items: Arc<Items>,
}

/// Controllers that share one set of caches.
#[derive(Default)]
pub struct Driver {
    caches: Caches,
    controllers: Vec<Controller>,
}

/// What one controller has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// The controller.
    pub name: &'static str,
    /// Decisions taken.
    pub decisions: u64,
    /// Requests sent.
    pub requests: u64,
    /// Plans that could not be carried out.
    pub failures: u64,
    /// Times an item had to wait for the echo of its own write.
    pub waits: u64,
    /// Items waiting for a worker now.
    pub depth: usize,
}

/// Reads the counters of a running driver.
#[derive(Clone)]
pub struct Metrics {
    items: Vec<Arc<Items>>,
}

impl Metrics {
    /// The counters of every controller.
    pub fn counts(&self) -> Vec<Counts> {
        let counts = |items: &Arc<Items>| Counts {
            name: items.name,
            decisions: items.counters.decisions.load(Ordering::Relaxed),
            requests: items.counters.requests.load(Ordering::Relaxed),
            failures: items.counters.failures.load(Ordering::Relaxed),
            waits: items.counters.waits.load(Ordering::Relaxed),
            depth: items.depth(),
        };
        self.items.iter().map(counts).collect()
    }

    /// The figures of every queue for a page of metrics; `name` gives a queue its name by its controller's. Of several
    /// queues of one name only the first is told.
    pub fn render(&self, name: impl Fn(&'static str) -> &'static str) -> String {
        let mut queues: Vec<(&str, measures::Figures)> = Vec::new();
        for items in &self.items {
            let name = name(items.name);
            if queues.iter().all(|(known, _)| *known != name) {
                queues.push((name, items.figures()));
            }
        }
        queues.sort_by_key(|(name, _)| *name);
        measures::render(&queues)
    }
}

impl Driver {
    /// Without any controller yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a controller that acts through `client` on up to `workers` items side by side.
    pub fn add<R: Reconciler>(&mut self, reconciler: R, client: Client, workers: usize) {
        let mut wake = Wake::new(&mut self.caches, self.controllers.len());
        R::wake(&mut wake);
        let needs = wake.finish();
        self.controllers.push(Controller {
            brain: Arc::new(reconciler),
            client,
            workers,
            needs,
            items: Arc::new(Items::new(R::NAME)),
        });
    }

    /// The counters, to be read while it runs.
    pub fn metrics(&self) -> Metrics {
        let items = self.controllers.iter().map(|c| Arc::clone(&c.items));
        Metrics {
            items: items.collect(),
        }
    }

    /// Runs everything until `shutdown`; `reader` is the identity behind the shared watches.
    pub async fn run(self, reader: Client, shutdown: impl Future<Output = ()>) {
        let items = self.controllers.iter().map(|c| Arc::clone(&c.items));
        let hub = Arc::new(Hub::new(self.caches, items.collect()));
        let mut tasks = JoinSet::new();
        for store in hub.caches().stores() {
            let (store, hub) = (Arc::clone(store), Arc::clone(&hub));
            tasks.spawn(reflect::reflect(reader.clone(), store, hub));
        }
        if hub.caches().meta.enabled() {
            tasks.spawn(follow_catalog(reader, Arc::clone(&hub)));
        }
        for controller in self.controllers {
            tasks.spawn(run_controller(controller, Arc::clone(&hub)));
        }
        shutdown.await;
        tasks.shutdown().await;
    }
}

/// Watches the metadata of every kind that the API serves, and of those that come later.
async fn follow_catalog(client: Client, hub: Arc<Hub>) {
    let mut watches = JoinSet::new();
    let mut handles: HashMap<Resource, AbortHandle> = HashMap::new();
    let mut pause = Duration::from_millis(50);
    loop {
        let found = match discover::discover(&client).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "discovery failed, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
                continue;
            }
        };
        pause = Duration::from_millis(50);
        let (fresh, gone) = hub.caches().set_catalog(found);
        for resource in gone {
            if let Some(handle) = handles.remove(&resource) {
                handle.abort();
            }
        }
        for kind in fresh {
            let resource = control::AnyStore::resource(kind.as_ref()).clone();
            let task = reflect::reflect(client.clone(), kind, Arc::clone(&hub));
            handles.insert(resource, watches.spawn(task));
        }
        hub.listed();
        hub.catalog_changed().await;
        tokio::time::sleep(DISCOVERY_SETTLES).await;
    }
}

/// Hands the items of one controller to its workers.
async fn run_controller(controller: Controller, hub: Arc<Hub>) {
    let mut lists = hub.lists();
    while !controller.needs.are_synced(hub.caches()) {
        if lists.changed().await.is_err() {
            return;
        }
    }
    tracing::debug!(
        controller = controller.items.name,
        "caches are filled, starting"
    );
    let recorder = Recorder::start(controller.client.clone(), controller.items.name, "");
    let permits = Arc::new(Semaphore::new(controller.workers));
    let controller = Arc::new(controller);
    let mut workers = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        while workers.try_join_next().is_some() {}
        let (key, memory) = next_item(&controller.items, &hub).await;
        let (controller, hub) = (Arc::clone(&controller), Arc::clone(&hub));
        let recorder = recorder.clone();
        workers.spawn(async move {
            work(&controller, &hub, &recorder, key, memory).await;
            drop(permit);
        });
    }
}

async fn next_item(items: &Items, hub: &Hub) -> (Key, Memory) {
    loop {
        match items.take(Instant::now(), hub.caches()) {
            Taken::Work(key, memory) => return (key, *memory),
            Taken::Wait(None) => items.changed().await,
            Taken::Wait(Some(at)) => {
                tokio::select! {
                    () = items.changed() => {}
                    () = tokio::time::sleep_until(at.into()) => {}
                }
            }
        }
    }
}

/// One decision about one item, and its consequences.
async fn work(controller: &Controller, hub: &Hub, recorder: &Recorder, key: Key, memory: Memory) {
    let items = &controller.items;
    let look = Look {
        caches: hub.caches(),
        key: &key,
        now: Timestamp::now(),
        names: Names::new(rand::random()),
        answers: &memory.answers,
        failure: memory.failure.as_ref(),
        since: memory.since,
    };
    items.counters.decisions.fetch_add(1, Ordering::Relaxed);
    let Some(plan) = controller.brain.decide(&look) else {
        items.finish(&key, Memory::default(), Done::Gone, Instant::now());
        return;
    };
    if plan.is_idle() {
        tracing::trace!(controller = items.name, %key, because = plan.because, "nothing to do");
        let done = Done::Fine(plan.requeue_after);
        let memory = Memory {
            since: plan.since,
            ..Memory::default()
        };
        items.finish(&key, memory, done, Instant::now());
        return;
    }
    tracing::debug!(controller = items.name, %key, because = plan.because, "acting");
    let applier = Applier {
        client: &controller.client,
        recorder,
        caches: hub.caches(),
        counters: &items.counters,
    };
    let outcome = applier.apply(&plan).await;
    let done = match &outcome.failure {
        Some(failure) => {
            log_failure(items.name, &key, failure, outcome.lost_race);
            Done::Failed
        }
        None if !outcome.answers.is_empty() => Done::Asked,
        None => Done::Fine(plan.requeue_after),
    };
    let memory = Memory {
        pending: outcome.pending,
        answers: outcome.answers,
        failure: outcome.failure.filter(|_| !outcome.lost_race),
        since: plan.since,
    };
    items.finish(&key, memory, done, Instant::now());
}

fn log_failure(controller: &str, key: &Key, failure: &control::Failure, lost_race: bool) {
    let message = &failure.message;
    if lost_race || failure.code == 0 {
        tracing::debug!(controller, %key, message, "not carried out, trying again");
    } else {
        tracing::warn!(controller, %key, message, "not carried out, trying again");
    }
}
