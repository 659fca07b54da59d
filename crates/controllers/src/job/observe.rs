//! A Job and its pods.

use std::sync::Arc;

use control::{Look, Names, Wake};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use machinery::labels::Selector;

use crate::ownership::{Claimant, index_pods, keys_of_dependent, owned_and_orphans, owner_lives};

/// All that a decision may depend on.
pub struct Observed {
    /// The Job.
    pub root: Arc<Job>,
    /// The pods it controls and the orphans of its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// The live answer whether the Job may still adopt.
    pub owner_lives: Option<bool>,
    /// The moment of the decision.
    pub now: Timestamp,
    /// Unused name suffixes.
    pub names: Names,
}

impl Claimant for Job {
    fn selector(&self) -> Selector {
        let selector = self.spec.as_ref().and_then(|s| s.selector.as_ref());
        Selector::from_optional(selector).unwrap_or_else(|_| Selector::nothing())
    }
}

pub(super) fn wake(on: &mut Wake<'_>) {
    index_pods(on);
    on.on_root::<Job>().on::<Pod>(keys_of_dependent::<Job, Pod>);
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let root = look.caches.of::<Job>().get(look.key)?;
    Some(Observed {
        pods: owned_and_orphans(look.caches, root.as_ref()),
        owner_lives: owner_lives(root.as_ref(), look.answers),
        now: look.now,
        names: look.names,
        root,
    })
}
