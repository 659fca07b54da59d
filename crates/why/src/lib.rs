//! Why an object is not as its user wants it: a pod is pending, a service has no end points, a rollout stands still, a
//! deletion hangs.
//!
//! The answer is drawn from the objects around the subject, from its events, and from the same decisions that the
//! scheduler and the controllers take: what they wait for is asked of them, not guessed. No I/O: [`needs`] says which
//! collections have to be read, the caller fills a [`Picture`] with them, [`answer`] reads it. What could not be read
//! is told and not taken for absent.
//!
//! Start with [`answer`].

mod answer;
mod brains;
mod claim;
mod conditions;
mod containers;
mod deletion;
mod events;
mod needs;
mod node;
mod picture;
mod pod;
mod schedule;
mod service;
#[cfg(test)]
mod tests;
mod workload;

pub use answer::{Answer, Cause};
pub use needs::{Need, needs};
pub use picture::{Item, Picture};

/// Explains the subject of the picture.
pub fn answer(picture: &Picture) -> Answer {
    let subject = &picture.subject;
    let mut answer = match deletion::answer(picture) {
        Some(hanging) => hanging,
        None => match subject.resource.kind.as_ref() {
            "Pod" => pod::answer(picture),
            "Service" => service::answer(picture),
            "Node" => node::answer(picture),
            "PersistentVolumeClaim" => claim::answer(picture),
            "Deployment" => workload::deployment(picture),
            "CronJob" => workload::cron_job(picture),
            kind if workload::KINDS.contains(&kind) => workload::answer(picture),
            _ => conditions::answer(picture),
        },
    };
    answer.subject = format!("{} {}", subject.resource.kind, subject.key());
    answer.unread.clone_from(&picture.unread);
    answer
}
