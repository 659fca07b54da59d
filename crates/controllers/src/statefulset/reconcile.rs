//! The decision about a StatefulSet: first the pods it shall have, then those it shall not, then those of another revision.

use std::sync::Arc;

use control::plan::reference;
use control::{Action, Event, EventType, Plan, Report, StatusWrite};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use machinery::int_or_string::{Round, scaled};
use serde_json::{Map, json};

use super::Observed;
use super::claims::{self, Missing};
use super::identity::{self, identity_matches, is_member, new_pod, ordinal, revision};
use super::observe::ordinals;
use super::status::{self, Counts, Revisions, count};
use crate::history::{self, History, Versioned as _};
use crate::ownership::settled_claim;
use crate::pods;

/// A pod that the set shall have.
enum Replica {
    There(Arc<Pod>),
    Missing(Box<Pod>),
}

/// Whether to go on with the next pod in this decision.
#[derive(PartialEq, Eq)]
enum Step {
    GoOn,
    Stop,
}

struct Work<'a> {
    o: &'a Observed,
    set: &'a StatefulSet,
    min_ready: i32,
    /// Pods are made and removed one after the other.
    ordered: bool,
    update: &'a str,
    actions: Vec<Action>,
    because: String,
    /// Deletions for the update, which the counts of the status already leave out.
    outdated_deleted: i32,
}

/// Decides about one StatefulSet.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let set = o.root.as_ref();
    let history = match history::settle(set, &o.history) {
        Ok(history) => history,
        Err(plan) => return *plan,
    };
    let members: Vec<Arc<Pod>> = o
        .pods
        .iter()
        .filter(|p| is_member(set, p))
        .cloned()
        .collect();
    let claimed = match settled_claim(set, &members, o.owner_lives, None, "pods") {
        Ok(claimed) => claimed,
        Err(plan) => return *plan,
    };
    decide(o, &history, claimed)
}

fn decide(o: &Observed, history: &History, pods: Vec<Arc<Pod>>) -> Plan {
    let set = o.root.as_ref();
    let update = history.update.metadata.name.as_deref().unwrap_or_default();
    let named = set
        .status
        .as_ref()
        .and_then(|s| s.current_revision.as_ref());
    let current = history
        .revisions
        .iter()
        .find(|r| named.is_some() && r.metadata.name.as_ref() == named)
        .unwrap_or(&history.update);
    let revisions = Revisions {
        current: current.metadata.name.as_deref().unwrap_or_default(),
        update,
    };
    let template = history::template(current).unwrap_or_else(|| set.spec.template.clone());
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let (mut replicas, condemned) = sort_out(set, &pods, &template, revisions);
    let counts = count(pods.iter().map(AsRef::as_ref), min_ready, revisions, o.now);
    let mut work = Work {
        o,
        set,
        min_ready,
        ordered: set.spec.pod_management_policy.as_deref() != Some("Parallel"),
        update,
        actions: Vec::new(),
        because: String::new(),
        outdated_deleted: 0,
    };
    if set.metadata.deletion_timestamp.is_none() {
        work.run(&mut replicas, &condemned);
    } else {
        work.because = "it is being deleted".to_owned();
    }
    work.finish(counts, revisions, history, &pods)
}

/// The pods in the range of ordinals, with new ones in the gaps, and those outside, the highest first.
fn sort_out(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    current: &PodTemplateSpec,
    revisions: Revisions<'_>,
) -> (Vec<Replica>, Vec<Arc<Pod>>) {
    let range = ordinals(set);
    let at = |wanted: i32| pods.iter().find(|p| ordinal(p) == Some(wanted));
    let stays_current = |ordinal: i32| ordinal < first_updated(set);
    let replicas = range.clone().map(|ordinal| match at(ordinal) {
        Some(pod) => Replica::There(Arc::clone(pod)),
        None if stays_current(ordinal) => {
            Replica::Missing(Box::new(new_pod(set, current, revisions.current, ordinal)))
        }
        None => {
            let template = &set.spec.template;
            Replica::Missing(Box::new(new_pod(set, template, revisions.update, ordinal)))
        }
    });
    let mut condemned: Vec<Arc<Pod>> = pods
        .iter()
        .filter(|p| ordinal(p).is_some_and(|ordinal| !range.contains(&ordinal)))
        .cloned()
        .collect();
    condemned.sort_by_key(|p| std::cmp::Reverse(ordinal(p)));
    (replicas.collect(), condemned)
}

/// Missing pods below this ordinal are made again as they were.
fn first_updated(set: &StatefulSet) -> i32 {
    let strategy = set.spec.update_strategy.as_ref();
    let start = ordinals(set).start;
    let Some(strategy) = strategy.filter(|s| s.type_.as_deref() == Some("RollingUpdate")) else {
        return start;
    };
    let count = match &strategy.rolling_update {
        Some(rolling) => rolling.partition.unwrap_or(0),
        None => {
            let status = set.status.as_ref();
            status.and_then(|s| s.current_replicas).unwrap_or(0)
        }
    };
    start.saturating_add(count)
}

