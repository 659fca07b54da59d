//! From the caches to what a decision about replicas may see.

use std::sync::Arc;

use control::{Caches, Failure, Look, Names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Replicated;
use crate::ownership::{owned_and_orphans, owner_lives};

/// All that a decision about replicas may depend on.
pub struct Observed<O> {
    /// The owner.
    pub root: Arc<O>,
    /// The pods it controls and the orphans of its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// Pods of the owner's siblings, which count when pods on crowded nodes are to go first; empty when none can go.
    pub related: Vec<Arc<Pod>>,
    /// The live answer whether the owner may still adopt.
    pub owner_lives: Option<bool>,
    /// What went wrong last time.
    pub failure: Option<Failure>,
    /// The moment of the decision.
    pub now: Timestamp,
    /// Unused name suffixes.
    pub names: Names,
}

/// Gathers it. `related` finds the pods of the siblings.
pub fn observe<O: Replicated>(
    look: &Look<'_>,
    related: impl FnOnce(&Caches, &O) -> Vec<Arc<Pod>>,
) -> Option<Observed<O>> {
    let root = look.caches.of::<O>().get(look.key)?;
    let pods = owned_and_orphans(look.caches, root.as_ref());
    // They are many and matter only when some pods have to go.
    let surplus = i64::try_from(pods.len()).unwrap_or(i64::MAX) > root.replicas().into();
    let related = if surplus {
        related(look.caches, &root)
    } else {
        Vec::new()
    };
    Some(Observed {
        pods,
        related,
        owner_lives: owner_lives(root.as_ref(), look.answers),
        failure: look.failure.cloned(),
        now: look.now,
        names: look.names,
        root,
    })
}
