//! Which end points of a service a node may use, by traffic policy and topology.
//!
//! Ready ones or, when there is none, those that still serve while terminating; separately for the whole cluster and for
//! this node. Behaviour: `pkg/proxy/topology.go`.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointHints, EndpointSlice};

use crate::compile::Here;
use crate::fragment::Endpoint;

/// One end point of one port, with what decides about its use.
struct Candidate<'a> {
    endpoint: Endpoint,
    ready: bool,
    serving: bool,
    terminating: bool,
    local: bool,
    hints: Option<&'a EndpointHints>,
}

/// The end points of one port; each list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// For the policy `Cluster`; empty only if there is none anywhere.
    pub(crate) cluster: Vec<Endpoint>,
    /// For the policy `Local`.
    pub(crate) local: Vec<Endpoint>,
    /// All that serve.
    pub(crate) serving: Vec<Endpoint>,
    /// How many are ready on this node.
    pub(crate) local_ready: usize,
}

/// Chooses for one port, by its name.
pub(crate) fn choose<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port_name: &str,
    here: &Here,
) -> Choice {
    let all: Vec<Candidate<'a>> = slices
        .flat_map(|slice| candidates(slice, port_name, here))
        .collect();
    let pick = |wanted: &dyn Fn(&Candidate<'a>) -> bool| -> Vec<Endpoint> {
        let picked = all.iter().filter(|c| wanted(c)).map(|c| c.endpoint);
        picked.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let or_terminating = |ready: Vec<Endpoint>, local: bool| match ready.is_empty() {
        true => pick(&|c| c.serving && c.terminating && (c.local || !local)),
        false => ready,
    };
    let topology = topology(&all, here);
    let local_ready = pick(&|c| c.ready && c.local);
    Choice {
        local_ready: local_ready.len(),
        cluster: or_terminating(pick(&|c| c.ready && topology.allows(c, here)), false),
        local: or_terminating(local_ready, true),
        serving: pick(&|c| c.serving),
    }
}

fn candidates<'a>(
    slice: &'a EndpointSlice,
    port_name: &str,
    here: &Here,
) -> impl Iterator<Item = Candidate<'a>> {
    let ports = slice.ports.iter().flatten();
    let port = ports
        .filter(|p| p.name.as_deref().unwrap_or("") == port_name)
        .find_map(|p| p.port.and_then(|port| u16::try_from(port).ok()));
    let endpoints = slice.endpoints.iter().flatten();
    endpoints.filter_map(move |endpoint| {
        let address = endpoint.addresses.first()?.parse().ok()?;
        let endpoint_of = Endpoint {
            address,
            port: port?,
        };
        Some(candidate(endpoint, endpoint_of, &here.node))
    })
}

fn candidate<'a>(from: &'a SliceEndpoint, endpoint: Endpoint, node: &str) -> Candidate<'a> {
    let conditions = from.conditions.as_ref();
    Candidate {
        endpoint,
        ready: conditions.and_then(|c| c.ready).unwrap_or(true),
        serving: conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        local: from.node_name.as_deref() == Some(node),
        hints: from.hints.as_ref(),
    }
}

/// Which hints are followed.
enum Topology {
    Anywhere,
    SameNode,
    SameZone,
}

impl Candidate<'_> {
    fn nodes(&self) -> impl Iterator<Item = &str> {
        let nodes = self.hints.iter().flat_map(|h| h.for_nodes.iter().flatten());
        nodes.map(|n| n.name.as_str())
    }

    fn zones(&self) -> impl Iterator<Item = &str> {
        let zones = self.hints.iter().flat_map(|h| h.for_zones.iter().flatten());
        zones.map(|z| z.name.as_str())
    }
}

/// Hints count only if every ready end point has one, and one of them names this place.
fn topology(all: &[Candidate<'_>], here: &Here) -> Topology {
    let ready = || all.iter().filter(|c| c.ready);
    let zone = here.zone.as_deref().unwrap_or_default();
    let node_hints = ready().all(|c| c.nodes().next().is_some());
    if node_hints && ready().any(|c| c.nodes().any(|n| n == here.node)) {
        return Topology::SameNode;
    }
    let zone_hints = ready().all(|c| c.zones().next().is_some());
    if zone_hints && ready().any(|c| c.zones().any(|z| z == zone)) {
        return Topology::SameZone;
    }
    Topology::Anywhere
}

impl Topology {
    fn allows(&self, candidate: &Candidate<'_>, here: &Here) -> bool {
        match self {
            Self::Anywhere => true,
            Self::SameNode => candidate.nodes().any(|n| n == here.node),
            Self::SameZone => {
                let zone = here.zone.as_deref().unwrap_or_default();
                candidate.zones().any(|z| z == zone)
            }
        }
    }
}
