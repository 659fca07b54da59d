//! One pod and its node, or all pods that have ended.

use std::sync::Arc;

use control::{Answer, Caches, Change, Key, Look, Question, Resource, Target, Wake};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::TERMINATED_PODS;
use crate::pods;

/// Index of pods that have ended.
const ENDED: &str = "ended";

/// All that a decision may depend on.
pub enum Observed {
    /// One pod.
    Pod {
        /// The pod.
        pod: Arc<Pod>,
        /// Its node, if it is there.
        node: Option<Arc<Node>>,
        /// The live answer whether its node is there.
        node_lives: Option<bool>,
        /// Since when the node has been missing.
        since: Option<Timestamp>,
        /// The moment of the decision.
        now: Timestamp,
    },
    /// All pods that have ended, and how many are kept.
    Ended(Vec<Arc<Pod>>, usize),
}

/// The item that stands for all pods that have ended: no pod is without a name.
fn ended() -> Key {
    Key::default()
}

pub(super) fn wake(on: &mut Wake<'_>) {
    on.index::<Pod>(pods::BY_NODE, |pod| vec![pods::node_name(pod).to_owned()])
        .index::<Pod>(ENDED, |pod| {
            let ended = pods::is_terminal(pod).then(|| ENDED.to_owned());
            ended.into_iter().collect()
        })
        .on::<Pod>(keys_of_pod)
        .on::<Node>(keys_of_node);
}

fn keys_of_pod(change: &Change<Pod>, caches: &Caches) -> Vec<Key> {
    let Some(pod) = &change.new else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    let node = pods::node_name(pod);
    let known = caches.of::<Node>().named("", node).is_some();
    // A pod on its way out of a living node is the kubelet's business, unless that node is out of service.
    if pods::is_deleting(pod) || (!node.is_empty() && !known) {
        keys.push(Key::of(pod.as_ref()));
    }
    let was_ended = change.old.as_ref().is_some_and(|p| pods::is_terminal(p));
    if pods::is_terminal(pod) && !was_ended {
        let count = caches.of::<Pod>().indexed(ENDED, ENDED).len();
        if count > TERMINATED_PODS {
            keys.push(ended());
        }
    }
    keys
}

/// A node that goes or is taken out of service concerns its pods; so does one that comes back.
fn keys_of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let out = |node: &Node| super::reconcile::is_out_of_service(node);
    let changed = match (&change.old, &change.new) {
        (Some(old), Some(new)) => out(old) != out(new),
        _ => true,
    };
    if !changed {
        return Vec::new();
    }
    let name = change.latest().metadata.name.as_deref().unwrap_or_default();
    let pods = caches.of::<Pod>().indexed(pods::BY_NODE, name);
    pods.iter().map(|p| Key::of(p.as_ref())).collect()
}

pub(super) fn observe(look: &Look<'_>, kept: usize) -> Option<Observed> {
    let store = look.caches.of::<Pod>();
    if *look.key == ended() {
        return Some(Observed::Ended(store.indexed(ENDED, ENDED), kept));
    }
    let pod = store.get(look.key)?;
    let target = node_of(&pod);
    let answer = look.answers.get(&Question::Get(target.clone()));
    Some(Observed::Pod {
        node: look.caches.of::<Node>().get(&target.key),
        node_lives: answer.map(|answer| matches!(answer, Answer::Present(_))),
        since: look.since,
        now: look.now,
        pod,
    })
}

/// The node a pod is bound to, as something to ask for.
pub(super) fn node_of(pod: &Pod) -> Target {
    Target {
        resource: Resource::of::<Node>(),
        key: Key::cluster(pods::node_name(pod)),
    }
}
