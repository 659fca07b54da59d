//! From services and their end points to nftables: which elements of which shared sets each service needs, and the changes
//! that lead from one state to the next.
//!
//! One verdict map finds the service, one map holds all end points of all services, so a service costs a few elements and
//! never a chain or a map of its own:
//!
//! ```text
//! services   { address . protocol . port         : goto lb-N }     N = how many end points
//! endpoints  { address . protocol . port . 0..N-1 : pod address . pod port }
//! lb-N       dnat to (address . protocol . port . random below N) looked up in endpoints
//! ```
//!
//! - Node ports are kept under address 0.0.0.0 and lead to `np-N`, which also marks the packet for masquerading; external
//!   and load-balancer addresses lead to `ext-N`.
//! - `sessionAffinity: ClientIP` leads to `lb-N-10800s`: rules keep the client's end point in the map `affinity` for so
//!   long; the set `members` tells whether it still is one.
//! - `externalTrafficPolicy: Local` leads to `ext-preserve-N`: pods and the node itself go on to `lb-N` and `ext-N`, all
//!   others by the map `outside` to `lb-local-M` over `local-endpoints`, or nowhere.
//! - Services without end points stand in `no-endpoints` and are refused; `loadBalancerSourceRanges` stand in `sources`.
//!
//! Behaviour follows kube-proxy's nftables mode (KEP-3866).
//!
//! Pure: [`compile()`] makes a [`Fragment`] of one service, [`Rules`] turns fragments into [`nft::Change`]s, [`stale`] finds
//! the UDP flows that a change leaves behind. Not here: netlink (`nft`), watching (`service-proxy`).

mod chains;
mod cidr;
mod compile;
mod elements;
mod endpoints;
mod flows;
mod fragment;
mod rules;
mod skeleton;
#[cfg(test)]
mod tests;

pub use cidr::{Cidr, NotACidr};
pub use compile::{Here, compile, load_balancer_addresses};
pub use flows::{Udp, stale};
pub use fragment::{Backends, Endpoint, Fragment, Frontend, FrontendKind, Protocol, Reach};
pub use rules::Rules;
pub use skeleton::{Settings, skeleton};

/// The table that holds all rules of services.
pub const TABLE: &str = "oxikube-services";
