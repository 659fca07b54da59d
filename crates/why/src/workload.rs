//! Why a workload does not have the pods that it wants.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::answer::{Answer, Cause};
use crate::picture::Picture;
use crate::{brains, conditions, events, pod};
use controllers::ownership::controller_of;

/// The kinds that own pods themselves.
pub(crate) const KINDS: &[&str] = &[
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
    "DaemonSet",
    "Job",
];

/// Those of them that wait on purpose.
const STEPWISE: &[&str] = &["StatefulSet", "DaemonSet", "Job"];

/// Explains a workload that owns pods.
pub(crate) fn answer(picture: &Picture) -> Answer {
    let object = &picture.subject.object;
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64);
    let (wanted, ready) = match picture.subject.resource.kind.as_ref() {
        "DaemonSet" => (
            number("/status/desiredNumberScheduled"),
            number("/status/numberReady"),
        ),
        "Job" => return job(picture),
        _ => (number("/spec/replicas"), number("/status/readyReplicas")),
    };
    let (wanted, ready) = (wanted.unwrap_or(0), ready.unwrap_or(0));
    let causes = causes(picture, ready < wanted);
    let headline = match ready >= wanted {
        true => format!("all of its {wanted} pods are ready"),
        false => format!("{ready} of {wanted} pods are ready"),
    };
    Answer::new(headline, causes)
}

fn job(picture: &Picture) -> Answer {
    let object = &picture.subject.object;
    let count = |name: &str| object["status"][name].as_i64().unwrap_or(0);
    let is = |kind: &str| {
        let conditions = object["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|c| c["type"] == kind && c["status"] == "True")
    };
    let counts = format!(
        "{} active, {} succeeded, {} failed",
        count("active"),
        count("succeeded"),
        count("failed")
    );
    let headline = match (is("Complete"), is("Failed"), is("Suspended")) {
        (true, _, _) => format!("it is complete: {counts}"),
        (_, true, _) => format!("it has failed: {counts}"),
        (_, _, true) => "it is suspended: set spec.suspend to false".to_owned(),
        _ => format!("it is not complete: {counts}"),
    };
    match is("Complete") {
        true => Answer::new(headline, Vec::new()),
        false => Answer::new(headline, causes(picture, !is("Failed"))),
    }
}

/// Explains a CronJob: when the next Job comes, or why none does.
pub(crate) fn cron_job(picture: &Picture) -> Answer {
    let plan = brains::plan(picture).unwrap_or_default();
    let object = &picture.subject.object;
    let active = object["status"]["active"].as_array().map_or(0, Vec::len);
    let next = plan.requeue_after.map_or_else(
        || "no next job is planned".to_owned(),
        |after| {
            let after = jiff::SignedDuration::try_from(after).unwrap_or_default();
            let after = machinery::duration::human(after);
            format!("the next job is due in {after}")
        },
    );
    let headline = format!("{active} jobs are active; {}; {next}", plan.because);
    let mut causes = events::causes(picture, picture.subject.uid());
    if object["spec"]["suspend"] == true {
        let name = picture.subject.key().name;
        let fix = format!(r#"kubectl patch cronjob/{name} -p '{{"spec":{{"suspend":false}}}}'"#);
        causes.push(Cause::new("it is suspended: no jobs are made").advise(fix));
    }
    Answer::new(headline, causes)
}

/// What stands in the way: what its controller says, what was refused, and its pods. `waits`: it is not as wished yet.
fn causes(picture: &Picture, waits: bool) -> Vec<Cause> {
    let mut causes: Vec<Cause> = conditions::causes(&picture.subject.object)
        .into_iter()
        .filter(|c| c.what.contains("Fail"))
        .collect();
    let owned = pods_of(picture, picture.subject.uid());
    causes.extend(owned.iter().filter_map(|p| pod::cause(picture, p)));
    let told = events::causes(picture, picture.subject.uid());
    let refused = told.into_iter().filter(|c| c.what.contains("FailedCreate"));
    causes.extend(refused);
    match brains::plan(picture) {
        Some(plan) if !plan.actions.is_empty() => {
            let acts = format!("its controller is about to act: {}", plan.because);
            causes.push(Cause::new(acts).advise(
                "if this stays so the controller manager does not run, or may not do it: look at its events",
            ));
        }
        // Those that take one step after the other say which they wait for.
        Some(plan) if waits && STEPWISE.contains(&picture.subject.resource.kind.as_ref()) => {
            causes.push(Cause::new(format!("its controller: {}", plan.because)));
        }
        _ => {}
    }
    causes
}

fn pods_of(picture: &Picture, uid: &str) -> Vec<Pod> {
    let mut pods: Vec<Pod> = picture.of();
    pods.retain(|p| owned_by(&p.metadata, uid));
    pods
}

fn owned_by(meta: &ObjectMeta, uid: &str) -> bool {
    !uid.is_empty() && controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// Explains a Deployment: its rollout, and the replica sets below.
pub(crate) fn deployment(picture: &Picture) -> Answer {
    let deployment: Deployment = picture.subject_as();
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let ready = status.ready_replicas.unwrap_or(0);
    let updated = status.updated_replicas.unwrap_or(0);
    let rolled_out =
        updated >= wanted && status.replicas.unwrap_or(0) <= updated && ready >= wanted;
    let mut causes = conditions::causes(&picture.subject.object);
    causes.retain(|c| !c.what.contains("Available"));
    if deployment.spec.paused == Some(true) {
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        let cause = Cause::new("it is paused: changes of its template are not rolled out");
        causes.push(cause.advise(format!("kubectl rollout resume deployment/{name}")));
    }
    let mut sets: Vec<ReplicaSet> = picture.of();
    sets.retain(|s| owned_by(&s.metadata, picture.subject.uid()) && s.spec.replicas != Some(0));
    sets.sort_by_key(|s| std::cmp::Reverse(revision(&s.metadata)));
    for (at, set) in sets.iter().enumerate() {
        let below = answer(&picture.about(set));
        let which = if at == 0 { "newest" } else { "old" };
        let name = set.metadata.name.as_deref().unwrap_or_default();
        if !below.causes.is_empty() {
            let what = format!("{which} replica set {name}: {}", below.headline);
            causes.push(Cause::new(what).from(below.causes));
        }
    }
    let plan = brains::plan(picture).filter(|plan| !plan.because.is_empty());
    if let Some(plan) = plan.filter(|_| !rolled_out) {
        causes.push(Cause::new(format!("its controller: {}", plan.because)));
    }
    let headline = match rolled_out {
        true => format!("it is rolled out: {ready} of {wanted} pods are ready"),
        false => format!(
            "its rollout is not complete: {updated} of {wanted} pods are of the newest revision, {ready} pods are ready"
        ),
    };
    Answer::new(headline, causes)
}

fn revision(meta: &ObjectMeta) -> i64 {
    let annotations = meta.annotations.as_ref();
    let text = annotations.and_then(|a| a.get("deployment.kubernetes.io/revision"));
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}
