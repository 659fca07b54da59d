//! When Jobs are made, and what becomes of them.

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::batch::v1::CronJob;
use serde_json::{Value, json};
use testkit::World;

use super::CronJobController;
use crate::harness::check_world;

/// It is midnight; the CronJob is half an hour old.
fn world(spec: &str) -> World {
    World::from_yaml(&format!(
        "{{apiVersion: batch/v1, kind: CronJob, metadata: {{name: c, namespace: d, uid: c-uid, creationTimestamp: \
         '2025-12-31T23:30:00Z'}}, spec: {{{spec}, successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 1, \
         jobTemplate: {{metadata: {{labels: {{a: b}}}}, spec: {{template: {{spec: {{restartPolicy: Never, containers: \
         [{{name: c, image: i}}]}}}}}}}}}}}}"
    ))
}

fn job(name: &str, at: &str, end: &str) -> Value {
    let conditions = match end {
        "" => json!([]),
        end => json!([{"type": end, "status": "True"}]),
    };
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": name, "namespace": "d",
            "annotations": {"batch.kubernetes.io/cronjob-scheduled-timestamp": at},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "c-uid", "controller": true}],
        },
        "status": {"conditions": conditions, "startTime": at, "completionTime": if end == "Complete" { json!(at) } else { Value::Null }},
    })
}

