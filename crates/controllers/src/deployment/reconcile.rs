//! The decision about a Deployment.

use std::cmp::Reverse;

use control::{Action, Plan, Resource, StatusWrite, Verb};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};

use super::Observed;
use super::draft::Drafts;
use super::observe::recreates;
use super::revision::{REVISION, annotate, by_age, replica_set_name, revision, same_template};
use super::sizes::{Sizes, actual, available, is_saturated, proportional, size, was_scaled};
use super::status;
use crate::ownership::{controller_of, settled_claim};

/// The work on one Deployment.
struct Work<'a> {
    o: &'a Observed,
    /// Revision and conditions as they become.
    root: Deployment,
    spec: DeploymentSpec,
    sizes: Sizes,
    drafts: Drafts,
    because: String,
}

/// Decides about one Deployment.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let spec = o.root.spec.clone();
    let claimed = settled_claim(
        o.root.as_ref(),
        &o.replica_sets,
        o.owner_lives,
        None,
        "replica sets",
    );
    let mut sets = match claimed {
        Ok(claimed) => claimed,
        Err(plan) => return *plan,
    };
    sets.sort_by(|a, b| by_age(a, b));
    let new = sets.iter().position(|s| is_current(&spec, s));
    let mut work = Work {
        o,
        root: o.root.as_ref().clone(),
        sizes: Sizes::of(&spec),
        spec,
        drafts: Drafts::of(sets, new),
        because: String::new(),
    };
    work.decide()
}

fn is_current(spec: &DeploymentSpec, set: &ReplicaSet) -> bool {
    let template = set.spec.template.as_ref();
    template.is_some_and(|template| same_template(template, &spec.template))
}

