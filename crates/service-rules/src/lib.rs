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
//! Node ports are kept under address 0.0.0.0 and lead to `np-N`, which also marks the packet for masquerading; external
//! and load-balancer addresses lead to `ext-N`. Services without end points stand in `no-endpoints` and are refused.
//! Behaviour follows kube-proxy's nftables mode (KEP-3866); session affinity and `Local` traffic policies are not here yet.
//!
//! Pure: [`compile`] makes a [`Fragment`] of one service, [`Rules`] turns fragments into [`nft::Change`]s.
//! Not here: netlink (`nft`), watching (`service-proxy`).

mod compile;
mod fragment;
mod rules;
mod skeleton;
#[cfg(test)]
mod tests;

pub use compile::compile;
pub use fragment::Fragment;
pub use fragment::{Endpoint, Frontend, FrontendKind, Protocol};
pub use rules::Rules;
pub use skeleton::{Cidr, Settings, skeleton};

/// The table that holds all rules of services.
pub const TABLE: &str = "oxikube-services";
