//! The indexes of an indexed Job: which have succeeded, which have failed for good, which are to be run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::batch::indexes;
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::backoff::Failures;
use super::failure_policy::{Meaning, meaning};
use super::pods_of_job::{has_finalizer, has_succeeded, is_failed, valid_index};
use crate::pods;

/// How often pods of this index have failed before this one.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often they have failed without that being counted.
pub(super) const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// What is known about the indexes.
#[derive(Default)]
pub(super) struct Indexes {
    /// As the status has it.
    pub(super) counted: BTreeSet<i32>,
    /// With those of pods that are not counted yet.
    pub(super) succeeded: BTreeSet<i32>,
    /// Those that have failed for good; with a back-off limit per index only.
    pub(super) failed: Option<BTreeSet<i32>>,
    /// The failed pod that the next one of its index comes after; its finalizer stays until then.
    pub(super) to_replace: BTreeMap<i32, Arc<Pod>>,
}

fn read(text: Option<&str>, completions: i32) -> BTreeSet<i32> {
    let intervals = indexes::lenient(text.unwrap_or_default(), completions);
    intervals.iter().flat_map(|i| i.first..=i.last).collect()
}

impl Indexes {
    pub(super) fn of(spec: &JobSpec, status: &JobStatus, all: &[Arc<Pod>]) -> Self {
        let completions = spec.completions.unwrap_or(0);
        let counted = read(status.completed_indexes.as_deref(), completions);
        let tracked = all.iter().filter(|p| has_finalizer(p));
        let mut succeeded = counted.clone();
        let done = tracked.clone().filter(|p| has_succeeded(p));
        succeeded.extend(done.filter_map(|p| valid_index(p, spec)));
        let mut this = Self {
            counted,
            succeeded,
            ..Self::default()
        };
        if let Some(limit) = spec.backoff_limit_per_index {
            let mut failed = read(status.failed_indexes.as_deref(), completions);
            let lost = tracked.filter(|p| is_failed(p, spec) && fails_index(spec, p, limit));
            failed.extend(lost.filter_map(|p| valid_index(p, spec)));
            this.failed = Some(failed);
            this.find_replaced(spec, all);
        }
        this
    }

    fn find_replaced(&mut self, spec: &JobSpec, all: &[Arc<Pod>]) {
        let active: BTreeSet<i32> = active_indexes(spec, all);
        let lost = self.failed.clone().unwrap_or_default();
        for pod in all
            .iter()
            .filter(|p| has_finalizer(p) && is_failed(p, spec))
        {
            let Some(index) = valid_index(pod, spec) else {
                continue;
            };
            let settled = [&self.succeeded, &lost, &active];
            if settled.iter().any(|set| set.contains(&index)) {
                continue;
            }
            let rank = |p: &Pod| (failures(p), pods::finished_at(p));
            let known = self.to_replace.get(&index);
            if known.is_none_or(|known| rank(known) <= rank(pod)) {
                self.to_replace.insert(index, Arc::clone(pod));
            }
        }
    }

    /// The lowest indexes that nobody works on, at most so many.
    pub(super) fn pending(&self, spec: &JobSpec, all: &[Arc<Pod>], count: usize) -> Vec<i32> {
        let mut busy = active_indexes(spec, all);
        if super::pods_of_job::replaces_only_failed(spec) {
            let ending = all.iter().filter(|p| pods::is_terminating(p));
            busy.extend(ending.filter_map(|p| valid_index(p, spec)));
        }
        let none = BTreeSet::new();
        let failed = self.failed.as_ref().unwrap_or(&none);
        let free = |index: &i32| {
            !busy.contains(index) && !self.succeeded.contains(index) && !failed.contains(index)
        };
        (0..spec.completions.unwrap_or(0))
            .filter(free)
            .take(count)
            .collect()
    }

    /// The failures that the next pod of an index waits after.
    pub(super) fn failures(&self, index: i32) -> Failures {
        let pod = self.to_replace.get(&index);
        pod.map_or_else(Failures::default, |pod| {
            Failures::ending_with(failures(pod).saturating_add(1), pod)
        })
    }

    /// The annotations of the next pod of an index: how often it has failed so far.
    pub(super) fn annotations(&self, spec: &JobSpec, index: i32) -> Vec<(&'static str, String)> {
        if spec.backoff_limit_per_index.is_none() {
            return Vec::new();
        }
        let (mut counted, mut ignored) = (0, 0);
        if let Some(pod) = self.to_replace.get(&index) {
            (counted, ignored) = (number(pod, FAILURES), number(pod, IGNORED));
            match meaning(spec, pod) {
                Meaning::Ignored => ignored += 1,
                _ => counted += 1,
            }
        }
        let mut annotations = vec![(FAILURES, counted.to_string())];
        if ignored > 0 {
            annotations.push((IGNORED, ignored.to_string()));
        }
        annotations
    }
}

fn active_indexes(spec: &JobSpec, all: &[Arc<Pod>]) -> BTreeSet<i32> {
    let active = all.iter().filter(|p| pods::is_active(p));
    active.filter_map(|p| valid_index(p, spec)).collect()
}

fn fails_index(spec: &JobSpec, pod: &Pod, limit: i32) -> bool {
    match meaning(spec, pod) {
        Meaning::FailsIndex => true,
        Meaning::Ignored => false,
        _ => i64::from(number(pod, FAILURES)) >= i64::from(limit),
    }
}

fn failures(pod: &Pod) -> u32 {
    number(pod, FAILURES).saturating_add(number(pod, IGNORED))
}

fn number(pod: &Pod, key: &str) -> u32 {
    let annotations = pod.metadata.annotations.as_ref();
    let number = annotations.and_then(|a| a.get(key)?.parse::<i32>().ok());
    number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}
