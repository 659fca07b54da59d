//! What the controllers themselves would decide now.

use control::{Answers, Caches, Look, Names, Plan, Reconciler, Wake};
use controllers::{
    cronjob, daemonset, deployment, job, replicaset, replicationcontroller, statefulset,
};

use crate::picture::Picture;

/// What the controller of the subject's kind decides; `None` where there is no such controller.
pub(crate) fn plan(picture: &Picture) -> Option<Plan> {
    match picture.subject.resource.kind.as_ref() {
        "Deployment" => ask(picture, &deployment::DeploymentController),
        "ReplicaSet" => ask(picture, &replicaset::ReplicaSetController),
        "ReplicationController" => ask(
            picture,
            &replicationcontroller::ReplicationControllerController,
        ),
        "StatefulSet" => ask(picture, &statefulset::StatefulSetController),
        "DaemonSet" => ask(picture, &daemonset::DaemonSetController),
        "Job" => ask(picture, &job::JobController),
        "CronJob" => ask(picture, &cronjob::CronJobController),
        _ => None,
    }
}

fn ask<R: Reconciler>(picture: &Picture, reconciler: &R) -> Option<Plan> {
    let mut caches = Caches::new();
    let mut wake = Wake::new(&mut caches, 0);
    R::wake(&mut wake);
    drop(wake);
    picture.fill(&caches);
    let answers = Answers::new();
    let look = Look {
        caches: &caches,
        key: &picture.subject.key(),
        now: picture.now,
        names: Names::new(0),
        answers: &answers,
        failure: None,
        since: None,
    };
    let observed = reconciler.observe(&look)?;
    Some(R::reconcile(&observed))
}
