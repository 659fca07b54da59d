//! From one template to the next, node by node: by a gap (`maxUnavailable`) or by a second pod (`maxSurge`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use machinery::int_or_string::{Round, scaled};

use super::pod::is_updated;
use super::reconcile::{Daemons, Orders};
use crate::pods;

/// The pods on one node that are not on their way out.
#[derive(Default)]
struct Pair {
    new: Option<Arc<Pod>>,
    old: Option<Arc<Pod>>,
    /// There is more than one of a sort; that is sorted out first.
    crowded: bool,
}

fn pair(daemons: &Daemons<'_>, pods: &[Arc<Pod>]) -> Pair {
    let mut pair = Pair::default();
    for pod in pods.iter().filter(|p| !pods::is_deleting(p)) {
        let updated = is_updated(&daemons.o.root, pod, daemons.hash);
        let slot = if updated {
            &mut pair.new
        } else {
            &mut pair.old
        };
        pair.crowded |= slot.replace(Arc::clone(pod)).is_some();
    }
    pair
}

/// Decides what to make and remove for the update.
pub(super) fn roll(daemons: &Daemons<'_>) -> Orders {
    let o = daemons.o;
    let wanted: Vec<&str> = o
        .nodes
        .iter()
        .filter(|node| daemons.verdict(node).runs)
        .filter_map(|node| node.metadata.name.as_deref())
        .collect();
    let count = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
    let strategy = o.root.spec.update_strategy.as_ref();
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
    let unavailable = unavailable.map_or(0, |u| scaled(u, count, Round::Up).unwrap_or(0));
    let surge = daemons.surge(count);
    let size = |n: i32| usize::try_from(n).unwrap_or(0);
    if surge > 0 {
        return by_surge(daemons, size(surge), wanted.len());
    }
    // Neither: then a gap it is.
    let unavailable = if unavailable == 0 { 1 } else { unavailable };
    by_gap(daemons, size(unavailable), &wanted)
}

fn by_gap(daemons: &Daemons<'_>, limit: usize, wanted: &[&str]) -> Orders {
    let bare = wanted.iter().filter(|n| daemons.on_node(n).is_empty());
    let mut missing = bare.count();
    let (mut idle, mut candidates) = (Vec::new(), Vec::new());
    for (_, pods) in daemons.nodes_with_pods() {
        let Pair { new, old, crowded } = pair(daemons, pods);
        match (new, old) {
            _ if crowded => missing += 1,
            (None, None) | (Some(_), Some(_)) => missing += 1,
            (Some(new), None) => missing += usize::from(!daemons.is_available(&new)),
            // It serves nobody, so nobody misses it.
            (None, Some(old)) if !daemons.is_available(&old) => {
                missing += 1;
                idle.push(old);
            }
            (None, Some(old)) => candidates.push(old),
        }
    }
    let budget = limit.saturating_sub(missing);
    idle.extend(candidates.into_iter().take(budget));
    Orders {
        pods: idle,
        ..Orders::default()
    }
}

fn by_surge(daemons: &Daemons<'_>, limit: usize, wanted: usize) -> Orders {
    let mut orders = Orders::default();
    let (mut candidates, mut leaving) = (Vec::new(), Vec::new());
    let (mut surging, mut available) = (0, 0);
    let node = |name: &str| -> Option<&Arc<Node>> {
        let mut nodes = daemons.o.nodes.iter();
        nodes.find(|n| n.metadata.name.as_deref() == Some(name))
    };
    for (name, pods) in daemons.nodes_with_pods() {
        let Pair { new, old, crowded } = pair(daemons, pods);
        if crowded {
            surging += 1;
            continue;
        }
        let serving = old.as_ref().or(new.as_ref());
        available += usize::from(serving.is_some_and(|p| daemons.is_available(p)));
        let Some(old) = old else { continue };
        if let Some(new) = new {
            if daemons.is_available(&new) {
                orders.pods.push(old);
            } else {
                surging += 1;
            }
            continue;
        }
        let runs = node(name).is_some_and(|n| daemons.verdict(n).runs);
        match (runs, daemons.is_available(&old)) {
            (false, false) => orders.pods.push(old),
            (false, true) => leaving.push(old),
            (true, false) => orders.nodes.push(name.clone()),
            (true, true) => candidates.push(name.clone()),
        }
    }
    let spare = available.saturating_sub(wanted);
    orders.pods.extend(leaving.into_iter().take(spare));
    let budget = limit.saturating_sub(surging);
    orders.nodes.extend(candidates.into_iter().take(budget));
    orders
}
