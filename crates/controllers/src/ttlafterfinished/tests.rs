use expect_test::expect;

use super::TtlAfterFinishedController;
use crate::harness::check;

fn job(ended: &str) -> String {
    format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: j, namespace: d}}, spec: {{ttlSecondsAfterFinished: 60}}, \
         status: {{conditions: [{{type: Complete, status: 'True', lastTransitionTime: '{ended}'}}]}}}}"
    )
}

#[test]
fn jobs_go_some_time_after_their_end() {
    check(
        &TtlAfterFinishedController,
        &job("2025-12-31T23:59:30Z"),
        "d/j",
        &expect![[r#"
            because it is removed in 30s
            again after 30s
        "#]],
    );
    check(
        &TtlAfterFinishedController,
        &job("2025-12-31T23:59:00Z"),
        "d/j",
        &expect![[r#"
            because its time after the end is over
            delete jobs.batch d/j (Foreground)
        "#]],
    );
    check(
        &TtlAfterFinishedController,
        &job("2025-12-31T23:59:00Z").replace("ttlSecondsAfterFinished: 60", ""),
        "d/j",
        &expect![[r#"
            because it stays
        "#]],
    );
}
