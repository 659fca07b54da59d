//! Why a deletion hangs: who still holds the object, and what that waits for.

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};

use crate::answer::{Answer, Cause};
use crate::picture::Picture;
use crate::{claim, conditions, node};

/// How many objects that are in the way are named.
const NAMED: usize = 5;

/// Explains an object that is being deleted; `None` when it is not.
pub(crate) fn answer(picture: &Picture) -> Option<Answer> {
    let meta = picture.subject.metadata();
    let since = meta.deletion_timestamp.as_ref()?.0;
    let kind = picture.subject.resource.kind.as_ref();
    // The time in the object is when the grace period ends.
    let left = picture.now.duration_until(since).as_secs();
    let mut causes = Vec::new();
    for finalizer in meta.finalizers.iter().flatten() {
        causes.push(held(picture, finalizer));
    }
    match kind {
        "Pod" => causes.extend(pod(picture, left)),
        "Namespace" => causes.extend(namespace(picture)),
        _ => {}
    }
    let headline = match left {
        left if left > 0 => format!("it is being deleted and has {left}s left to end by itself"),
        left => format!("its deletion was due {}s ago and is not done", -left),
    };
    Some(Answer::new(headline, causes))
}

/// What a finalizer stands for.
fn held(picture: &Picture, finalizer: &str) -> Cause {
    let cause = Cause::new(format!("the finalizer {finalizer} holds it"));
    let key = picture.subject.key();
    match finalizer {
        "foregroundDeletion" => {
            let cause = Cause::new("its dependents go first (foreground deletion)");
            cause.from(dependents(picture))
        }
        "orphan" => Cause::new("the garbage collector is taking its name off its dependents"),
        "kubernetes.io/pvc-protection" => {
            let users = claim::users(picture, Some(&key.namespace), Some(&key.name));
            let cause = Cause::new("pods still use it: it goes with the last of them");
            cause.from(users.into_iter().map(|pod| Cause::new(format!("pod {pod}"))))
        }
        "kubernetes.io/pv-protection" => {
            let volume: PersistentVolume = picture.subject_as();
            let holder = volume.spec.and_then(|s| s.claim_ref);
            let holder = holder.map(|r| {
                format!("{}/{}", r.namespace.unwrap_or_default(), r.name.unwrap_or_default())
            });
            let cause = Cause::new("a claim is bound to it: it goes once the claim is gone");
            cause.from(holder.map(Cause::new))
        }
        "batch.kubernetes.io/job-tracking" => {
            Cause::new("the job controller has not counted it yet").advise("see that the controller manager runs")
        }
        "customresourcecleanup.apiextensions.k8s.io" => Cause::new("its custom resources are being deleted first"),
        "service.kubernetes.io/load-balancer-cleanup" => Cause::new("its load balancer is being taken down"),
        other => cause.advise(format!(
            "the controller that put {other} there has to take it away; if that no longer runs, you may: kubectl edit"
        )),
    }
}

/// What names the subject as its owner.
fn dependents(picture: &Picture) -> Vec<Cause> {
    let uid = picture.subject.uid();
    let owned = picture.items().filter(|item| {
        let owners = item.object["metadata"]["ownerReferences"].as_array();
        owners
            .into_iter()
            .flatten()
            .any(|o| o["uid"] == uid && o["blockOwnerDeletion"] == true)
    });
    owned
        .map(|item| Cause::new(format!("{} {}", item.resource.kind, item.key().name)))
        .collect()
}

fn pod(picture: &Picture, left: i64) -> Vec<Cause> {
    let pod: Pod = picture.subject_as();
    let place = controllers::pods::node_name(&pod);
    let nodes: Vec<k8s_openapi::api::core::v1::Node> = picture.of();
    let node = nodes
        .iter()
        .find(|n| n.metadata.name.as_deref() == Some(place));
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let force =
        format!("if its node never comes back: kubectl delete pod {name} --grace-period=0 --force");
    match node {
        None if place.is_empty() => Vec::new(),
        None => vec![Cause::new(format!("its node {place} is gone")).advise(force)],
        Some(found) => match node::cause(picture, found) {
            Some(cause) => vec![
                Cause::new("its node has to confirm that it has ended")
                    .from([cause])
                    .advise(force),
            ],
            None if left <= 0 => {
                let status = pod.status.unwrap_or_default();
                let running = status.container_statuses.into_iter().flatten();
                let running =
                    running.filter(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
                running
                    .map(|c| Cause::new(format!("container {} still runs", c.name)))
                    .collect()
            }
            None => Vec::new(),
        },
    }
}

/// What is still in a namespace.
fn namespace(picture: &Picture) -> Vec<Cause> {
    let name = picture.subject.key().name;
    let inside: Vec<_> = picture
        .items()
        .filter(|item| item.key().namespace == name)
        .collect();
    let mut causes = Vec::new();
    let mut kinds: Vec<String> = inside.iter().map(|i| i.resource.to_string()).collect();
    kinds.sort();
    kinds.dedup();
    for kind in kinds.into_iter().filter(|k| !k.starts_with("events")) {
        let left: Vec<_> = inside
            .iter()
            .filter(|i| i.resource.to_string() == kind)
            .collect();
        let names: Vec<String> = left.iter().take(NAMED).map(|i| i.key().name).collect();
        let mut cause = Cause::new(format!(
            "{} {kind} are left: {}",
            left.len(),
            names.join(", ")
        ));
        for item in &left {
            for finalizer in item.metadata().finalizers.iter().flatten() {
                cause = cause.detail(format!("finalizer {finalizer} holds {}", item.key().name));
            }
        }
        cause.details.truncate(NAMED);
        causes.push(cause);
    }
    let told = conditions::causes(&picture.subject.object);
    causes.extend(told.into_iter().filter(|c| !c.details.is_empty()));
    causes
}
