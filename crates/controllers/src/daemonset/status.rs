//! What a DaemonSet tells about its nodes.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};

use super::pod::is_updated;
use super::reconcile::{Daemons, by_age};
use crate::pods;
use crate::replicas::nonzero;

/// The status as it is now.
pub(super) fn status(daemons: &Daemons<'_>) -> DaemonSetStatus {
    let o = daemons.o;
    let set = o.root.as_ref();
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let mut new = set.status.clone().unwrap_or_default();
    let (mut desired, mut current, mut wrong, mut ready, mut updated, mut available) =
        (0, 0, 0, 0, 0, 0);
    for node in &o.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut on_node = daemons.on_node(name).to_vec();
        let runs = daemons.verdict(node).runs;
        desired += i32::from(runs);
        if on_node.is_empty() {
            continue;
        }
        if !runs {
            wrong += 1;
            continue;
        }
        current += 1;
        on_node.sort_by(|a, b| by_age(a, b));
        let pod = &on_node[0];
        ready += i32::from(pods::is_ready(pod));
        available += i32::from(pods::is_available(pod, min_ready, o.now));
        updated += i32::from(is_updated(set, pod, daemons.hash));
    }
    new.desired_number_scheduled = desired;
    new.current_number_scheduled = current;
    new.number_misscheduled = wrong;
    new.number_ready = ready;
    new.updated_number_scheduled = nonzero(updated);
    new.number_available = nonzero(available);
    new.number_unavailable = nonzero(desired - available);
    new.observed_generation = set.metadata.generation;
    new
}

/// An absent number counts as zero: the API leaves zeros out.
pub(super) fn same(set: &DaemonSet, new: &DaemonSetStatus) -> bool {
    let old = set.status.clone().unwrap_or_default();
    let zero = |n: Option<i32>| n.unwrap_or(0);
    old.desired_number_scheduled == new.desired_number_scheduled
        && old.current_number_scheduled == new.current_number_scheduled
        && old.number_misscheduled == new.number_misscheduled
        && old.number_ready == new.number_ready
        && zero(old.updated_number_scheduled) == zero(new.updated_number_scheduled)
        && zero(old.number_available) == zero(new.number_available)
        && zero(old.number_unavailable) == zero(new.number_unavailable)
        && old.observed_generation >= new.observed_generation
}
