//! A DaemonSet, its pods and revisions, and all nodes.

use std::sync::Arc;

use control::{Caches, Change, Key, Look, Names, Wake};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use machinery::labels::Selector;

use crate::history::{self, Seen, Versioned};
use crate::ownership::{Claimant, index_pods, keys_of_dependent, owned_and_orphans, owner_lives};

/// All that a decision may depend on.
pub struct Observed {
    /// The set.
    pub root: Arc<DaemonSet>,
    /// The pods it controls and the orphans of its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// All nodes, by name.
    pub nodes: Vec<Arc<Node>>,
    /// Its revisions.
    pub history: Seen,
    /// The live answer whether the set may still adopt.
    pub owner_lives: Option<bool>,
    /// The moment of the decision.
    pub now: Timestamp,
    /// Unused name suffixes.
    pub names: Names,
}

impl Claimant for DaemonSet {
    fn selector(&self) -> Selector {
        match Selector::from_label_selector(&self.spec.selector) {
            Ok(selector) if !selector.is_everything() => selector,
            _ => Selector::nothing(),
        }
    }
}

impl Versioned for DaemonSet {
    const HASH_LABEL: &'static str = history::REVISION_HASH;

    fn template(&self) -> &PodTemplateSpec {
        &self.spec.template
    }

    fn collisions(&self) -> Option<i32> {
        self.status.as_ref().and_then(|s| s.collision_count)
    }

    fn collide(&mut self) {
        let status = self.status.get_or_insert_default();
        let count = status.collision_count.get_or_insert(0);
        *count = count.saturating_add(1);
    }

    fn history_limit(&self) -> i32 {
        self.spec.revision_history_limit.unwrap_or(10)
    }
}

pub(super) fn wake(on: &mut Wake<'_>) {
    index_pods(on);
    history::wake::<DaemonSet>(on);
    on.on_root::<DaemonSet>()
        .on::<Pod>(keys_of_dependent::<DaemonSet, Pod>)
        .on::<Node>(keys_of_node);
}

/// A node concerns all sets when it comes, goes, or changes in what decides about pods.
fn keys_of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let taints = |n: &Node| n.spec.as_ref().and_then(|s| s.taints.clone());
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && old.metadata.labels == new.metadata.labels
        && taints(old) == taints(new)
    {
        return Vec::new();
    }
    let sets = caches.of::<DaemonSet>().all();
    sets.iter().map(|set| Key::of(set.as_ref())).collect()
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let root = look.caches.of::<DaemonSet>().get(look.key)?;
    Some(Observed {
        pods: owned_and_orphans(look.caches, root.as_ref()),
        nodes: look.caches.of::<Node>().all(),
        history: history::observe(look.caches, look.answers, root.as_ref()),
        owner_lives: owner_lives(root.as_ref(), look.answers),
        now: look.now,
        names: look.names,
        root,
    })
}
