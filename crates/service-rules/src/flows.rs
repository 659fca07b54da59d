//! UDP flows that lead to end points that are gone.
//!
//! A UDP flow has no end of its own: as long as packets come, connection tracking sends them where it sent the first. So
//! when a service loses end points, or gets its first ones, the flows that do not lead to a serving one are forgotten.
//! Behaviour: `pkg/proxy/conntrack/cleanup.go`; TCP connections are left to end by themselves there too.

use std::collections::{BTreeMap, BTreeSet};

use nft::conntrack::Flow;

use crate::fragment::{Endpoint, Fragment, Frontend, Protocol};

/// UDP front ends that have changed, with the end points that serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Udp(BTreeMap<Frontend, BTreeSet<Endpoint>>);

impl Udp {
    /// Notes what a service's change means for UDP; nothing when all that served still does and there was something.
    pub fn note(&mut self, old: Option<&Fragment>, new: &Fragment) {
        let serving = |fragment: &Fragment| -> BTreeMap<Frontend, BTreeSet<Endpoint>> {
            let all = fragment.frontends.iter();
            let udp = all.filter(|(frontend, _)| frontend.protocol == Protocol::Udp);
            udp.map(|(frontend, b)| (*frontend, b.serving.iter().copied().collect()))
                .collect()
        };
        let old = old.map(serving).unwrap_or_default();
        for (frontend, now) in serving(new) {
            let before = old.get(&frontend);
            let kept = before.is_some_and(|before| !before.is_empty() && before.is_subset(&now));
            // A node port is known by its number alone: without end points to compare with, the flows of others that
            // happen to use the same number could not be told apart.
            let unknown = frontend.is_node_port() && now.is_empty();
            if !kept && !unknown {
                self.0.insert(frontend, now);
            }
        }
    }

    /// There is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The flows to forget.
pub fn stale(flows: Vec<Flow>, changed: &Udp) -> Vec<Flow> {
    let is_stale = |flow: &Flow| {
        let at = |address| Frontend {
            address,
            protocol: Protocol::Udp,
            port: flow.port,
        };
        let ends_at = Endpoint {
            address: flow.answered_by,
            port: flow.answered_port,
        };
        let serving = changed.0.get(&at(flow.destination));
        let serving = serving.or_else(|| changed.0.get(&at(std::net::Ipv4Addr::UNSPECIFIED)));
        serving.is_some_and(|serving| !serving.contains(&ends_at))
    };
    flows.into_iter().filter(is_stale).collect()
}
