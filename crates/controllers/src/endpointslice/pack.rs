//! Puts wanted end points into slices so that as few slices as possible change.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::MAX_ENDPOINTS;
use super::endpoint::Group;
use crate::pods;

/// What shall become of one slice.
pub(super) struct Packed {
    /// The slice as it is; none for a new one.
    pub(super) old: Option<Arc<EndpointSlice>>,
    /// Its ports.
    pub(super) ports: Vec<EndpointPort>,
    /// Its end points.
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether the end points differ from before.
    pub(super) changed: bool,
    /// When the earliest of the changes happened that led here.
    pub(super) triggered: Option<Timestamp>,
}

type Wanted = BTreeMap<String, (Endpoint, Arc<Pod>)>;

/// Packs the end points of one group into the slices that have its ports, and new ones where these do not suffice.
/// Slices that end up empty stay in the result.
pub(super) fn pack(group: Group, slices: Vec<Arc<EndpointSlice>>) -> Vec<Packed> {
    let keyed = group.endpoints.into_iter().map(|e| (identity(&e.0), e));
    let mut wanted: Wanted = keyed.collect();
    let mut packed: Vec<Packed> = slices
        .into_iter()
        .map(|slice| keep(slice, &group.ports, &mut wanted))
        .collect();
    let mut rest: Vec<(Endpoint, Arc<Pod>)> = wanted.into_values().collect();
    // Slices that are written anyway are filled first, the fullest before others.
    let mut order: Vec<usize> = (0..packed.len()).filter(|i| packed[*i].changed).collect();
    order.sort_by_key(|i| std::cmp::Reverse(packed[*i].endpoints.len()));
    for at in order {
        packed[at].fill(&mut rest);
    }
    while !rest.is_empty() {
        let fits = |p: &Packed| p.endpoints.len() + rest.len() <= MAX_ENDPOINTS;
        let roomy = packed.iter_mut().filter(|p| fits(p));
        if let Some(slice) = roomy.max_by_key(|p| p.endpoints.len()) {
            slice.fill(&mut rest);
            continue;
        }
        let mut fresh = Packed {
            old: None,
            ports: group.ports.clone(),
            endpoints: Vec::new(),
            changed: true,
            triggered: None,
        };
        fresh.fill(&mut rest);
        packed.push(fresh);
    }
    packed
}

/// What of a slice is still wanted, in its newest form.
fn keep(slice: Arc<EndpointSlice>, ports: &[EndpointPort], wanted: &mut Wanted) -> Packed {
    let mut packed = Packed {
        ports: ports.to_vec(),
        endpoints: Vec::new(),
        changed: false,
        triggered: None,
        old: None,
    };
    for old in slice.endpoints.iter().flatten() {
        match wanted.remove(&identity(old)) {
            None => packed.changed = true,
            Some((new, pod)) => {
                if !same(old, &new) {
                    packed.changed = true;
                    packed.trigger(&pod);
                }
                packed.endpoints.push(new);
            }
        }
    }
    packed.old = Some(slice);
    packed
}

impl Packed {
    fn fill(&mut self, rest: &mut Vec<(Endpoint, Arc<Pod>)>) {
        let room = MAX_ENDPOINTS.saturating_sub(self.endpoints.len());
        let take = room.min(rest.len());
        for (endpoint, pod) in rest.drain(..take) {
            self.trigger(&pod);
            self.endpoints.push(endpoint);
            self.changed = true;
        }
    }

    fn trigger(&mut self, pod: &Pod) {
        let ready = pods::condition(pod, "Ready");
        let turned = ready.and_then(|c| c.last_transition_time.as_ref());
        if let Some(turned) = turned.map(|t| t.0) {
            self.triggered = Some(self.triggered.map_or(turned, |t| t.min(turned)));
        }
    }
}

/// The pod and its address: the same end point whatever its condition.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref();
    let uid = target.and_then(|t| t.uid.as_deref()).unwrap_or_default();
    format!("{}/{uid}", endpoint.addresses.join(","))
}

fn same(old: &Endpoint, new: &Endpoint) -> bool {
    let mut old = old.clone();
    if let Some(target) = &mut old.target_ref {
        target.resource_version = None;
    }
    old == *new
}
