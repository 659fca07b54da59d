//! How long kubelets may keep ConfigMaps and Secrets: an annotation of every node, the longer the larger the cluster.
//!
//! Invariant: around a boundary nothing flaps, the steps overlap. Upstream: `pkg/controller/ttl`.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::{Action, Caches, Change, Key, Look, Plan, Reconciler, Wake};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// From so many nodes, up to so many, so many seconds.
const STEPS: [(usize, usize, u32); 5] = [
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, usize::MAX, 300),
];

/// The controller of the annotation.
pub struct TtlController;

/// All that a decision may depend on.
pub struct Observed {
    /// The node.
    pub node: Arc<Node>,
    /// How many nodes there are.
    pub count: usize,
}

impl Reconciler for TtlController {
    type Observed = Observed;

    const NAME: &'static str = "ttl-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on::<Node>(keys_of_node);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let nodes = look.caches.of::<Node>();
        Some(Observed {
            node: nodes.get(look.key)?,
            count: nodes.len(),
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        let present = present(&o.node);
        let seconds = seconds(present, o.count);
        if present == Some(seconds) {
            return Plan::idle("the annotation is right");
        }
        let annotations = json!({ ANNOTATION: seconds.to_string() });
        let patch =
            json!({ "metadata": { "uid": o.node.metadata.uid, "annotations": annotations } });
        Plan {
            actions: vec![Action::merge(o.node.as_ref(), patch, None)],
            because: format!("there are {} nodes", o.count),
            ..Plan::default()
        }
    }
}

fn present(node: &Node) -> Option<u32> {
    let annotations = node.metadata.annotations.as_ref()?;
    annotations.get(ANNOTATION)?.parse().ok()
}

/// The step for so many nodes that is nearest to the present one.
fn seconds(present: Option<u32>, count: usize) -> u32 {
    let known = STEPS.iter().position(|(.., s)| Some(*s) == present);
    let mut step = known.unwrap_or(0);
    while count > STEPS[step].1 {
        step += 1;
    }
    while count < STEPS[step].0 {
        step -= 1;
    }
    STEPS[step].2
}

/// A node concerns itself only, unless its coming or going crosses a boundary.
fn keys_of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let nodes = caches.of::<Node>();
    let count = nodes.len();
    let crosses =
        |(from, to, _): &(usize, usize, u32)| count + 1 == *from || count == to.wrapping_add(1);
    let counts = change.old.is_none() || change.new.is_none();
    if counts && count > 0 && STEPS.iter().any(crosses) {
        return nodes.all().iter().map(|n| Key::of(n.as_ref())).collect();
    }
    let right = change
        .new
        .as_ref()
        .is_none_or(|n| present(n).is_some() && change.old.is_some());
    let own = (!right).then(|| Key::of(change.latest()));
    own.into_iter().collect()
}
