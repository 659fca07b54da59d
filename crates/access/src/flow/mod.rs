//! Priority and fairness: which requests are served at once, which wait, which are refused.
//!
//! A request belongs to the first flow schema that fits it ([`Schema::fits`]); that names a level ([`Level`]), whose
//! seats it shares with others in the fair way of [`QueueSet`]. Seats that a level does not use are lent to others by
//! [`share`]. How many seats a request takes follows from [`estimate`]. Time is given in nanoseconds since some start.
//!
//! Behaviour: KEP-1040, `k8s.io/apiserver/pkg/util/flowcontrol`.

mod demand;
mod dropped;
pub mod estimate;
mod level;
mod queues;
mod rules;
pub mod share;
#[cfg(test)]
mod tests;
mod usage;

pub use demand::{Demand, Memory, PERIOD};
pub use dropped::Dropped;
pub use estimate::Work;
pub use level::{CATCH_ALL, EXEMPT, Level, Limits, Shape};
pub use queues::{Outcome, Place, QueueSet, Released, Start, Totals};
pub use rules::{Digest, Schema};
pub use usage::Usage;
