//! nftables as data, and the one call that makes the kernel agree.
//!
//! [`model`] is a small typed picture of what we use of nftables (tables, base and plain chains, rules made of expressions,
//! sets and maps with their elements); [`Change`]s collect into a [`Batch`] that [`commit`] applies as one kernel
//! transaction: all of it or nothing. [`conntrack`] lists and forgets flows. No `nft` program is started. Only IPv4 tables
//! (`ip` family) exist so far.
//!
//! Not here: any opinion about what the rules should be (`service-rules`, `pod-network`).

mod commit;
pub mod conntrack;
mod inspect;
pub mod model;
mod transaction;

pub use commit::{Error, commit, delete_table};
pub use inspect::chains_that_drop_forwarded;
pub use model::{Batch, Chain, Change, Expr, Hook, Rule, Set, Verdict};
