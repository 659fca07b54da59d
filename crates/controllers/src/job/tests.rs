//! Jobs from the first pod to the last counter, and the laws.

use control::{Key, Plan, Resource, Target};
use expect_test::{Expect, expect};
use k8s_openapi::api::batch::v1::Job;
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::World;

use super::{JobController, OrphanedPods};
use crate::harness::check_world;

fn world(spec: &str) -> World {
    World::from_yaml(&format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: j, namespace: d, uid: j-uid, generation: 1}}, spec: \
         {{{spec}, selector: {{matchLabels: {{uid: j}}}}, template: {{metadata: {{labels: {{uid: j}}}}, spec: \
         {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}"
    ))
}

fn root() -> Target {
    Target {
        resource: Resource::of::<Job>(),
        key: Key::new("d", "j"),
    }
}

fn step(world: &mut World) -> Plan {
    let plan = world.plan(&JobController, &root().key).expect("a plan");
    world.apply_plan(&plan);
    world.seed += 1;
    plan
}

/// How pods end: by the number of the pod.
fn end_pods(world: &mut World, how: &mut dyn FnMut(&Value) -> &'static str) {
    let now = world.now.to_string();
    for (target, object) in &mut world.objects {
        if target.resource.kind != "Pod" || !object["status"]["phase"].is_null() {
            continue;
        }
        let (phase, code) = match how(object) {
            "" => continue,
            "ok" => ("Succeeded", 0),
            code => ("Failed", code.parse().expect("an exit code")),
        };
        object["status"] = json!({"phase": phase, "containerStatuses": [{
            "name": "c", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
            "state": {"terminated": {"exitCode": code, "finishedAt": now}},
        }]});
    }
}

/// Runs the Job to its end: what happened, line by line.
fn run(world: &mut World, mut how: impl FnMut(&Value) -> &'static str) -> String {
    let mut out = String::new();
    for _ in 0..100 {
        let plan = step(world);
        let told = |action: &control::Action| match action {
            control::Action::Event(event) => Some(format!("{}: {}", event.reason, event.message)),
            control::Action::Create { object, .. } => {
                let annotations = &object["metadata"]["annotations"];
                Some(format!(
                    "made {}",
                    if annotations.is_null() {
                        "a pod".into()
                    } else {
                        annotations.to_string()
                    }
                ))
            }
            control::Action::Delete { .. } => Some("removed a pod".to_owned()),
            _ => None,
        };
        for line in plan.actions.iter().filter_map(told) {
            out.push_str(&format!("{line}\n"));
        }
        end_pods(world, &mut how);
        if plan.is_idle() {
            let Some(after) = plan.requeue_after else {
                break;
            };
            out.push_str(&format!("waits {after:?}\n"));
            world.now += after;
        }
    }
    let status = &world.objects[&root()]["status"];
    let mut shown = status.clone();
    let conditions = shown["conditions"].take();
    out.push_str(&format!("{shown}\n"));
    for condition in conditions.as_array().into_iter().flatten() {
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        out.push_str(&format!(
            "{}={} {}: {}\n",
            text("type"),
            text("status"),
            text("reason"),
            text("message")
        ));
    }
    out
}

fn check_run(spec: &str, how: impl FnMut(&Value) -> &'static str, expected: &Expect) {
    expected.assert_eq(&run(&mut world(spec), how));
}

const PLAIN: &str = "completions: 1, parallelism: 1, backoffLimit: 2";

#[test]
fn a_pod_is_made_and_kept_until_it_is_counted() {
    check_world(
        &JobController,
        &world(PLAIN),
        "d/j",
        &expect![[r#"
            because making 1 pods
            create pods d/j-hvls4
              then SuccessfulCreate: Created pod: j-hvls4
            status jobs.batch d/j: {"active":1,"ready":0,"startTime":"2026-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        "#]],
    );
}

#[test]
fn a_job_ends_when_its_work_is_done() {
    check_run(
        PLAIN,
        |_| "ok",
        &expect![[r#"
        made a pod
        Completed: Job completed
        {"completionTime":"2026-01-01T00:00:00Z","conditions":null,"ready":0,"startTime":"2026-01-01T00:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
        SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        Complete=True CompletionsReached: Reached expected number of succeeded pods
    "#]],
    );
    check_run(
        "completions: 3, parallelism: 2, backoffLimit: 6",
        |_| "ok",
        &expect![[r#"
            made a pod
            made a pod
            made a pod
            Completed: Job completed
            {"completionTime":"2026-01-01T00:00:00Z","conditions":null,"ready":0,"startTime":"2026-01-01T00:00:00Z","succeeded":3,"terminating":0,"uncountedTerminatedPods":{}}
            SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
            Complete=True CompletionsReached: Reached expected number of succeeded pods
        "#]],
    );
    check_run(
        "parallelism: 2, backoffLimit: 6",
        |_| "ok",
        &expect![[r#"
        made a pod
        made a pod
        Completed: Job completed
        {"completionTime":"2026-01-01T00:00:00Z","conditions":null,"ready":0,"startTime":"2026-01-01T00:00:00Z","succeeded":2,"terminating":0,"uncountedTerminatedPods":{}}
        SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        Complete=True CompletionsReached: Reached expected number of succeeded pods
    "#]],
    );
}

#[test]
fn failures_make_it_wait_and_then_fail() {
    check_run(
        PLAIN,
        |_| "1",
        &expect![[r#"
        made a pod
        waits 10s
        made a pod
        waits 20s
        made a pod
        BackoffLimitExceeded: Job has reached the specified backoff limit
        {"conditions":null,"failed":3,"ready":0,"startTime":"2026-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit
        Failed=True BackoffLimitExceeded: Job has reached the specified backoff limit
    "#]],
    );
}

#[test]
fn time_may_run_out() {
    check_run(
        "completions: 1, parallelism: 1, activeDeadlineSeconds: 30, backoffLimit: 6",
        |_| "",
        &expect![[r#"
            made a pod
            waits 30s
            removed a pod
            DeadlineExceeded: Job was active longer than specified deadline
            {"conditions":null,"failed":1,"ready":0,"startTime":"2026-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
            FailureTarget=True DeadlineExceeded: Job was active longer than specified deadline
            Failed=True DeadlineExceeded: Job was active longer than specified deadline
        "#]],
    );
}

fn index_of(pod: &Value) -> i64 {
    let key = "batch.kubernetes.io/job-completion-index";
    let text = pod["metadata"]["annotations"][key].as_str();
    text.and_then(|t| t.parse().ok()).unwrap_or(-1)
}

#[test]
fn indexes_are_done_one_by_one() {
    check_run(
        "completionMode: Indexed, completions: 3, parallelism: 2, backoffLimit: 6",
        |_| "ok",
        &expect![[r#"
            made {"batch.kubernetes.io/job-completion-index":"0"}
            made {"batch.kubernetes.io/job-completion-index":"1"}
            made {"batch.kubernetes.io/job-completion-index":"2"}
            Completed: Job completed
            {"completedIndexes":"0-2","completionTime":"2026-01-01T00:00:00Z","conditions":null,"ready":0,"startTime":"2026-01-01T00:00:00Z","succeeded":3,"terminating":0,"uncountedTerminatedPods":{}}
            SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
            Complete=True CompletionsReached: Reached expected number of succeeded pods
        "#]],
    );
    let mut world =
        world("completionMode: Indexed, completions: 3, parallelism: 2, backoffLimit: 6");
    step(&mut world);
    let pod = world.of_kind("Pod").next().expect("a pod");
    expect![[r#"
        [
          {
            "annotations": {
              "batch.kubernetes.io/job-completion-index": "0"
            },
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": [
              "batch.kubernetes.io/job-tracking"
            ],
            "generateName": "j-0-",
            "generation": 1,
            "labels": {
              "batch.kubernetes.io/job-completion-index": "0",
              "uid": "j"
            },
            "name": "j-0-hvls4",
            "namespace": "d",
            "ownerReferences": [
              {
                "apiVersion": "batch/v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "Job",
                "name": "j",
                "uid": "j-uid"
              }
            ],
            "resourceVersion": "102",
            "uid": "made-1"
          },
          {
            "containers": [
              {
                "env": [
                  {
                    "name": "JOB_COMPLETION_INDEX",
                    "valueFrom": {
                      "fieldRef": {
                        "fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"
                      }
                    }
                  }
                ],
                "image": "i",
                "name": "c"
              }
            ],
            "hostname": "j-0",
            "restartPolicy": "Never"
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&json!([pod["metadata"], pod["spec"]])).unwrap());
    // Some indexes are enough.
    check_run(
        "completionMode: Indexed, completions: 3, parallelism: 3, backoffLimit: 6, successPolicy: {rules: \
         [{succeededIndexes: '0-1', succeededCount: 1}]}",
        |pod| if index_of(pod) == 1 { "ok" } else { "" },
        &expect![[r#"
            made {"batch.kubernetes.io/job-completion-index":"0"}
            made {"batch.kubernetes.io/job-completion-index":"1"}
            made {"batch.kubernetes.io/job-completion-index":"2"}
            removed a pod
            removed a pod
            Completed: Job completed
            {"completedIndexes":"1","completionTime":"2026-01-01T00:00:00Z","conditions":null,"failed":2,"ready":0,"startTime":"2026-01-01T00:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
            SuccessCriteriaMet=True SuccessPolicy: Matched rules at index 0
            Complete=True SuccessPolicy: Matched rules at index 0
        "#]],
    );
    // One that fails for good leaves the others their chance.
    check_run(
        "completionMode: Indexed, completions: 2, parallelism: 2, backoffLimit: 2147483647, backoffLimitPerIndex: 1",
        |pod| if index_of(pod) == 1 { "ok" } else { "1" },
        &expect![[r#"
            made {"batch.kubernetes.io/job-completion-index":"0","batch.kubernetes.io/job-index-failure-count":"0"}
            made {"batch.kubernetes.io/job-completion-index":"1","batch.kubernetes.io/job-index-failure-count":"0"}
            waits 10s
            made {"batch.kubernetes.io/job-completion-index":"0","batch.kubernetes.io/job-index-failure-count":"1"}
            FailedIndexes: Job has failed indexes
            {"completedIndexes":"1","conditions":null,"failed":2,"failedIndexes":"0","ready":0,"startTime":"2026-01-01T00:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
            FailureTarget=True FailedIndexes: Job has failed indexes
            Failed=True FailedIndexes: Job has failed indexes
        "#]],
    );
}

#[test]
fn a_policy_says_what_failures_mean() {
    let spec = |action: &str| {
        format!(
            "completions: 1, parallelism: 1, backoffLimit: 0, podReplacementPolicy: Failed, podFailurePolicy: {{rules: \
             [{{action: {action}, onExitCodes: {{operator: In, values: [42]}}}}]}}"
        )
    };
    check_run(
        &spec("FailJob"),
        |_| "42",
        &expect![[r#"
        made a pod
        PodFailurePolicy: Container c for pod d/j-hvls4 failed with exit code 42 matching FailJob rule at index 0
        {"conditions":null,"failed":1,"ready":0,"startTime":"2026-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        FailureTarget=True PodFailurePolicy: Container c for pod d/j-hvls4 failed with exit code 42 matching FailJob rule at index 0
        Failed=True PodFailurePolicy: Container c for pod d/j-hvls4 failed with exit code 42 matching FailJob rule at index 0
    "#]],
    );
    let mut tries = 0;
    check_run(
        &spec("Ignore"),
        |_| {
            tries += 1;
            if tries < 3 { "42" } else { "ok" }
        },
        &expect![[r#"
            made a pod
            waits 10s
            made a pod
            waits 20s
            made a pod
            Completed: Job completed
            {"completionTime":"2026-01-01T00:00:30Z","conditions":null,"ready":0,"startTime":"2026-01-01T00:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
            SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
            Complete=True CompletionsReached: Reached expected number of succeeded pods
        "#]],
    );
}

#[test]
fn a_suspended_job_rests() {
    let mut world = world("completions: 1, parallelism: 1, backoffLimit: 6, suspend: true");
    expect![[r#"
        Suspended: Job suspended
        {"conditions":null,"ready":0,"terminating":0,"uncountedTerminatedPods":{}}
        Suspended=True JobSuspended: Job suspended
    "#]]
    .assert_eq(&run(&mut world, |_| "ok"));
    world.objects.get_mut(&root()).unwrap()["spec"]["suspend"] = false.into();
    step(&mut world);
    world.objects.get_mut(&root()).unwrap()["spec"]["suspend"] = true.into();
    expect![[r#"
        removed a pod
        Suspended: Job suspended
        {"conditions":null,"ready":0,"terminating":0,"uncountedTerminatedPods":{}}
        Suspended=True JobSuspended: Job suspended
    "#]]
    .assert_eq(&run(&mut world, |_| ""));
    world.objects.get_mut(&root()).unwrap()["spec"]["suspend"] = false.into();
    expect![[r#"
        made a pod
        Resumed: Job resumed
        Completed: Job completed
        {"completionTime":"2026-01-01T00:00:00Z","conditions":null,"ready":0,"startTime":"2026-01-01T00:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
        Suspended=False JobResumed: Job resumed
        SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        Complete=True CompletionsReached: Reached expected number of succeeded pods
    "#]].assert_eq(&run(&mut world, |_| "ok"));
}

#[test]
fn somebody_elses_job_is_left_alone() {
    let world = world("completions: 1, parallelism: 1, managedBy: acme.io/queue");
    check_world(
        &JobController,
        &world,
        "d/j",
        &expect![[r#"
        because it is managed by acme.io/queue
    "#]],
    );
}

#[test]
fn pods_without_a_job_are_let_go() {
    let mut world = world(PLAIN);
    step(&mut world);
    let pod = world.of_kind("Pod").next().expect("a pod").clone();
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    check_world(
        &OrphanedPods,
        &world,
        &format!("d/{name}"),
        &expect![[r#"
        because its job counts it
    "#]],
    );
    world.objects.remove(&root());
    check_world(
        &OrphanedPods,
        &world,
        &format!("d/{name}"),
        &expect![[r#"
        because no job counts it any more
        patch pods d/j-hvls4: {"metadata":{"$deleteFromPrimitiveList/finalizers":["batch.kubernetes.io/job-tracking"],"uid":"made-1"}}
    "#]],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_laws_hold(
        completions in 1..4_i64, parallelism in 0..4_i64, indexed in any::<bool>(), per_index in any::<bool>(),
        suspend in any::<bool>(), deadline in proptest::option::of(1..100_i64),
        ends in proptest::collection::vec(0..4_u8, 0..12), rounds in 0..8_usize,
    ) {
        let mut spec = format!("completions: {completions}, parallelism: {parallelism}, backoffLimit: 2");
        if indexed {
            spec.push_str(", completionMode: Indexed");
            if per_index {
                spec.push_str(", backoffLimitPerIndex: 1");
            }
        }
        if suspend {
            spec.push_str(", suspend: true");
        }
        if let Some(deadline) = deadline {
            spec.push_str(&format!(", activeDeadlineSeconds: {deadline}"));
        }
        let mut world = world(&spec);
        let mut ends = ends.into_iter();
        let mut total = 0;
        for _ in 0..rounds {
            let before = counters(&world);
            step(&mut world);
            let after = counters(&world);
            prop_assert!(after.0 >= before.0 && after.1 >= before.1);
            total = total.max(world.of_kind("Pod").count());
            end_pods(&mut world, &mut |_| match ends.next() {
                Some(0) => "ok",
                Some(1) => "1",
                _ => "",
            });
        }
        testkit::laws::hold(&JobController, &world, &root().key, &root());
    }

    /// Every pod is in one counter, once.
    #[test]
    fn pods_are_counted_once(
        completions in 1..5_i64, parallelism in 1..4_i64, ends in proptest::collection::vec(any::<bool>(), 0..8),
        crash in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let mut world = world(&format!("completions: {completions}, parallelism: {parallelism}, backoffLimit: 3"));
        let (mut ends, mut crash) = (ends.into_iter(), crash.into_iter());
        let (mut succeeded, mut failed) = (0, 0);
        for _ in 0..60 {
            let plan = world.plan(&JobController, &root().key).expect("a plan");
            if plan.is_idle() {
                let Some(after) = plan.requeue_after else { break };
                world.now += after;
                continue;
            }
            if crash.next() == Some(true) {
                for action in &plan.actions[..plan.actions.len() / 2] {
                    let _ = world.apply(action);
                }
            } else {
                world.apply_plan(&plan);
            }
            world.seed += 1;
            end_pods(&mut world, &mut |_| if ends.next().unwrap_or(true) {
                succeeded += 1;
                "ok"
            } else {
                failed += 1;
                "1"
            });
        }
        let status = &world.objects[&root()]["status"];
        let ended = status["conditions"].as_array().is_some_and(|c| c.iter().any(|c| c["type"] == "Complete" || c["type"] == "Failed"));
        prop_assert!(ended, "{status}");
        prop_assert_eq!((status["succeeded"].as_i64().unwrap_or(0), status["failed"].as_i64().unwrap_or(0)), (succeeded, failed));
    }
}

fn counters(world: &World) -> (i64, i64) {
    let status = &world.objects[&root()]["status"];
    (
        status["succeeded"].as_i64().unwrap_or(0),
        status["failed"].as_i64().unwrap_or(0),
    )
}