impl Work<'_> {
    fn run(&mut self, replicas: &mut [Replica], condemned: &[Arc<Pod>]) {
        let sick = self.first_unavailable(replicas, condemned);
        for replica in replicas.iter() {
            if self.keep(replica) == Step::Stop && self.ordered {
                return;
            }
        }
        for pod in condemned {
            if !claims::match_policy(self.o, pod) {
                self.actions.extend(claims::own(self.o, pod));
            }
        }
        for pod in condemned {
            if self.remove(pod, sick.as_deref()) == Step::Stop && self.ordered {
                return;
            }
        }
        let strategy = self.set.spec.update_strategy.as_ref();
        let by_hand = strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete");
        // What was made in this decision is not there yet; the update goes on when it is.
        if !by_hand {
            self.roll(replicas);
        }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready, self.o.now)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        !self.is_available(pod) || pods::is_deleting(pod)
    }

    /// The name of the lowest pod that is not available.
    fn first_unavailable(&self, replicas: &[Replica], condemned: &[Arc<Pod>]) -> Option<String> {
        let unavailable = replicas.iter().find_map(|replica| match replica {
            Replica::Missing(pod) => Some(pod.as_ref()),
            Replica::There(pod) => Some(pod.as_ref()).filter(|p| self.is_unavailable(p)),
        });
        let leftover = || condemned.iter().rev().find(|p| self.is_unavailable(p));
        let pod = unavailable.or_else(|| leftover().map(AsRef::as_ref));
        pod.and_then(|p| p.metadata.name.clone())
    }

    /// Sees to one pod that shall be there.
    fn keep(&mut self, replica: &Replica) -> Step {
        let pod = match replica {
            Replica::Missing(pod) => return self.make(pod),
            Replica::There(pod) => pod,
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        if pods::is_terminal(pod) {
            if !pods::is_deleting(pod) {
                self.delete(pod);
            }
            self.wait(format!(
                "pod {name} has ended and is made again when it is gone"
            ));
            return Step::Stop;
        }
        if pods::phase(pod) == "Pending" {
            match claims::missing(self.o, pod) {
                Missing::Create(actions) => self.actions.extend(actions),
                Missing::Deleting(_) => return Step::Stop,
            }
        }
        if self.ordered {
            let waits = if pods::is_deleting(pod) {
                Some("to end")
            } else if pods::phase(pod) != "Running" || !pods::is_ready(pod) {
                Some("to be running and ready")
            } else if !self.is_available(pod) {
                Some("to be available")
            } else {
                None
            };
            if let Some(what) = waits {
                self.wait(format!("waiting for pod {name} {what}"));
                return Step::Stop;
            }
        }
        if !identity_matches(pod) || !claims::match_policy(self.o, pod) {
            self.correct(pod);
        }
        Step::GoOn
    }

    fn make(&mut self, pod: &Pod) -> Step {
        let name = pod.metadata.name.clone().unwrap_or_default();
        if claims::is_stale(self.o, pod) {
            self.wait(format!(
                "a claim of pod {name} is still owned by the pod before it"
            ));
            return Step::Stop;
        }
        match claims::missing(self.o, pod) {
            Missing::Deleting(claim) => {
                let set = self.set.metadata.name.as_deref().unwrap_or_default();
                let why = format!("pvc {claim} is being deleted");
                let message = format!("Create Pod {name} in StatefulSet {set} failed error: {why}");
                self.actions.push(Action::Event(Event {
                    about: reference(self.set),
                    event_type: EventType::Warning,
                    reason: "FailedCreate".to_owned(),
                    message,
                }));
                self.wait(why);
                return Step::Stop;
            }
            Missing::Create(actions) => self.actions.extend(actions),
        }
        let report = self.report("Create", "SuccessfulCreate", "FailedCreate", &name);
        self.actions.push(Action::create(pod, Some(report)));
        self.wait(format!("making pod {name}"));
        if self.ordered { Step::Stop } else { Step::GoOn }
    }

    fn report(
        &self,
        verb: &str,
        success: &'static str,
        failure: &'static str,
        pod: &str,
    ) -> Report {
        let set = self.set.metadata.name.as_deref().unwrap_or_default();
        let what = format!("{verb} Pod {pod} in StatefulSet {set}");
        Report {
            about: reference(self.set),
            success: Some((success, format!("{what} successful"))),
            failure: Some((failure, format!("{what} failed error: "))),
        }
    }

    fn delete(&mut self, pod: &Pod) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let report = self.report("Delete", "SuccessfulDelete", "FailedDelete", name);
        self.actions.push(Action::delete(pod, Some(report)));
    }

    /// Gives a pod its labels and its claims their owners.
    fn correct(&mut self, pod: &Pod) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let ordinal = ordinal(pod).unwrap_or(0);
        self.actions.extend(claims::own(self.o, pod));
        if !identity_matches(pod) {
            let labels = identity::identity(&name, ordinal);
            let labels: Map<_, _> = labels
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect();
            let patch = json!({"metadata": {"uid": pod.metadata.uid, "labels": labels}});
            let report = self.report("Update", "SuccessfulUpdate", "FailedUpdate", &name);
            self.actions.push(Action::merge(pod, patch, Some(report)));
        }
    }

    /// Sees to one pod that shall not be there.
    fn remove(&mut self, pod: &Pod, sick: Option<&str>) -> Step {
        let name = pod.metadata.name.clone().unwrap_or_default();
        if pods::is_deleting(pod) {
            self.wait(format!("waiting for pod {name} to end"));
            return Step::Stop;
        }
        let ready = pods::phase(pod) == "Running" && pods::is_ready(pod);
        let healthy = ready && self.is_available(pod);
        if self.ordered && !healthy && sick != Some(name.as_str()) {
            let sick = sick.unwrap_or_default();
            self.wait(format!(
                "waiting for pod {sick} to be available before scaling down"
            ));
            return Step::Stop;
        }
        self.delete(pod);
        self.wait(format!("removing pod {name}"));
        Step::Stop
    }

    /// Deletes pods of other revisions, from the highest ordinal down, as far as availability allows.
    fn roll(&mut self, replicas: &[Replica]) {
        let rolling = self.set.spec.update_strategy.as_ref();
        let rolling = rolling.and_then(|s| s.rolling_update.as_ref());
        let partition = rolling.and_then(|r| r.partition).unwrap_or(0);
        let wanted = self.set.spec.replicas.unwrap_or(1);
        let limit = rolling.and_then(|r| r.max_unavailable.as_ref());
        let limit = limit.map_or(Ok(1), |m| scaled(m, wanted, Round::Down));
        let Ok(limit) = limit.map(|l| usize::try_from(l.max(1)).unwrap_or(1)) else {
            return;
        };
        let there = |replica: &Replica| match replica {
            Replica::There(pod) => Some(Arc::clone(pod)),
            Replica::Missing(_) => None,
        };
        let missing = replicas.iter().filter(|r| there(r).is_none()).count();
        let pods: Vec<Arc<Pod>> = replicas.iter().filter_map(there).collect();
        let unavailable = pods.iter().filter(|p| self.is_unavailable(p)).count() + missing;
        let from = usize::try_from(partition).unwrap_or(0);
        let targets = replicas.iter().skip(from).filter_map(there).rev();
        let outdated: Vec<Arc<Pod>> = targets
            .filter(|p| revision(p) != self.update && !pods::is_deleting(p))
            .collect();
        if outdated.is_empty() {
            return;
        }
        let mut budget = limit.saturating_sub(unavailable);
        let parallel = !self.ordered;
        // Where all may change at once, those that do not serve anyway go without counting.
        let (sick, well): (Vec<_>, Vec<_>) = outdated
            .into_iter()
            .partition(|p| parallel && !self.is_available(p));
        for pod in sick {
            self.renew(&pod);
        }
        for pod in well {
            if budget == 0 {
                break;
            }
            budget -= 1;
            self.renew(&pod);
        }
        self.wait(format!("updating to revision {}", self.update));
    }

    fn renew(&mut self, pod: &Pod) {
        self.delete(pod);
        self.outdated_deleted += 1;
    }

    fn wait(&mut self, because: String) {
        if self.because.is_empty() {
            self.because = because;
        }
    }

    fn finish(
        mut self,
        mut counts: Counts,
        revisions: Revisions<'_>,
        history: &History,
        pods: &[Arc<Pod>],
    ) -> Plan {
        let (ready, available) = (counts.ready, counts.available);
        counts.current = (counts.current - self.outdated_deleted).max(0);
        let status = status::status(self.set, counts, revisions).map(|status| {
            let mut set = self.set.clone();
            set.status = Some(status);
            StatusWrite::of(&set)
        });
        let live = |r: &k8s_openapi::api::apps::v1::ControllerRevision| {
            let name = r.metadata.name.as_deref().unwrap_or_default();
            name == revisions.current || pods.iter().any(|p| revision(p) == name)
        };
        let limit = self.set.history_limit();
        self.actions
            .extend(history::truncate(history, limit, live, false));
        let waits = self.min_ready > 0 && ready != available;
        let later = || pods::next_availability(pods, self.min_ready, self.o.now);
        if self.because.is_empty() {
            self.because = format!("{available} replicas are available");
        }
        Plan {
            actions: self.actions,
            status,
            requeue_after: waits.then(later).flatten(),
            because: self.because,
            ..Plan::default()
        }
    }
}
