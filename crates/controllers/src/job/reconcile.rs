//! The decision about a Job.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::batch::indexes as text;
use control::plan::reference;
use control::{Action, Event, EventType, Plan, StatusWrite};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::Failures;
use super::ending::{self, Ending};
use super::failure_policy::{Meaning, meaning};
use super::indexes::Indexes;
use super::pods_of_job::{
    INDEX, has_finalizer, has_succeeded, index, is_failed, is_indexed, replaces_only_failed,
    spec_of, untrack, valid_index,
};
use super::tracking::{Tracked, track};
use super::{Observed, TRACKING};
use crate::ownership::settled_claim;
use crate::replicas::nonzero;
use crate::{podcontrol, pods};

/// Most pods that one decision makes or removes.
const BURST: usize = 500;
const CONTROLLER: &str = "kubernetes.io/job-controller";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// Who manages the Job instead of us.
pub(super) fn manager(job: &Job) -> Option<&str> {
    let manager = job.spec.as_ref()?.managed_by.as_deref()?;
    (manager != CONTROLLER).then_some(manager)
}

/// Whether the Job has ended.
pub(crate) fn is_finished(job: &Job) -> bool {
    let has = |name| {
        let status = job.status.as_ref();
        status.is_some_and(|s| ending::find(s, name).is_some())
    };
    has("Complete") || has("Failed")
}

struct Work<'a> {
    o: &'a Observed,
    spec: JobSpec,
    old: JobStatus,
    all: Vec<Arc<Pod>>,
    indexes: Indexes,
    actions: Vec<Action>,
    status: JobStatus,
    active: i32,
    ready: i32,
    terminating: i32,
    again: Option<Duration>,
    because: String,
}