impl Work<'_> {
    fn decide(&mut self) -> Plan {
        if self.root.metadata.deletion_timestamp.is_some() {
            self.sync_new_set();
            self.because = "it is being deleted".to_owned();
            return self.finish(false);
        }
        self.tell_pause();
        let paused = self.spec.paused == Some(true);
        self.sync_new_set();
        let scaled = |s: &ReplicaSet| size(s) > 0 && was_scaled(s, &self.sizes);
        if paused || self.drafts.sets().any(scaled) {
            self.because = if paused {
                "it is paused".to_owned()
            } else {
                format!("scaling to {} replicas", self.sizes.replicas)
            };
            self.scale();
            if paused {
                self.clean_up();
            }
            return self.finish(false);
        }
        if self.collides() {
            return self.bump_collisions();
        }
        if recreates(&self.root) {
            self.recreate();
        } else {
            self.roll();
        }
        self.finish(true)
    }

    /// Unknown progress while paused, so that the pause does not count against the deadline.
    fn tell_pause(&mut self) {
        let status = self.root.status.get_or_insert_default();
        let reason = status::progress_reason(status);
        if !status::has_deadline(&self.spec) || reason == Some(status::TIMED_OUT) {
            return;
        }
        let told = reason == Some("DeploymentPaused");
        let (reason, text) = match (self.spec.paused == Some(true), told) {
            (true, false) => ("DeploymentPaused", "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        let now = self.o.now;
        let condition =
            status::condition(now, status::PROGRESSING, "Unknown", reason, text.to_owned());
        status::set(status, condition);
    }

    fn next_revision(&self) -> i64 {
        let old = self.drafts.old().into_iter();
        let revisions = old.filter_map(|at| revision(&self.drafts.all[at].set));
        revisions.max().unwrap_or(0).max(0).saturating_add(1)
    }

    /// Brings annotations of the new ReplicaSet and the Deployment's revision up to date, where there is a new one.
    fn sync_new_set(&mut self) {
        let Some(at) = self.drafts.new else { return };
        let next = self.next_revision();
        let seconds = self.spec.min_ready_seconds.unwrap_or(0);
        let set = self.drafts.touch(at);
        annotate(&self.root, set, next);
        if set.spec.min_ready_seconds.unwrap_or(0) != seconds {
            set.spec.min_ready_seconds = self.spec.min_ready_seconds;
        }
        let current = revision(set).map(|r| r.to_string()).unwrap_or_default();
        let name = set.metadata.name.clone().unwrap_or_default();
        self.set_revision(current);
        let status = self.root.status.get_or_insert_default();
        if status::has_deadline(&self.spec) && status::find(status, status::PROGRESSING).is_none() {
            let text = format!("Found new replica set {name:?}");
            let reason = "FoundNewReplicaSet";
            let condition =
                status::condition(self.o.now, status::PROGRESSING, "True", reason, text);
            status::set(status, condition);
        }
    }

    fn set_revision(&mut self, revision: String) {
        let annotations = self.root.metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION.to_owned(), revision);
    }

    /// Whether another ReplicaSet has the name that a new one would get.
    fn collides(&self) -> bool {
        let Some(namesake) = self
            .o
            .namesake
            .as_ref()
            .filter(|_| self.drafts.new.is_none())
        else {
            return false;
        };
        let owner = controller_of(&namesake.metadata).map(|c| &c.uid);
        owner != self.root.metadata.uid.as_ref() || !is_current(&self.spec, namesake)
    }

    fn bump_collisions(&mut self) -> Plan {
        let status = self.root.status.get_or_insert_default();
        let count = status.collision_count.get_or_insert(0);
        *count = count.saturating_add(1);
        Plan {
            status: Some(StatusWrite::of(&self.root)),
            because: "the name of the new replica set is taken, trying another".to_owned(),
            ..Plan::default()
        }
    }

    /// Makes the new ReplicaSet. What went wrong with that last time is told meanwhile.
    fn create_new_set(&mut self) {
        let revision = self.next_revision();
        self.drafts.create(&self.root, &self.sizes, revision);
        self.set_revision(revision.to_string());
        self.because = "making a replica set for the new template".to_owned();
        if !status::has_deadline(&self.spec) {
            return;
        }
        let name = replica_set_name(&self.root);
        let is_ours = |verb, resource: &Resource| {
            verb == Verb::Create && *resource == Resource::of::<ReplicaSet>()
        };
        let failure = self.o.failure.as_ref();
        let (state, reason, text) = match failure.filter(|f| is_ours(f.verb, &f.resource)) {
            Some(failure) => {
                let message = &failure.message;
                let text = format!("Failed to create new replica set {name:?}: {message}");
                ("False", "ReplicaSetCreateError", text)
            }
            None => {
                let text = format!("Created new replica set {name:?}");
                ("True", "NewReplicaSetCreated", text)
            }
        };
        let condition = status::condition(self.o.now, status::PROGRESSING, state, reason, text);
        status::set(self.root.status.get_or_insert_default(), condition);
    }

    /// New pods as far as the surge allows, then old ones away as far as availability allows; one of the two at a time.
    fn roll(&mut self) {
        if self.drafts.new.is_none() {
            self.create_new_set();
        }
        let Some(new) = self.drafts.new else { return };
        if self.scale_up_new(new) {
            self.because = "scaling the new replica set".to_owned();
            return;
        }
        if self.scale_down_old(new) {
            self.because = "scaling old replica sets down".to_owned();
            return;
        }
        self.settle();
    }

    fn settle(&mut self) {
        let old = self.o.root.status.clone().unwrap_or_default();
        if status::is_complete(&self.o.root, &self.spec, &old) {
            self.clean_up();
        }
        if self.because.is_empty() {
            let there = self.drafts.sum(available);
            let wanted = self.sizes.replicas;
            self.because = format!("{there} pods are available, {wanted} are wanted");
        }
    }

    fn scale_up_new(&mut self, new: usize) -> bool {
        let current = size(&self.drafts.all[new].set);
        let wanted = if current > self.sizes.replicas {
            self.sizes.replicas
        } else {
            self.sizes.of_new_set(self.drafts.total(), current)
        };
        self.drafts.scale(new, wanted, &self.sizes, false)
    }

    fn scale_down_old(&mut self, new: usize) -> bool {
        let old = self.drafts.active_old();
        if old.is_empty() {
            return false;
        }
        let new_set = &self.drafts.all[new].set;
        let unavailable = size(new_set) - available(new_set);
        let most = self.drafts.total() - self.sizes.least() - unavailable;
        if most <= 0 {
            return false;
        }
        let mut scaled = 0;
        // Pods that are not available cost nothing, and would block the rollout.
        for at in &old {
            let set = &self.drafts.all[*at].set;
            let unhealthy = size(set) - available(set);
            let count = unhealthy.min(most - scaled);
            if count > 0 {
                let to = size(set) - count;
                self.drafts.scale(*at, to, &self.sizes, false);
                scaled += count;
            }
        }
        let mut spare = self.drafts.sum(available) - self.sizes.least();
        for at in &old {
            let current = size(&self.drafts.all[*at].set);
            let count = current.min(spare);
            if count > 0 {
                self.drafts.scale(*at, current - count, &self.sizes, false);
                spare -= count;
                scaled += count;
            }
        }
        scaled > 0
    }

    /// All old pods away, and only then new ones.
    fn recreate(&mut self) {
        let old = self.drafts.active_old();
        for at in &old {
            self.drafts.scale(*at, 0, &self.sizes, false);
        }
        if !old.is_empty() {
            self.because = "scaling old replica sets down".to_owned();
            return;
        }
        if self.old_pods_run() {
            self.because = "waiting for old pods to end".to_owned();
            return;
        }
        if self.drafts.new.is_none() {
            self.create_new_set();
        }
        let Some(new) = self.drafts.new else { return };
        let replicas = self.sizes.replicas;
        if self.drafts.scale(new, replicas, &self.sizes, false) {
            self.because = "scaling the new replica set".to_owned();
        }
        self.settle();
    }

    fn old_pods_run(&self) -> bool {
        let old = self.drafts.old();
        let told: i32 = old.iter().map(|at| actual(&self.drafts.all[*at].set)).sum();
        let runs = |at: &usize| {
            let uid = self.drafts.all[*at].set.metadata.uid.as_ref();
            uid.and_then(|uid| self.o.running.get(uid))
                .is_some_and(|count| *count > 0)
        };
        told > 0 || old.iter().any(runs)
    }

    /// A change of the size outside a rollout step: the one active ReplicaSet gets it all, several share it.
    fn scale(&mut self) {
        let sizes = self.sizes;
        let mut active = self.drafts.active_old();
        active.extend(
            self.drafts
                .new
                .filter(|at| size(&self.drafts.all[*at].set) > 0),
        );
        if active.len() <= 1 {
            let latest = active
                .first()
                .copied()
                .or(self.drafts.new)
                .or_else(|| self.drafts.old().last().copied());
            if let Some(at) = latest {
                // A set that happens to have the size already still has to learn what is wanted of it, or the rollout would
                // wait for its scaling for ever.
                let set = &self.drafts.all[at].set;
                let uninformed = size(set) > 0 && was_scaled(set, &sizes);
                self.drafts.scale(at, sizes.replicas, &sizes, uninformed);
            }
            return;
        }
        if self
            .drafts
            .new_set()
            .is_some_and(|s| is_saturated(s, &sizes))
        {
            for at in self.drafts.active_old() {
                self.drafts.scale(at, 0, &sizes, false);
            }
            return;
        }
        if !sizes.rolls {
            return;
        }
        self.sort_for_scaling(&mut active);
        let sets: Vec<&ReplicaSet> = active.iter().map(|at| &self.drafts.all[*at].set).collect();
        let new = proportional(&self.root, &sets, &sizes);
        for (at, replicas) in active.into_iter().zip(new) {
            self.drafts.scale(at, replicas, &sizes, true);
        }
    }

    /// Larger ones first; among equals the newer grow first and the older shrink first.
    fn sort_for_scaling(&self, active: &mut [usize]) {
        let set = |at: usize| &self.drafts.all[at].set;
        let sizes = active.iter().map(|at| size(set(*at)));
        let total = sizes.fold(0, i32::saturating_add);
        let allowed = if self.sizes.replicas > 0 {
            self.sizes.most()
        } else {
            0
        };
        let grows = allowed > total;
        active.sort_by(|a, b| {
            let sizes = Reverse(size(set(*a))).cmp(&Reverse(size(set(*b))));
            let age = by_age(set(*a), set(*b));
            sizes.then(if grows { age.reverse() } else { age })
        });
    }

    /// Old ReplicaSets without pods beyond the history limit go, the oldest revisions first.
    fn clean_up(&mut self) {
        let limit = self.spec.revision_history_limit;
        let Some(limit) = limit.filter(|l| *l != i32::MAX) else {
            return;
        };
        let mut old = self.drafts.old();
        old.retain(|at| {
            self.drafts.all[*at]
                .set
                .metadata
                .deletion_timestamp
                .is_none()
        });
        old.sort_by(|a, b| {
            let (a, b) = (&self.drafts.all[*a].set, &self.drafts.all[*b].set);
            let revisions = revision(a).unwrap_or(0).cmp(&revision(b).unwrap_or(0));
            revisions.then_with(|| by_age(a, b))
        });
        let surplus = old
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        for at in old.into_iter().take(surplus) {
            let set = &self.drafts.all[at].set;
            let observed = set.status.as_ref().and_then(|s| s.observed_generation);
            let seen = set.metadata.generation.unwrap_or(0) <= observed.unwrap_or(0);
            if actual(set) == 0 && size(set) == 0 && seen {
                self.drafts.remove(at);
                self.because = "removing old revisions".to_owned();
            }
        }
    }

    /// Puts actions and status together.
    fn finish(&mut self, progress: bool) -> Plan {
        let o = self.o;
        let mut status = status::calculate(&self.root, &self.drafts, &self.sizes, o.now);
        if progress {
            // A failure to make the new ReplicaSet is the progress there is to tell.
            status::add_progress(&self.root, &self.spec, &self.drafts, &mut status, o.now);
        }
        let before: DeploymentStatus = o.root.status.clone().unwrap_or_default();
        let annotations = |d: &Deployment| d.metadata.annotations.clone().unwrap_or_default();
        let unchanged =
            status::same(&before, &status) && annotations(&o.root) == annotations(&self.root);
        let actions: Vec<Action> = self.drafts.actions(&o.root);
        let requeue_after = (progress && unchanged)
            .then(|| status::next_progress_check(&o.root, &self.spec, &status, o.now))
            .flatten();
        let write = (!unchanged).then(|| {
            self.root.status = Some(status);
            StatusWrite::of(&self.root)
        });
        Plan {
            actions,
            status: write,
            requeue_after,
            because: std::mem::take(&mut self.because),
            ..Plan::default()
        }
    }
}
