//! The ReplicaSets as they shall become: a working copy that is turned into actions at the end.

use std::sync::Arc;

use control::plan::reference;
use control::{Action, Report};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::HASH_LABEL;
use super::revision::{annotate, annotate_sizes, replica_set_name, template_hash};
use super::sizes::{Sizes, size};
use crate::ownership::controller_reference;

/// One ReplicaSet.
pub(super) struct Draft {
    /// As it is; none when it is to be made.
    pub(super) before: Option<Arc<ReplicaSet>>,
    /// As it shall become.
    pub(super) set: ReplicaSet,
    /// It shall go.
    pub(super) removed: bool,
    /// The order in which it was touched.
    touched: Option<usize>,
}

/// All ReplicaSets of a Deployment.
pub(super) struct Drafts {
    pub(super) all: Vec<Draft>,
    /// Which of them has the present template.
    pub(super) new: Option<usize>,
    clock: usize,
}

impl Drafts {
    pub(super) fn of(sets: Vec<Arc<ReplicaSet>>, new: Option<usize>) -> Self {
        let draft = |before: Arc<ReplicaSet>| Draft {
            set: before.as_ref().clone(),
            before: Some(before),
            removed: false,
            touched: None,
        };
        Self {
            all: sets.into_iter().map(draft).collect(),
            new,
            clock: 0,
        }
    }

    /// The ReplicaSet of the present template.
    pub(super) fn new_set(&self) -> Option<&ReplicaSet> {
        self.new.map(|at| &self.all[at].set)
    }

    /// Numbers of the others.
    pub(super) fn old(&self) -> Vec<usize> {
        let all = 0..self.all.len();
        all.filter(|at| Some(*at) != self.new).collect()
    }

    /// Numbers of the others that have a size.
    pub(super) fn active_old(&self) -> Vec<usize> {
        let mut old = self.old();
        old.retain(|at| size(&self.all[*at].set) > 0);
        old
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.all.iter().map(|d| &d.set)
    }

    /// The size of all together.
    pub(super) fn total(&self) -> i32 {
        self.sum(size)
    }

    /// A number of all together; what does not fit counts as the largest there is.
    pub(super) fn sum(&self, number: impl Fn(&ReplicaSet) -> i32) -> i32 {
        self.sets().map(number).fold(0, i32::saturating_add)
    }

    /// Marks one as touched, so that it is written in this order.
    pub(super) fn touch(&mut self, at: usize) -> &mut ReplicaSet {
        self.clock += 1;
        let draft = &mut self.all[at];
        draft.touched.get_or_insert(self.clock);
        &mut draft.set
    }

    /// Gives one a size and notes the Deployment's. Says whether the size changed.
    pub(super) fn scale(&mut self, at: usize, new: i32, sizes: &Sizes, force: bool) -> bool {
        let differs = size(&self.all[at].set) != new;
        if differs || force {
            let set = self.touch(at);
            set.spec.replicas = Some(new);
            annotate_sizes(set, sizes);
        }
        differs
    }

    /// Lets one go.
    pub(super) fn remove(&mut self, at: usize) {
        self.touch(at);
        self.all[at].removed = true;
    }

    /// Makes the ReplicaSet of the present template.
    pub(super) fn create(&mut self, root: &Deployment, sizes: &Sizes, revision: i64) {
        let total = self.total();
        let mut set = fresh(root, sizes.of_new_set(total, 0));
        annotate(root, &mut set, revision);
        annotate_sizes(&mut set, sizes);
        self.new = Some(self.all.len());
        self.all.push(Draft {
            before: None,
            set,
            removed: false,
            touched: None,
        });
        self.touch(self.all.len() - 1);
    }

    /// What makes the drafts come true, in the order of the decisions.
    pub(super) fn actions(&self, root: &Deployment) -> Vec<Action> {
        let mut touched: Vec<&Draft> = self.all.iter().filter(|d| d.touched.is_some()).collect();
        touched.sort_by_key(|d| d.touched);
        let actions = touched.into_iter().filter_map(|d| d.action(root));
        actions.collect()
    }
}

impl Draft {
    fn action(&self, root: &Deployment) -> Option<Action> {
        let name = self.set.metadata.name.as_deref().unwrap_or_default();
        let Some(before) = &self.before else {
            let count = size(&self.set);
            let scaled = (count > 0).then(|| {
                let message = format!("Scaled up replica set {name} from 0 to {count}");
                ("ScalingReplicaSet", message)
            });
            let prefix = format!("Failed to create new replica set \"{name}\": ");
            let report = Report {
                about: reference(root),
                success: scaled,
                failure: Some(("ReplicaSetCreateError", prefix)),
            };
            return Some(Action::create(&self.set, Some(report)));
        };
        if self.removed {
            return Some(Action::delete(before.as_ref(), None));
        }
        if self.set == **before {
            return None;
        }
        let (from, to) = (size(before), size(&self.set));
        let scaled = (from != to).then(|| {
            let direction = if from < to { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
            ("ScalingReplicaSet", message)
        });
        let report = Report {
            about: reference(root),
            success: scaled,
            failure: None,
        };
        Some(Action::update(&self.set, Some(report)))
    }
}

/// A new ReplicaSet for the present template.
fn fresh(root: &Deployment, replicas: i32) -> ReplicaSet {
    let hash = template_hash(root);
    let spec = root.spec.clone();
    let mut template = spec.template;
    let template_meta = template.metadata.get_or_insert_default();
    let labels = template_meta.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector: LabelSelector = spec.selector;
    let matching = selector.match_labels.get_or_insert_default();
    matching.insert(HASH_LABEL.to_owned(), hash);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(replica_set_name(root)),
            namespace: root.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(root)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    }
}
