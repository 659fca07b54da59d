//! Counting pods once: from the finalizer to the UID in the status, to no finalizer, to the counter.
//!
//! A decision sees the status that was written before. A finalizer goes only when that status already says what the pod
//! was; a UID goes only when the pod has no finalizer any more, or is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use control::Action;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::ending::Ending;
use super::failure_policy::{Meaning, meaning};
use super::indexes::Indexes;
use super::pods_of_job::{
    has_finalizer, has_succeeded, is_failed, is_indexed, untrack, valid_index,
};

/// Most UIDs that the status holds.
const MOST: usize = 500;

/// The part of the status that counts pods, as it becomes.
pub(super) struct Tracked {
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) uncounted: UncountedTerminatedPods,
    /// Indexes that are counted from now on.
    pub(super) counted: BTreeSet<i32>,
    /// Finalizers that go.
    pub(super) actions: Vec<Action>,
    /// There are pods that are not counted yet.
    pub(super) open: bool,
}

/// What a pod is to the counters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Succeeded,
    Failed,
    /// It ends without being counted.
    Dropped,
}

/// Counts what can be counted now.
pub(super) fn track(
    job: &Job,
    spec: &JobSpec,
    old: &JobStatus,
    all: &[Arc<Pod>],
    indexes: &Indexes,
    ending: Option<&Ending>,
    announced: bool,
) -> Tracked {
    let held: BTreeSet<&str> = all
        .iter()
        .filter(|p| has_finalizer(p))
        .filter_map(|p| p.metadata.uid.as_deref())
        .collect();
    let before = old.uncounted_terminated_pods.clone().unwrap_or_default();
    let (succeeded, more) = settle(before.succeeded.as_deref(), &held);
    let (failed, lost) = settle(before.failed.as_deref(), &held);
    let mut tracked = Tracked {
        succeeded: old.succeeded.unwrap_or(0).saturating_add(more),
        failed: old.failed.unwrap_or(0).saturating_add(lost),
        uncounted: UncountedTerminatedPods::default(),
        counted: indexes.counted.clone(),
        actions: Vec::new(),
        open: false,
    };
    let (mut succeeded, mut failed) = (succeeded, failed);
    let indexed = is_indexed(spec);
    let mut fresh = 0;
    for pod in all.iter().filter(|p| has_finalizer(p)) {
        let Some(sort) = sort(job, spec, pod, indexes, ending) else {
            continue;
        };
        if succeeded.len() + failed.len() + fresh >= MOST {
            tracked.open = true;
            break;
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let known = match sort {
            Sort::Dropped => ending.is_none() || announced,
            // What was called failed on its way out stays so, however it ended.
            _ if failed.contains(&uid) => true,
            Sort::Failed => {
                failed.push(uid);
                false
            }
            Sort::Succeeded if indexed => match valid_index(pod, spec) {
                Some(index) if !indexes.counted.contains(&index) => {
                    fresh += usize::from(tracked.counted.insert(index));
                    false
                }
                _ => true,
            },
            Sort::Succeeded if succeeded.contains(&uid) => true,
            Sort::Succeeded => {
                succeeded.push(uid);
                false
            }
        };
        tracked.open = true;
        if known {
            tracked.actions.extend(untrack(pod));
        }
    }
    tracked.open |= !succeeded.is_empty() || !failed.is_empty();
    let some = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
    tracked.uncounted = UncountedTerminatedPods {
        succeeded: some(succeeded),
        failed: some(failed),
    };
    tracked
}

/// The UIDs that stay, and how many are to be counted because their pods carry no finalizer any more.
fn settle(uids: Option<&[String]>, held: &BTreeSet<&str>) -> (Vec<String>, i32) {
    let uids = uids.unwrap_or_default();
    let stay: Vec<String> = uids
        .iter()
        .filter(|uid| held.contains(uid.as_str()))
        .cloned()
        .collect();
    let counted = i32::try_from(uids.len() - stay.len()).unwrap_or(i32::MAX);
    (stay, counted)
}

/// What becomes of a pod; nothing while it is at work.
fn sort(
    job: &Job,
    spec: &JobSpec,
    pod: &Arc<Pod>,
    indexes: &Indexes,
    ending: Option<&Ending>,
) -> Option<Sort> {
    let failed = is_failed(pod, spec);
    let deleting = job.metadata.deletion_timestamp.is_some();
    let done = has_succeeded(pod);
    if !deleting && ending.is_none() && !done {
        // A pod that another will come after shows how often the index has failed.
        let replaced = || {
            let index = valid_index(pod, spec);
            let next = index.and_then(|index| indexes.to_replace.get(&index));
            next.is_some_and(|p| p.metadata.uid == pod.metadata.uid)
        };
        if !failed || replaced() {
            return None;
        }
    }
    if done {
        return Some(Sort::Succeeded);
    }
    let lost = failed || ending.is_some_and(|e| !e.success);
    let valid = !is_indexed(spec) || valid_index(pod, spec).is_some();
    if !lost || !valid || meaning(spec, pod) == Meaning::Ignored {
        return Some(Sort::Dropped);
    }
    Some(Sort::Failed)
}
