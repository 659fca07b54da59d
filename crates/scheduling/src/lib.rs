//! Which node a pod goes to: pure decisions over a frozen picture of the cluster.
//!
//! [`Snapshot`] is the picture: nodes with what is asked of them already. [`schedule`] runs the plug-ins of
//! [`plugins::FILTERS`] and [`plugins::SCORES`] over it and gives a node, or says of every node why not; [`preempt`] says
//! who would have to make room. [`Queue`] says which pod is next, and when one that did not fit is worth another try.
//! Behaviour follows kube-scheduler's default profile; dynamic resource allocation is not here yet.
//!
//! Pure: no I/O, no clock, no randomness (the caller gives time and the tie-breaker).

mod budgets;
mod groups;
mod node;
pub mod plugins;
mod pod;
mod preemption;
mod queue;
mod resources;
mod schedule;
mod snapshot;
mod storage;
#[cfg(test)]
mod tests;

pub use groups::{Group, Owner};
pub use node::NodeInfo;
pub use pod::{PREEMPTION, PodInfo, PodKey, UNNAMED_SCHEDULER};
pub use preemption::{Preemption, preempt};
pub use queue::{BACKOFF_MAX, BACKOFF_START, Incoming, Pending, Queue, Tries, Wake};
pub use resources::Resources;
pub use schedule::{Refusal, Unschedulable, schedule, volume_plan};
pub use snapshot::Snapshot;
pub use storage::{ClaimKey, Storage, VolumePlan, key_of};
