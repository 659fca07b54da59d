use expect_test::{Expect, expect};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::indexes;
use super::schedule::{Schedule, time_zone};
use crate::kind::Part;
use crate::testing::{check, check_row, check_update, created};

const POD: &str = "template: {spec: {restartPolicy: Never, containers: [{name: c, image: d}]}}";

fn job(spec: &str) -> String {
    format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: a, namespace: b, uid: u}}, spec: {{{spec}}}}}"
    )
}

/// A Job as it is stored, and as an update sends it back.
fn stored(spec: &str) -> String {
    job(&format!(
        "selector: {{matchLabels: {{batch.kubernetes.io/controller-uid: u}}}}, {spec}, template: {{metadata: {{labels: \
         {{batch.kubernetes.io/controller-uid: u, batch.kubernetes.io/job-name: a, controller-uid: u, job-name: a}}}}, \
         spec: {{restartPolicy: Never, containers: [{{name: c, image: d}}]}}}}"
    ))
}

fn cron_job(spec: &str) -> String {
    format!(
        "{{apiVersion: batch/v1, kind: CronJob, metadata: {{name: a, namespace: b}}, spec: {{{spec}, jobTemplate: \
         {{spec: {{{POD}}}}}}}}}"
    )
}

#[test]
fn a_job_gets_labels_and_a_selector() {
    let job = created(&job(POD));
    let text = |path: &[&str]| job.at(path).map(ToString::to_string).unwrap_or_default();
    let labels = r#"{"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"a","controller-uid":"u","job-name":"a"}"#;
    assert_eq!(text(&["spec", "template", "metadata", "labels"]), labels);
    assert_eq!(text(&["metadata", "labels"]), labels);
    assert_eq!(
        text(&["spec", "selector"]),
        r#"{"matchLabels":{"batch.kubernetes.io/controller-uid":"u"}}"#
    );
}

