//! Pods whose Job is gone or has ended while they still carried the finalizer: nobody will count them any more.
//!
//! Upstream: `syncOrphanPod` in `pkg/controller/job/job_controller.go`.

use std::sync::Arc;

use control::{Action, Caches, Change, Key, Look, Plan, Reconciler, Wake};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::{Metadata as _, Resource as _};

use super::pods_of_job::{has_finalizer, untrack};
use super::reconcile::{is_finished, manager};
use crate::ownership::{controller_of, index_pods};
use crate::pods;

/// Frees pods that no Job counts any more.
pub struct OrphanedPods;

impl Reconciler for OrphanedPods {
    type Observed = (Arc<Pod>, Option<Arc<Job>>);

    const NAME: &'static str = "job-controller";

    fn wake(on: &mut Wake<'_>) {
        index_pods(on);
        on.on::<Pod>(keys_of_pod).on::<Job>(keys_of_job);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Self::Observed> {
        let pod = look.caches.of::<Pod>().get(look.key)?;
        let job = job_of(look.caches, &pod);
        Some((pod, job))
    }

    fn reconcile((pod, job): &Self::Observed) -> Plan {
        if !is_orphaned(pod, job.as_deref()) {
            return Plan::idle("its job counts it");
        }
        Plan {
            actions: Vec::<Action>::from_iter(untrack(pod)),
            because: "no job counts it any more".to_owned(),
            ..Plan::default()
        }
    }
}

fn job_of(caches: &Caches, pod: &Pod) -> Option<Arc<Job>> {
    let owner = controller_of(&pod.metadata)?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let job = caches.of::<Job>().named(namespace, &owner.name);
    job.filter(|j| j.metadata.uid.as_ref() == Some(&owner.uid))
}

fn is_orphaned(pod: &Pod, job: Option<&Job>) -> bool {
    if !has_finalizer(pod) {
        return false;
    }
    let owner = controller_of(&pod.metadata);
    if owner.is_some_and(|o| o.kind != Job::KIND || o.api_version != Job::API_VERSION) {
        return false;
    }
    match job {
        Some(job) => manager(job).is_none() && is_finished(job),
        None => true,
    }
}

fn keys_of_pod(change: &Change<Pod>, caches: &Caches) -> Vec<Key> {
    let Some(pod) = change.new.as_ref().filter(|p| has_finalizer(p)) else {
        return Vec::new();
    };
    let orphaned = is_orphaned(pod, job_of(caches, pod).as_deref());
    let key = orphaned.then(|| Key::of(pod.as_ref()));
    key.into_iter().collect()
}

fn keys_of_job(change: &Change<Job>, caches: &Caches) -> Vec<Key> {
    let job = change.latest();
    if !change.is_deletion() && !is_finished(job) {
        return Vec::new();
    }
    let uid = job.metadata().uid.as_deref().unwrap_or_default();
    let pods = caches.of::<Pod>().indexed(pods::BY_CONTROLLER, uid);
    let held = pods.iter().filter(|p| has_finalizer(p));
    held.map(|p| Key::of(p.as_ref())).collect()
}
