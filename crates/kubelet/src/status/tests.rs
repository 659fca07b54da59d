use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::patch;

fn check(old: &str, new: &str, want: Expect) {
    let status = |text: &str| -> PodStatus { serde_saphyr::from_str(text).unwrap() };
    let pod: Pod = serde_saphyr::from_str("{metadata: {uid: u1}}").unwrap();
    let patch = patch(&pod, &status(old), &status(new)).unwrap();
    want.assert_eq(&patch.map_or("nothing".to_owned(), |p| p["status"].to_string()));
}

#[test]
fn only_what_changed_is_sent() {
    check(
        "{phase: Running, podIP: 10.1.0.2}",
        "{phase: Running, podIP: 10.1.0.2}",
        expect!["nothing"],
    );
    check(
        "{phase: Pending}",
        "{phase: Running, podIP: 10.1.0.2, podIPs: [{ip: 10.1.0.2}]}",
        expect![[r#"{"phase":"Running","podIP":"10.1.0.2","podIPs":[{"ip":"10.1.0.2"}]}"#]],
    );
}

#[test]
fn addresses_are_replaced_and_not_merged() {
    check(
        "{podIPs: [{ip: 10.1.0.2}]}",
        "{podIPs: [{ip: 10.1.0.3}]}",
        expect![[r#"{"podIPs":[{"$patch":"replace"},{"ip":"10.1.0.3"}]}"#]],
    );
}

#[test]
fn conditions_go_one_by_one_and_forget_what_they_said() {
    check(
        "{conditions: [{type: Ready, status: 'False', reason: NotYet}, {type: Other, status: 'True'}]}",
        "{conditions: [{type: Other, status: 'True'}, {type: Ready, status: 'True'}]}",
        expect![[r#"{"conditions":[{"reason":null,"status":"True","type":"Ready"}]}"#]],
    );
}

#[test]
fn conditions_that_come_and_go_are_taken_away() {
    check(
        "{conditions: [{type: Ready, status: 'True'}, {type: PodResizeInProgress, status: 'True'}, {type: Other, status: 'True'}]}",
        "{conditions: [{type: Ready, status: 'True'}]}",
        expect![[r#"{"conditions":[{"$patch":"delete","type":"PodResizeInProgress"}]}"#]],
    );
}

#[test]
fn what_is_no_longer_said_is_taken_away_but_only_of_ones_own() {
    check(
        "{reason: Evicted, message: x, resize: Proposed}",
        "{}",
        expect![[r#"{"message":null,"reason":null}"#]],
    );
}
