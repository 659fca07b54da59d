//! The words between a controller's brain and the loop that runs it: what a decision may see ([`Look`]) and what it
//! may order ([`Plan`]).
//!
//! Pure: no I/O, no clock, no randomness; time, seeds and live answers come in from the driver. A brain implements
//! [`Reconciler`]; `driver` fills the [`Caches`] from watches and carries the plans out; `testkit` does both against a
//! world in memory. Start with [`Reconciler`], then [`plan`] and [`caches`].

pub mod caches;
pub mod look;
pub mod meta;
pub mod names;
pub mod plan;
pub mod resource;
pub mod store;

pub use caches::{AnyStore, Caches, Wake};
pub use look::{Answer, Answers, Failure, Look, Question, Verb};
pub use meta::{Meta, MetaChange, MetaStore};
pub use names::Names;
pub use plan::{Action, Event, EventType, Patch, Plan, Propagation, Report, StatusWrite};
pub use resource::{Key, Kind, Resource, Target};
pub use store::{Change, Store};

/// One controller: which changes wake it, what it looks at, what it decides.
pub trait Reconciler: Send + Sync + 'static {
    /// Everything a decision may depend on, time and unused names included.
    type Observed: Send;

    /// The controller's name as upstream spells it: the component of its events.
    const NAME: &'static str;

    /// The service account in `kube-system` that it acts as, or a user whose name begins with `system:`.
    const IDENTITY: &'static str = Self::NAME;

    /// Declares the kinds that are watched and which items a change of one of them concerns.
    fn wake(on: &mut Wake<'_>);

    /// Gathers from the caches what the decision about one item needs; `None` when the item is gone. No judgement here.
    fn observe(&self, look: &Look<'_>) -> Option<Self::Observed>;

    /// Decides. The same observation always gives the same plan.
    fn reconcile(observed: &Self::Observed) -> Plan;
}

#[cfg(test)]
mod tests;