#[test]
fn labels_that_are_not_generated_are_refused() {
    check(
        &job(
            "selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x, job-name: other}}, spec: \
             {restartPolicy: Never, containers: [{name: c, image: d}]}}",
        ),
        expect![[r#"
            spec.template.metadata.labels[job-name]: Invalid value: {"app":"x","batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"a","controller-uid":"u","job-name":"other"}: must be 'a'
            spec.selector: Invalid value: {"matchLabels":{"app":"x","batch.kubernetes.io/controller-uid":"u"}}: `selector` not auto-generated
        "#]],
    );
    check(
        &job(
            "manualSelector: true, selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: \
             {restartPolicy: Never, containers: [{name: c, image: d}]}}",
        ),
        expect![[""]],
    );
}

#[test]
fn pods_of_jobs_end() {
    check(
        &job("template: {spec: {containers: [{name: c, image: d}]}}"),
        expect![[r#"
            spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        "#]],
    );
    check(
        &job(
            "podReplacementPolicy: TerminatingOrFailed, podFailurePolicy: {rules: [{action: FailIndex}, {action: Ignore, \
             onExitCodes: {operator: In, containerName: x, values: [3, 0, 3]}, onPodConditions: [{type: a, status: b}]}]}, \
             template: {spec: {restartPolicy: OnFailure, containers: [{name: c, image: d}]}}",
        ),
        expect![[r#"
            spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set
            spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required
            spec.podFailurePolicy.rules[1].onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template
            spec.podFailurePolicy.rules[1].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator
            spec.podFailurePolicy.rules[1].onExitCodes.values[2]: Duplicate value: 3
            spec.podFailurePolicy.rules[1].onExitCodes.values: Invalid value: [3,0,3]: must be ordered
            spec.podFailurePolicy.rules[1].onPodConditions[0].status: Unsupported value: "b": supported values: "False", "True", "Unknown"
            spec.podFailurePolicy.rules[1]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported
            spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"
            spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified
        "#]],
    );
}

#[test]
fn indexed_jobs_have_completions() {
    check(
        &job(&format!(
            "completionMode: Indexed, parallelism: 100001, maxFailedIndexes: 5, managedBy: me, {POD}"
        )),
        expect![[r#"
            spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified
            spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")
            spec.completions: Required value: when completion mode is Indexed
            spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed
        "#]],
    );
    check(
        &job(&format!(
            "completionMode: Indexed, completions: 5, backoffLimitPerIndex: 1, maxFailedIndexes: 6, successPolicy: \
             {{rules: [{{}}, {{succeededIndexes: '1,3-2'}}, {{succeededIndexes: '0-2', succeededCount: 4}}]}}, {POD}"
        )),
        expect![[r#"
            spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions
            spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified
            spec.successPolicy.rules[1].succeededIndexes: Invalid value: "1,3-2": error parsing succeededIndexes: non-increasing order, previous: 3, current: 2
            spec.successPolicy.rules[2].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of indexes in the specified succeededIndexes field)
        "#]],
    );
    check(
        &job(&format!(
            "backoffLimitPerIndex: 1, completionMode: NonIndexed, {POD}"
        )),
        expect![[r#"
            spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode
        "#]],
    );
}

#[test]
fn little_of_a_job_changes() {
    check_update(
        Part::Main,
        &stored("completions: 3, parallelism: 1"),
        &stored("completions: 4, parallelism: 2, backoffLimit: 7"),
        expect![[r#"
            spec.completions: Invalid value: 4: field is immutable
        "#]],
    );
    check_update(
        Part::Main,
        &stored("completionMode: Indexed, completions: 3, parallelism: 3"),
        &stored("completionMode: Indexed, completions: 4, parallelism: 4"),
        expect![[""]],
    );
    check_update(
        Part::Main,
        &stored("completionMode: Indexed, completions: 3, parallelism: 3"),
        &stored("completionMode: Indexed, completions: 4, parallelism: 3"),
        expect![[r#"
            spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism
        "#]],
    );
    let suspended = stored("suspend: true");
    let elsewhere = suspended.replace(
        "restartPolicy: Never, containers: [{name: c, image: d",
        "restartPolicy: Never, nodeSelector: {disk: ssd}, containers: [{name: c, resources: {limits: {cpu: 1}}, image: d",
    );
    check_update(Part::Main, &suspended, &elsewhere, expect![[""]]);
}

#[test]
fn a_finished_job_stays_finished() {
    let with = |status: &str| {
        let base = stored("suspend: false");
        format!("{}, status: {{{status}}}}}", &base[..base.len() - 1])
    };
    check_update(
        Part::Status,
        &with("failed: 2, conditions: [{type: FailureTarget, status: 'True'}]"),
        &with(
            "failed: 1, active: 1, terminating: 1, completedIndexes: '1', conditions: [{type: Failed, status: 'True'}]",
        ),
        expect![[r#"
            status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition
            status.active: Invalid value: 1: active>0 is invalid for finished job
            status.startTime: Required value: startTime is required for finished job
            status.terminating: Invalid value: 1: terminating>0 is invalid for finished job
            status.completedIndexes: Invalid value: "1": error parsing completedIndexes: too large index: "1"
            status.completedIndexes: Invalid value: "1": cannot set non-empty completedIndexes when non-indexed completion mode
            status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition
            status.failed: Invalid value: 1: cannot decrease the failed counter
        "#]],
    );
    check_update(
        Part::Status,
        &with("startTime: '2026-01-01T00:00:00Z'"),
        &with(
            "startTime: '2026-01-01T00:00:00Z', completionTime: '2026-01-01T00:00:10Z', succeeded: 1, \
             uncountedTerminatedPods: {}, conditions: [{type: SuccessCriteriaMet, status: 'True'}, {type: Complete, \
             status: 'True'}]",
        ),
        expect![[""]],
    );
}

#[test]
fn rows_tell_how_far_jobs_are() {
    let base = stored("completions: 5");
    let with = |status: &str| format!("{}, status: {{{status}}}}}", &base[..base.len() - 1]);
    check_row(
        &with("startTime: '2026-01-02T03:03:05Z', succeeded: 2"),
        expect![
            "a | Running | 2/5 | 60s | <unknown> | c | d | batch.kubernetes.io/controller-uid=u"
        ],
    );
    check_row(
        &with(
            "startTime: '2026-01-02T03:03:05Z', completionTime: '2026-01-02T03:03:10Z', succeeded: 5, conditions: \
             [{type: Complete, status: 'True'}]",
        ),
        expect![
            "a | Complete | 5/5 | 5s | <unknown> | c | d | batch.kubernetes.io/controller-uid=u"
        ],
    );
    check_row(
        &stored("parallelism: 3"),
        expect![
            "a | Running | 0/1 of 3 |  | <unknown> | c | d | batch.kubernetes.io/controller-uid=u"
        ],
    );
    check_row(
        &cron_job("schedule: '*/15 * * * *', suspend: true"),
        expect!["a | */15 * * * * | <none> | True | 0 | <none> | <unknown> | c | d | <none>"],
    );
}

#[test]
fn cron_jobs_have_a_schedule() {
    check(
        &cron_job("schedule: '@every 1h30m', timeZone: Europe/Berlin"),
        expect![[""]],
    );
    check(
        &cron_job(
            "schedule: '', timeZone: Mars/Olympus, concurrencyPolicy: Maybe, startingDeadlineSeconds: -1",
        ),
        expect![[r#"
            spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus
            spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace"
            spec.schedule: Required value
        "#]],
    );
    check(
        &cron_job("schedule: 'TZ=UTC * * * *'"),
        expect![[r#"
            spec.schedule: Invalid value: "TZ=UTC * * * *": expected exactly 5 fields, found 4: [* * * *]
            spec.schedule: Invalid value: "TZ=UTC * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead
        "#]],
    );
    check(
        &cron_job("schedule: '* * * * *'")
            .replace("name: a,", &format!("name: {},", "x".repeat(53))),
        expect![[r#"
            metadata.name: Invalid value: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": must be no more than 52 characters
        "#]],
    );
}

fn check_schedule(text: &str, expected: &Expect) {
    let why = Schedule::parse(text).map(|_| "fine".to_owned());
    expected.assert_eq(&why.unwrap_or_else(|why| why));
}

#[test]
fn schedules_are_read_as_cron_reads_them() {
    for (text, expected) in [
        (
            "* * * *",
            expect!["expected exactly 5 fields, found 4: [* * * *]"],
        ),
        (
            "60 * * * *",
            expect!["end of range (60) above maximum (59): 60"],
        ),
        (
            "* * 0 * *",
            expect!["beginning of range (0) below minimum (1): 0"],
        ),
        (
            "5-3 * * * *",
            expect!["beginning of range (5) beyond end of range (3): 5-3"],
        ),
        (
            "*/0 * * * *",
            expect!["step of range should be a positive number: */0"],
        ),
        (
            "*/-5 * * * *",
            expect!["negative number (-5) not allowed: -5"],
        ),
        ("1-2-3 * * * *", expect!["too many hyphens: 1-2-3"]),
        ("1/2/3 * * * *", expect!["too many slashes: 1/2/3"]),
        (
            "x * * * *",
            expect![[r#"failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax"#]],
        ),
        ("@never", expect!["unrecognized descriptor: @never"]),
        (
            "@every 5",
            expect![[r#"failed to parse duration @every 5: time: missing unit in duration "5""#]],
        ),
        (
            "TZ=UTC",
            expect!["invalid schedule format: runtime error: slice bounds out of range [:-1]"],
        ),
        ("? 1-5/2 */10 jan-mar,DEC mon", expect!["fine"]),
    ] {
        check_schedule(text, &expected);
    }
}

/// The next times after a moment.
fn next(text: &str, zone: &str, after: &str) -> String {
    let schedule = Schedule::parse(text).unwrap();
    let zone = time_zone(zone).unwrap();
    let mut at: Timestamp = after.parse().unwrap();
    let mut out = Vec::new();
    while out.len() < 3
        && let Some(then) = schedule.next(at, &zone)
    {
        out.push(then.to_zoned(zone.clone()).datetime().to_string());
        at = then;
    }
    out.join(" ")
}

#[test]
fn schedules_come_when_they_say() {
    for (text, zone, after, expected) in [
        (
            "*/15 * * * *",
            "UTC",
            "2026-01-02T03:14:59.5Z",
            "2026-01-02T03:15:00 2026-01-02T03:30:00 2026-01-02T03:45:00",
        ),
        (
            "0 0 29 2 *",
            "UTC",
            "2025-01-01T00:00:00Z",
            "2028-02-29T00:00:00 2032-02-29T00:00:00 2036-02-29T00:00:00",
        ),
        ("0 0 31 2 *", "UTC", "2025-01-01T00:00:00Z", ""),
        // A day of the month or a day of the week, when both are given.
        (
            "0 12 13 * 5",
            "UTC",
            "2026-02-01T00:00:00Z",
            "2026-02-06T12:00:00 2026-02-13T12:00:00 2026-02-20T12:00:00",
        ),
        // The hour that does not exist is left out, as upstream does.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-30T02:30:00 2026-03-31T02:30:00 2026-04-01T02:30:00",
        ),
        (
            "@every 90s",
            "UTC",
            "2026-01-02T03:04:05.7Z",
            "2026-01-02T03:05:35 2026-01-02T03:07:05 2026-01-02T03:08:35",
        ),
        (
            "0 9 * * mon-fri",
            "Asia/Shanghai",
            "2026-01-02T02:00:00Z",
            "2026-01-05T09:00:00 2026-01-06T09:00:00 2026-01-07T09:00:00",
        ),
    ] {
        assert_eq!(next(text, zone, after), expected, "{text} in {zone}");
    }
}

#[test]
fn index_sets_are_written_as_short_as_upstream_does() {
    assert_eq!(indexes::format([1, 3, 4, 5, 7, 8]), "1,3-5,7,8");
    assert_eq!(indexes::count("1,3-5,7", 8), Ok(5));
    assert_eq!(indexes::overlap("0-3,7", "5,7-9", 10), Some(7));
    assert_eq!(indexes::lenient("0-3,x,7-20", 10).len(), 2);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[-*/,0-9a-z@ ]{0,20}") {
        if let Ok(schedule) = Schedule::parse(&text) {
            let now = "2026-01-02T03:04:05Z".parse().unwrap();
            if let Some(then) = schedule.next(now, &TimeZone::UTC) {
                prop_assert!(then > now);
            }
        }
        let _ = indexes::count(&text, 100);
        let _ = indexes::lenient(&text, 100);
    }

    #[test]
    fn index_sets_survive_text(set in proptest::collection::btree_set(0..200_i32, 0..50)) {
        let text = indexes::format(set.iter().copied());
        prop_assert_eq!(indexes::count(&text, 200), Ok(i32::try_from(set.len()).unwrap()));
        let back: Vec<i32> = indexes::lenient(&text, 200).iter().flat_map(|i| i.first..=i.last).collect();
        prop_assert_eq!(back, set.into_iter().collect::<Vec<_>>());
    }
}