#[test]
fn a_job_is_made_when_it_is_due() {
    check_world(
        &CronJobController,
        &world("schedule: '*/15 * * * *', timeZone: Asia/Shanghai"),
        "d/c",
        &expect![[r#"
            because making job c-29453760
            create jobs.batch d/c-29453760
              then SuccessfulCreate: Created job c-29453760
            status cronjobs.batch d/c: {"lastScheduleTime":"2026-01-01T00:00:00Z"}
            again after 900.1s
        "#]],
    );
    check_world(
        &CronJobController,
        &world("schedule: '30 * * * *'"),
        "d/c",
        &expect![[r#"
            because it is not due
            again after 1800.1s
        "#]],
    );
    check_world(
        &CronJobController,
        &world("schedule: '* * * * *', suspend: true"),
        "d/c",
        &expect![[r#"
            because it is suspended
        "#]],
    );
}

#[test]
fn what_is_too_late_or_not_to_be_is_told() {
    let mut late = world("schedule: '50 * * * *', startingDeadlineSeconds: 700");
    check_world(
        &CronJobController,
        &late,
        "d/c",
        &expect![[r#"
        because making job c-29453750
        create jobs.batch d/c-29453750
          then SuccessfulCreate: Created job c-29453750
        status cronjobs.batch d/c: {"lastScheduleTime":"2025-12-31T23:50:00Z"}
        again after 3000.1s
    "#]],
    );
    late.now += jiff::SignedDuration::from_secs(200);
    check_world(
        &CronJobController,
        &late,
        "d/c",
        &expect![[r#"
        because it is not due
        again after 2800.1s
    "#]],
    );
    check_world(
        &CronJobController,
        &world("schedule: '0 0 31 2 *'"),
        "d/c",
        &expect![[r#"
            because invalid schedule: 0 0 31 2 * : time difference between two schedules is less than 1 second
            event Warning InvalidSchedule: invalid schedule: 0 0 31 2 * : time difference between two schedules is less than 1 second
        "#]],
    );
    check_world(
        &CronJobController,
        &world("schedule: '* * * * *', timeZone: Mars/Olympus"),
        "d/c",
        &expect![[r#"
            because invalid timeZone: "Mars/Olympus": unknown time zone Mars/Olympus
            event Warning UnknownTimeZone: invalid timeZone: "Mars/Olympus": unknown time zone Mars/Olympus
        "#]],
    );
    let mut long = world("schedule: '* * * * *'");
    long.now += jiff::SignedDuration::from_hours(48);
    check_world(
        &CronJobController,
        &long,
        "d/c",
        &expect![[r#"
        because making job c-29456640
        event Warning TooManyMissedTimes: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew
        create jobs.batch d/c-29456640
          then SuccessfulCreate: Created job c-29456640
        status cronjobs.batch d/c: {"lastScheduleTime":"2026-01-03T00:00:00Z"}
        again after 60.1s
    "#]],
    );
}

#[test]
fn running_jobs_forbid_or_yield() {
    let running = |policy: &str| {
        let mut world = world(&format!(
            "schedule: '*/15 * * * *', concurrencyPolicy: {policy}"
        ));
        world.put(job("c-29453745", "2025-12-31T23:45:00Z", ""));
        world
    };
    for policy in ["Allow", "Forbid", "Replace"] {
        let expected = match policy {
            "Allow" => expect![[r#"
                because making job c-29453760
                create jobs.batch d/c-29453760
                  then SuccessfulCreate: Created job c-29453760
                status cronjobs.batch d/c: {"active":[{"apiVersion":"batch/v1","kind":"Job","name":"c-29453745","namespace":"d","resourceVersion":"102","uid":"c-29453745-uid"}],"lastScheduleTime":"2026-01-01T00:00:00Z"}
                again after 900.1s
            "#]],
            "Forbid" => expect![[r#"
                because Not starting job because prior execution is running and concurrency policy is Forbid
                event Normal JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid
                status cronjobs.batch d/c: {"active":[{"apiVersion":"batch/v1","kind":"Job","name":"c-29453745","namespace":"d","resourceVersion":"102","uid":"c-29453745-uid"}]}
                again after 900.1s
            "#]],
            _ => expect![[r#"
                because making job c-29453760
                delete jobs.batch d/c-29453745 (Background)
                  then SuccessfulDelete: Deleted job c-29453745
                create jobs.batch d/c-29453760
                  then SuccessfulCreate: Created job c-29453760
                status cronjobs.batch d/c: {"lastScheduleTime":"2026-01-01T00:00:00Z"}
                again after 900.1s
            "#]],
        };
        check_world(&CronJobController, &running(policy), "d/c", &expected);
    }
}

#[test]
fn jobs_that_have_ended_are_told_and_forgotten() {
    let mut world = world("schedule: '30 * * * *'");
    for (minute, end) in [(32, "Complete"), (33, "Complete"), (34, "Failed")] {
        let at = format!("2025-12-31T23:{minute}:00Z");
        world.put(job(&format!("c-{}", 29_453_700 + minute), &at, end));
    }
    world.put(job("stray", "2025-12-31T23:35:00Z", ""));
    let root = Target {
        resource: Resource::of::<CronJob>(),
        key: Key::new("d", "c"),
    };
    world.objects.get_mut(&root).unwrap()["status"] = json!({"active": [
        {"kind": "Job", "namespace": "d", "name": "c-29453732", "uid": "c-29453732-uid"},
        {"kind": "Job", "namespace": "d", "name": "gone", "uid": "gone-uid"},
    ]});
    check_world(
        &CronJobController,
        &world,
        "d/c",
        &expect![[r#"
        because it is not due
        event Normal SawCompletedJob: Saw completed job: c-29453732, condition: Complete
        event Warning UnexpectedJob: Saw a job that the controller did not create or forgot: stray
        event Normal MissingJob: Active job went missing: gone
        delete jobs.batch d/c-29453732 (Background)
          then SuccessfulDelete: Deleted job c-29453732
        status cronjobs.batch d/c: {"lastSuccessfulTime":"2025-12-31T23:33:00Z"}
        again after 1800.1s
    "#]],
    );
}

#[test]
fn the_laws_hold() {
    for spec in [
        "schedule: '*/15 * * * *'",
        "schedule: '*/15 * * * *', concurrencyPolicy: Replace",
        "schedule: '@every 7m'",
        "schedule: '30 * * * *', suspend: true",
    ] {
        let root = Target {
            resource: Resource::of::<CronJob>(),
            key: Key::new("d", "c"),
        };
        let world = world(spec);
        testkit::laws::same_input_same_plan(&CronJobController, &world, &root.key);
        // At rest it waits for the next time, at which it goes on for ever: only this time is looked at.
        let mut world = world;
        for _ in 0..3 {
            let plan = world.plan(&CronJobController, &root.key).expect("a plan");
            world.apply_plan(&plan);
        }
        let plan = world.plan(&CronJobController, &root.key).expect("a plan");
        assert!(plan.is_idle(), "{spec}: {plan:?}");
        assert!(world.of_kind("Job").count() <= 1, "{spec}");
    }
}
