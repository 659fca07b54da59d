//! What every controller can be tested with: a world in memory that obeys plans, and the laws that each of them keeps.
//!
//! Text in, plan out: [`World::from_yaml`], [`World::plan`], [`show`]. The laws are in [`laws`]. Nothing here
//! is part of a running system.

pub mod laws;
mod world;

use std::fmt::Write;

use control::Plan;

pub use world::{Refusal, World};

/// A plan as text, for golden tests: why, every action with its report, the status, the armed time.
pub fn show(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing into a string has no way to fail.
    let _ = writeln!(out, "because {}", plan.because);
    for action in &plan.actions {
        let _ = writeln!(out, "{action}");
        if let Some((reason, message)) = action.report().and_then(|r| r.success.as_ref()) {
            let _ = writeln!(out, "  then {reason}: {message}");
        }
    }
    if let Some(status) = &plan.status {
        let _ = writeln!(out, "status {}: {}", status.target, status.object["status"]);
    }
    if let Some(after) = plan.requeue_after {
        let _ = writeln!(out, "again after {after:?}");
    }
    out
}
