//! The decision about replicas.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use control::{Action, Resource, Verb};
use k8s_openapi::api::core::v1::Pod;
use machinery::labels::Selector;

use super::{BURST, Observed, Replicated};
use crate::ownership::{ask_owner, claim, controller_of};
use crate::{podcontrol, pods};

/// What was counted, for the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Active pods.
    pub replicas: i32,
    /// Those that carry all labels of the template.
    pub fully_labeled: i32,
    /// Those that are ready.
    pub ready: i32,
    /// Those that have been ready long enough.
    pub available: i32,
    /// Pods on their way out.
    pub terminating: i32,
}

/// Why replicas could not be made or removed last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaFailure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    /// The text of the error.
    pub message: String,
}

/// The decision, before it is put into the status of the particular kind.
pub struct Decision {
    /// Adoptions, releases, creations, deletions.
    pub actions: Vec<Action>,
    /// For the status.
    pub counts: Counts,
    /// For the condition.
    pub failure: Option<ReplicaFailure>,
    /// When a pod becomes available by time alone.
    pub requeue_after: Option<Duration>,
    /// What is done or waited for.
    pub because: String,
    /// Nothing can be decided before the owner has been looked at live.
    pub asks: bool,
}

/// Decides which pods to adopt, release, make and remove.
pub fn decide<O: Replicated>(o: &Observed<O>) -> Decision {
    let root = o.root.as_ref();
    let selector = root.selector();
    let active: Vec<Arc<Pod>> = o
        .pods
        .iter()
        .filter(|p| pods::is_active(p))
        .cloned()
        .collect();
    let claim = claim(root, &selector, &active, o.owner_lives);
    let counts = count(o, &selector, &claim.claimed);
    if claim.unconfirmed {
        return Decision {
            actions: vec![ask_owner(root)],
            counts,
            failure: None,
            requeue_after: None,
            because: "there are pods to adopt, the owner is looked at live first".to_owned(),
            asks: true,
        };
    }
    let mut actions = claim.actions;
    let wanted = root.replicas().max(0);
    let diff = i64::from(counts.replicas) - i64::from(wanted);
    let deleting = root.metadata().deletion_timestamp.is_some();
    let because = if deleting {
        "it is being deleted".to_owned()
    } else if diff < 0 {
        let missing = usize::try_from(-diff).unwrap_or(BURST).min(BURST);
        actions.extend(creations(o, missing));
        format!(
            "{} of {wanted} replicas are there, creating {missing}",
            counts.replicas
        )
    } else if diff > 0 {
        let surplus = usize::try_from(diff).unwrap_or(BURST).min(BURST);
        actions.extend(deletions(o, &claim.claimed, surplus));
        format!(
            "{} of {wanted} replicas are there, deleting {surplus}",
            counts.replicas
        )
    } else {
        format!(
            "{wanted} replicas are there, {} available",
            counts.available
        )
    };
    Decision {
        actions,
        counts,
        failure: failure(o, diff).filter(|_| !deleting),
        requeue_after: next_look(o, &claim.claimed, counts),
        because,
        asks: false,
    }
}

fn count<O: Replicated>(o: &Observed<O>, selector: &Selector, claimed: &[Arc<Pod>]) -> Counts {
    let root = o.root.as_ref();
    let labels = root
        .template()
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.clone());
    let template = Selector::from_map(&labels.unwrap_or_default());
    let number = |test: &dyn Fn(&Pod) -> bool| {
        let count = claimed.iter().filter(|p| test(p)).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    };
    let uid = root.metadata().uid.as_ref();
    let terminating = o.pods.iter().filter(|p| {
        pods::is_terminating(p)
            && controller_of(&p.metadata).map(|c| &c.uid) == uid
            && selector.matches_map(p.metadata.labels.as_ref())
    });
    Counts {
        replicas: number(&|_| true),
        fully_labeled: number(&|p| template.matches_map(p.metadata.labels.as_ref())),
        ready: number(&pods::is_ready),
        available: number(&|p| pods::is_available(p, root.min_ready_seconds(), o.now)),
        terminating: i32::try_from(terminating.count()).unwrap_or(i32::MAX),
    }
}

fn failure<O>(o: &Observed<O>, diff: i64) -> Option<ReplicaFailure> {
    let failure = o.failure.as_ref()?;
    if failure.resource != Resource::of::<Pod>() {
        return None;
    }
    match failure.verb {
        Verb::Create if diff < 0 => Some(ReplicaFailure {
            reason: "FailedCreate",
            message: failure.message.clone(),
        }),
        Verb::Delete if diff > 0 => Some(ReplicaFailure {
            reason: "FailedDelete",
            message: format!("unable to delete pods: {}", failure.message),
        }),
        _ => None,
    }
}

fn next_look<O: Replicated>(
    o: &Observed<O>,
    claimed: &[Arc<Pod>],
    counts: Counts,
) -> Option<Duration> {
    let min_ready = o.root.min_ready_seconds();
    if min_ready <= 0 || counts.ready == counts.available {
        return None;
    }
    let fallback = Duration::from_secs(min_ready.unsigned_abs().into());
    Some(pods::next_availability(claimed, min_ready, o.now).unwrap_or(fallback))
}

/// New pods, each under its final name.
fn creations<O: Replicated>(o: &Observed<O>, count: usize) -> Vec<Action> {
    let root = o.root.as_ref();
    let Some(template) = root.template() else {
        return Vec::new();
    };
    let pod = podcontrol::pod_of(root, template);
    let base = pod.metadata.generate_name.clone().unwrap_or_default();
    let taken: HashSet<&str> = o
        .pods
        .iter()
        .filter_map(|p| p.metadata.name.as_deref())
        .collect();
    let names = o.names.unused(&base, |name| taken.contains(name));
    let make = |name: String| {
        let mut pod = pod.clone();
        pod.metadata.name = Some(name);
        podcontrol::create(root, &pod)
    };
    names.take(count).map(make).collect()
}

fn deletions<O: Replicated>(o: &Observed<O>, claimed: &[Arc<Pod>], count: usize) -> Vec<Action> {
    let go = pods::first_to_go(claimed, &o.related, count, o.now);
    let remove = |pod: &Arc<Pod>| podcontrol::delete(o.root.as_ref(), pod);
    go.iter().map(remove).collect()
}