/// Decides about one Job.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let job = o.root.as_ref();
    if let Some(manager) = manager(job) {
        return Plan::idle(format!("it is managed by {manager}"));
    }
    if is_finished(job) {
        return Plan::idle("it has ended");
    }
    let claimed = settled_claim(job, &o.pods, o.owner_lives, Some(TRACKING), "pods");
    let mut all = match claimed {
        Ok(claimed) => claimed,
        Err(plan) => return *plan,
    };
    all.sort_by_key(|p| (index(p), p.metadata.name.clone()));
    let (spec, old) = (spec_of(job), job.status.clone().unwrap_or_default());
    let indexes = if is_indexed(&spec) {
        Indexes::of(&spec, &old, &all)
    } else {
        Indexes::default()
    };
    let count = |test: &dyn Fn(&Pod) -> bool| number(all.iter().filter(|p| test(p)).count());
    let work = Work {
        o,
        active: count(&pods::is_active),
        ready: count(&|p| pods::is_active(p) && pods::is_ready(p)),
        terminating: count(&pods::is_terminating),
        status: old.clone(),
        spec,
        old,
        all,
        indexes,
        actions: Vec::new(),
        again: None,
        because: String::new(),
    };
    work.decide()
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl Work<'_> {
    fn decide(mut self) -> Plan {
        let suspended = self.spec.suspend == Some(true);
        if self.status.start_time.is_none() && !suspended {
            self.status.start_time = Some(self.time());
        }
        let announced = ending::announced(&self.old);
        let ending = announced.clone().or_else(|| self.ending(suspended));
        let ending = match ending {
            Some(ending) => {
                self.remove_active();
                Some(ending)
            }
            None => {
                let managed = self.o.root.metadata.deletion_timestamp.is_none();
                if managed {
                    self.manage(suspended);
                }
                let complete = self.is_complete();
                if managed && !complete {
                    self.tell_suspension(suspended);
                }
                complete.then(|| {
                    let message = "Reached expected number of succeeded pods";
                    Ending::new(true, "CompletionsReached", message)
                })
            }
        };
        let tracked = track(
            &self.o.root,
            &self.spec,
            &self.old,
            &self.all,
            &self.indexes,
            ending.as_ref(),
            announced.is_some(),
        );
        self.finish(tracked, ending, announced.is_some())
    }

    fn time(&self) -> Time {
        Time(machinery::time::truncate(self.o.now))
    }

    /// Whether the Job is to end for another reason than that all is done.
    fn ending(&mut self, suspended: bool) -> Option<Ending> {
        let deadline = self.deadline(suspended);
        let failed = self.failed_so_far();
        let ending = ending::failure(&self.spec, &self.all, failed, deadline)
            .or_else(|| ending::by_indexes(&self.spec, &self.indexes));
        if ending.is_none() {
            self.wait_for(deadline);
        }
        ending
    }

    /// The time left, if there is a limit.
    fn deadline(&self, suspended: bool) -> Option<Duration> {
        let seconds = self.spec.active_deadline_seconds.filter(|_| !suspended)?;
        let start = self.old.start_time.as_ref().map_or(self.o.now, |t| t.0);
        let seconds = Duration::from_secs(seconds.max(0).unsigned_abs());
        let end = start.saturating_add(seconds).unwrap_or(Timestamp::MAX);
        let left = Duration::try_from(self.o.now.duration_until(end));
        Some(left.unwrap_or_default())
    }

    fn wait_for(&mut self, duration: Option<Duration>) {
        self.again = self.again.into_iter().chain(duration).min();
    }

    fn uncounted(&self, failed: bool) -> &[String] {
        let uncounted = self.old.uncounted_terminated_pods.as_ref();
        let list = uncounted.and_then(|u| match failed {
            true => u.failed.as_deref(),
            false => u.succeeded.as_deref(),
        });
        list.unwrap_or_default()
    }

    /// Pods that have ended and are in no number yet.
    fn fresh(&self, failed: bool, test: impl Fn(&Pod) -> bool) -> i64 {
        let known = self.uncounted(failed);
        let new = self.all.iter().filter(|p| {
            let uid = p.metadata.uid.as_deref().unwrap_or_default();
            let valid = !is_indexed(&self.spec) || valid_index(p, &self.spec).is_some();
            has_finalizer(p) && valid && !known.iter().any(|k| k == uid) && test(p)
        });
        i64::try_from(new.count() + known.len()).unwrap_or(i64::MAX)
    }

    fn failed_so_far(&self) -> i64 {
        let spec = &self.spec;
        let counts = |p: &Pod| is_failed(p, spec) && meaning(spec, p) != Meaning::Ignored;
        i64::from(self.old.failed.unwrap_or(0)) + self.fresh(true, counts)
    }

    fn succeeded_so_far(&self) -> i64 {
        if is_indexed(&self.spec) {
            return i64::try_from(self.indexes.succeeded.len()).unwrap_or(i64::MAX);
        }
        i64::from(self.old.succeeded.unwrap_or(0)) + self.fresh(false, has_succeeded)
    }

    fn is_complete(&self) -> bool {
        let succeeded = self.succeeded_so_far();
        let enough = match self.spec.completions {
            // Any success says that the work is done; the others end by themselves.
            None => succeeded > 0,
            Some(completions) => succeeded >= i64::from(completions),
        };
        enough && self.active == 0
    }

    fn active_pods(&self) -> Vec<Arc<Pod>> {
        let active = self.all.iter().filter(|p| pods::is_active(p));
        active.cloned().collect()
    }

    fn note_removed(&mut self, pod: &Pod) {
        self.active -= 1;
        self.ready -= i32::from(pods::is_ready(pod));
        self.terminating += 1;
    }

    /// The Job ends: nothing is left to do for those that run. They are still counted, so they keep the finalizer.
    fn remove_active(&mut self) {
        for pod in self.active_pods() {
            self.actions
                .push(podcontrol::delete(self.o.root.as_ref(), &pod));
            self.note_removed(&pod);
        }
    }

    /// Removes pods that are not to be counted.
    fn withdraw(&mut self, go: &[Arc<Pod>]) {
        for pod in go {
            self.actions.extend(untrack(pod));
            self.actions
                .push(podcontrol::delete(self.o.root.as_ref(), pod));
            self.note_removed(pod);
        }
    }

    /// As many pods at work as there shall be.
    fn manage(&mut self, suspended: bool) {
        let active = self.active_pods();
        if suspended {
            self.because = "it is suspended".to_owned();
            return self.withdraw(&active);
        }
        let parallelism = i64::from(self.spec.parallelism.unwrap_or(1).max(0));
        let succeeded = self.succeeded_so_far();
        let there = i64::from(self.active);
        let wanted = match self.spec.completions {
            None if succeeded > 0 => there,
            None => parallelism,
            Some(completions) => (i64::from(completions) - succeeded).clamp(0, parallelism),
        };
        let surplus = usize::try_from(there - wanted).unwrap_or(0);
        let mut go = self.surplus(&active, surplus);
        go.truncate(BURST);
        if !go.is_empty() {
            self.because = format!("{there} pods are at work, {wanted} shall be");
            return self.withdraw(&go);
        }
        let ending = match replaces_only_failed(&self.spec) {
            true => i64::from(self.terminating),
            false => 0,
        };
        let missing = usize::try_from(wanted - ending - there).unwrap_or(0);
        if missing > 0 {
            self.create(missing.min(BURST));
        }
    }

    /// Pods that are too many: of an indexed Job those without a valid index and doubles first.
    fn surplus(&self, active: &[Arc<Pod>], at_least: usize) -> Vec<Arc<Pod>> {
        let now = self.o.now;
        let first = |of: &[Arc<Pod>], count| pods::first_to_go(of, &[], count, now);
        if !is_indexed(&self.spec) {
            return first(active, at_least);
        }
        let (mut go, mut stay) = (Vec::new(), Vec::new());
        let mut rest = active;
        while let Some(pod) = rest.first() {
            let same = rest.iter().take_while(|p| index(p) == index(pod)).count();
            let (run, after) = rest.split_at(same);
            rest = after;
            let doubles = match valid_index(pod, &self.spec) {
                Some(_) => first(run, run.len() - 1),
                None => run.to_vec(),
            };
            let gone = |p: &Arc<Pod>| doubles.iter().any(|d| Arc::ptr_eq(d, p));
            stay.extend(run.iter().filter(|p| !gone(p)).cloned());
            go.extend(doubles);
        }
        let more = at_least.saturating_sub(go.len());
        go.extend(first(&stay, more));
        go
    }

    fn create(&mut self, missing: usize) {
        let per_index = self.spec.backoff_limit_per_index.is_some();
        let now = self.o.now;
        if !per_index {
            let spec = &self.spec;
            // One that was withdrawn has not failed.
            let withdrawn = |p: &Pod| pods::is_deleting(p) && !has_finalizer(p);
            let lost = self
                .all
                .iter()
                .filter(|p| is_failed(p, spec) && !withdrawn(p));
            let done = self.all.iter().filter(|p| has_succeeded(p));
            let failures = Failures::of(lost.map(AsRef::as_ref), done.map(AsRef::as_ref));
            let wait = failures.remaining(now);
            if !wait.is_zero() {
                self.because = format!("a pod has failed, the next comes in {wait:?}");
                return self.wait_for(Some(wait));
            }
        }
        let indexes: Vec<Option<i32>> = if is_indexed(&self.spec) {
            let pending = self.indexes.pending(&self.spec, &self.all, missing);
            let wait = |index: &i32| self.indexes.failures(*index).remaining(now);
            let due = pending.iter().filter(|index| wait(index).is_zero());
            let due: Vec<Option<i32>> = due.copied().map(Some).collect();
            let next = pending.iter().map(wait).filter(|w| !w.is_zero()).min();
            self.wait_for(next);
            due
        } else {
            vec![None; missing]
        };
        self.because = format!("making {} pods", indexes.len());
        self.active += number(indexes.len());
        let pods = self.new_pods(&indexes);
        let job = self.o.root.as_ref();
        self.actions
            .extend(pods.iter().map(|pod| podcontrol::create(job, pod)));
    }

    fn new_pods(&self, indexes: &[Option<i32>]) -> Vec<Pod> {
        let job = self.o.root.as_ref();
        let mut pod = podcontrol::pod_of(job, &self.spec.template);
        let finalizers = pod.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == TRACKING) {
            finalizers.push(TRACKING.to_owned());
        }
        let taken: HashSet<&str> = self
            .o
            .pods
            .iter()
            .filter_map(|p| p.metadata.name.as_deref())
            .collect();
        let name = job.metadata.name.as_deref().unwrap_or_default();
        // Every pod takes the next suffix; an index stands before it.
        let suffixes = self.o.names.suffixes();
        let mut given: Vec<String> = Vec::new();
        let mut suffixes = suffixes.filter(|suffix| !suffix.is_empty());
        let mut pods = Vec::with_capacity(indexes.len());
        for index in indexes {
            let base = match index {
                None => podcontrol::name_prefix(name),
                Some(index) => indexed_base(name, *index),
            };
            let fresh = suffixes.by_ref().map(|suffix| {
                let room = 63 - suffix.len();
                format!("{}{suffix}", base.get(..room).unwrap_or(&base))
            });
            let mut fresh = fresh.filter(|n| !taken.contains(n.as_str()));
            let Some(name_of_pod) = fresh.find(|n| !given.contains(n)) else {
                break;
            };
            given.push(name_of_pod.clone());
            let mut pod = pod.clone();
            pod.metadata.name = Some(name_of_pod);
            pod.metadata.generate_name = Some(base);
            if let Some(index) = index {
                self.give_index(&mut pod, name, *index);
            }
            pods.push(pod);
        }
        pods
    }

    fn give_index(&self, pod: &mut Pod, job: &str, index: i32) {
        let text = index.to_string();
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(INDEX.to_owned(), text.clone());
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(INDEX.to_owned(), text);
        for (key, value) in self.indexes.annotations(&self.spec, index) {
            annotations.insert(key.to_owned(), value);
        }
        let Some(spec) = &mut pod.spec else { return };
        spec.hostname = Some(format!("{job}-{index}"));
        let init = spec.init_containers.iter_mut().flatten();
        for container in init.chain(&mut spec.containers) {
            let env = container.env.get_or_insert_default();
            if env.iter().any(|v| v.name == INDEX_VARIABLE) {
                continue;
            }
            env.push(EnvVar {
                name: INDEX_VARIABLE.to_owned(),
                value: None,
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        api_version: None,
                        field_path: format!("metadata.labels['{INDEX}']"),
                    }),
                    ..EnvVarSource::default()
                }),
            });
        }
    }

    fn tell(&mut self, event_type: EventType, reason: &str, message: &str) {
        self.actions.push(Action::Event(Event {
            about: reference(self.o.root.as_ref()),
            event_type,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }));
    }

    /// The condition that tells whether the Job is suspended; one that never was has none.
    fn tell_suspension(&mut self, suspended: bool) {
        const NAME: &str = "Suspended";
        let (reason, message, event) = match suspended {
            true => ("JobSuspended", "Job suspended", "Suspended"),
            false => ("JobResumed", "Job resumed", "Resumed"),
        };
        let state = if suspended { "True" } else { "False" };
        let mut told = self.old.conditions.iter().flatten();
        let told = told.find(|c| c.type_ == NAME);
        if told.map_or(!suspended, |c| c.status == state) {
            return;
        }
        let condition = ending::condition(NAME, suspended, reason, message, self.o.now);
        let conditions = self.status.conditions.get_or_insert_default();
        match conditions.iter_mut().find(|c| c.type_ == NAME) {
            Some(told) => *told = condition,
            None => conditions.push(condition),
        }
        // The time that the Job may take begins anew.
        self.status.start_time = (!suspended).then(|| self.time());
        self.tell(EventType::Normal, event, message);
    }

    /// Puts the numbers into the status, and seals the end when nothing is open any more.
    fn finish(mut self, tracked: Tracked, ending: Option<Ending>, announced: bool) -> Plan {
        let open = tracked.open || self.terminating > 0 || self.active > 0;
        self.actions.extend(tracked.actions);
        self.status.active = nonzero(self.active);
        self.status.ready = Some(self.ready);
        self.status.terminating = Some(self.terminating);
        self.status.failed = nonzero(tracked.failed);
        self.status.succeeded = nonzero(tracked.succeeded);
        self.status.uncounted_terminated_pods = Some(tracked.uncounted);
        if is_indexed(&self.spec) {
            self.status.succeeded = nonzero(number(tracked.counted.len()));
            let completed = text::format(tracked.counted);
            self.status.completed_indexes = Some(completed).filter(|t| !t.is_empty());
            let failed = self.indexes.failed.clone();
            self.status.failed_indexes = failed.map(text::format);
        }
        if let Some(ending) = ending {
            self.because = format!("{}: {}", ending.reason, ending.message);
            self.end(&ending, announced, open);
        }
        if self.because.is_empty() {
            self.because = format!("{} pods are at work", self.active);
        }
        let status = (!same(&self.old, &self.status)).then(|| {
            let mut job = self.o.root.as_ref().clone();
            job.status = Some(self.status);
            StatusWrite::of(&job)
        });
        Plan {
            actions: self.actions,
            status,
            requeue_after: self.again,
            because: self.because,
            ..Plan::default()
        }
    }

    fn end(&mut self, ending: &Ending, announced: bool, open: bool) {
        let now = self.o.now;
        let make = |name| ending::condition(name, true, &ending.reason, &ending.message, now);
        let conditions = self.status.conditions.get_or_insert_default();
        if !announced {
            conditions.push(make(ending.target()));
        }
        if open {
            return;
        }
        conditions.push(make(ending.terminal()));
        if !ending.success {
            return self.tell(EventType::Warning, &ending.reason, &ending.message);
        }
        self.status.completion_time = Some(self.time());
        let succeeded = self.status.succeeded.unwrap_or(0);
        if self
            .spec
            .completions
            .is_some_and(|wanted| succeeded > wanted)
        {
            let message = "Too many succeeded pods running after completion count reached";
            self.tell(EventType::Warning, "TooManySucceededPods", message);
        }
        self.tell(EventType::Normal, "Completed", "Job completed");
    }
}

/// The part of a pod's name before the suffix, cut so that the index stays whole.
fn indexed_base(name: &str, index: i32) -> String {
    const LONGEST: usize = 58;
    let index = format!("-{index}-");
    let room = LONGEST - index.len();
    format!("{}{index}", name.get(..room).unwrap_or(name))
}

/// An absent number counts as zero: the API leaves zeros out.
fn same(old: &JobStatus, new: &JobStatus) -> bool {
    let zero = |n: Option<i32>| n.unwrap_or(0);
    let conditions = |s: &JobStatus| s.conditions.clone().unwrap_or_default();
    zero(old.active) == zero(new.active)
        && zero(old.succeeded) == zero(new.succeeded)
        && zero(old.failed) == zero(new.failed)
        && old.ready == new.ready
        && old.terminating == new.terminating
        && old.start_time == new.start_time
        && old.completion_time == new.completion_time
        && old.completed_indexes == new.completed_indexes
        && old.failed_indexes == new.failed_indexes
        && old.uncounted_terminated_pods == new.uncounted_terminated_pods
        && conditions(old) == conditions(new)
}
