//! A StatefulSet, its pods, its revisions and the claims of its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use control::{Caches, Change, Key, Look, Wake};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use machinery::labels::Selector;

use super::identity::{claim_name, claim_templates, ordinal, parent_and_ordinal};
use crate::history::{self, Seen, Versioned};
use crate::ownership::{Claimant, index_pods, keys_of_dependent, owned_and_orphans, owner_lives};

/// All that a decision may depend on.
pub struct Observed {
    /// The set.
    pub root: Arc<StatefulSet>,
    /// The pods it controls and the orphans of its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// Its revisions.
    pub history: Seen,
    /// The claims of its pods, those to be made included, by name.
    pub claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// The live answer whether the set may still adopt.
    pub owner_lives: Option<bool>,
    /// The moment of the decision.
    pub now: Timestamp,
}

impl Claimant for StatefulSet {
    fn selector(&self) -> Selector {
        Selector::from_label_selector(&self.spec.selector).unwrap_or_else(|_| Selector::nothing())
    }
}

impl Versioned for StatefulSet {
    const HASH_LABEL: &'static str = "controller.kubernetes.io/hash";

    fn template(&self) -> &PodTemplateSpec {
        &self.spec.template
    }

    fn collisions(&self) -> Option<i32> {
        let status = self.status.as_ref();
        Some(status.and_then(|s| s.collision_count).unwrap_or(0))
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

/// The ordinals that a set shall have.
pub(super) fn ordinals(set: &StatefulSet) -> std::ops::Range<i32> {
    let start = set
        .spec
        .ordinals
        .as_ref()
        .and_then(|o| o.start)
        .unwrap_or(0)
        .max(0);
    start..start.saturating_add(set.spec.replicas.unwrap_or(1).max(0))
}

pub(super) fn wake(on: &mut Wake<'_>) {
    index_pods(on);
    history::wake::<StatefulSet>(on);
    on.on_root::<StatefulSet>()
        .on::<Pod>(keys_of_dependent::<StatefulSet, Pod>)
        .on::<PersistentVolumeClaim>(keys_of_claim);
}

/// A claim that goes lets the pod be made that waits for that; one that changes may have another owner than it should.
fn keys_of_claim(change: &Change<PersistentVolumeClaim>, caches: &Caches) -> Vec<Key> {
    let meta = &change.latest().metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let Some((prefix, _)) = meta.name.as_deref().and_then(parent_and_ordinal) else {
        return Vec::new();
    };
    let fits = |set: &StatefulSet| {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let mut volumes = claim_templates(set).iter();
        let of = |volume: &PersistentVolumeClaim| {
            let volume = volume.metadata.name.as_deref().unwrap_or_default();
            prefix
                .strip_prefix(volume)
                .and_then(|rest| rest.strip_prefix('-'))
                == Some(name)
        };
        volumes.any(of)
    };
    let sets = caches.of::<StatefulSet>().in_namespace(namespace);
    let sets = sets.iter().filter(|set| fits(set));
    sets.map(|set| Key::of(set.as_ref())).collect()
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let root = look.caches.of::<StatefulSet>().get(look.key)?;
    let pods = owned_and_orphans(look.caches, root.as_ref());
    let mut wanted: BTreeSet<i32> = pods.iter().filter_map(|p| ordinal(p)).collect();
    let mut claims = BTreeMap::new();
    if !claim_templates(&root).is_empty() {
        wanted.extend(ordinals(&root));
    }
    let store = look.caches.of::<PersistentVolumeClaim>();
    for template in claim_templates(&root) {
        for ordinal in &wanted {
            let name = claim_name(&root, template, *ordinal);
            if let Some(claim) = store.named(&look.key.namespace, &name) {
                claims.insert(name, claim);
            }
        }
    }
    Some(Observed {
        pods,
        history: history::observe(look.caches, look.answers, root.as_ref()),
        claims,
        owner_lives: owner_lives(root.as_ref(), look.answers),
        now: look.now,
        root,
    })
}
