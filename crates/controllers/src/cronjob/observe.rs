//! A CronJob and the Jobs of its namespace that matter to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use control::{Caches, Change, Key, Look, Wake};
use jiff::Timestamp;
use k8s_openapi::Resource as _;
use k8s_openapi::api::batch::v1::{CronJob, Job};

use crate::ownership::{controller_of, controller_uid};

const BY_CONTROLLER: &str = "controller";

/// All that a decision may depend on.
pub struct Observed {
    /// The CronJob.
    pub root: Arc<CronJob>,
    /// Its Jobs.
    pub jobs: Vec<Arc<Job>>,
    /// Names in the namespace that begin like those of its Jobs but belong to somebody else.
    pub taken: BTreeSet<String>,
    /// The moment of the decision.
    pub now: Timestamp,
}

pub(super) fn wake(on: &mut Wake<'_>) {
    on.on_root::<CronJob>()
        .on::<Job>(keys_of_job)
        .index::<Job>(BY_CONTROLLER, controller_uid);
}

fn keys_of_job(change: &Change<Job>, _: &Caches) -> Vec<Key> {
    let mut keys = Vec::new();
    for job in change.sides() {
        let namespace = job.metadata.namespace.clone().unwrap_or_default();
        let owner = controller_of(&job.metadata);
        if let Some(owner) = owner.filter(|o| o.kind == CronJob::KIND) {
            keys.push(Key::new(namespace, owner.name.clone()));
        }
    }
    keys.dedup();
    keys
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let root = look.caches.of::<CronJob>().get(look.key)?;
    let store = look.caches.of::<Job>();
    let uid = root.metadata.uid.as_deref().unwrap_or_default();
    let prefix = format!("{}-", look.key.name);
    let foreign = |job: &Job| controller_of(&job.metadata).is_none_or(|c| c.uid != uid);
    let taken = store.in_namespace(&look.key.namespace);
    let taken = taken.iter().filter(|job| foreign(job));
    Some(Observed {
        jobs: store.indexed(BY_CONTROLLER, uid),
        taken: taken
            .filter_map(|job| job.metadata.name.clone())
            .filter(|name| name.starts_with(&prefix))
            .collect(),
        now: look.now,
        root,
    })
}
