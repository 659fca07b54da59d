//! Steps and their overlaps.

use expect_test::expect;

use super::{TtlController, seconds};
use crate::harness::check;

#[test]
fn a_new_node_gets_the_annotation_and_keeps_it() {
    check(
        &TtlController,
        "{apiVersion: v1, kind: Node, metadata: {name: n1}}",
        "n1",
        &expect![[r#"
            because there are 1 nodes
            patch nodes n1: {"metadata":{"annotations":{"node.alpha.kubernetes.io/ttl":"0"},"uid":"n1-uid"}}
        "#]],
    );
    check(
        &TtlController,
        "{apiVersion: v1, kind: Node, metadata: {name: n1, annotations: {node.alpha.kubernetes.io/ttl: '0'}}}",
        "n1",
        &expect![[r#"
            because the annotation is right
        "#]],
    );
}

#[test]
fn larger_clusters_keep_things_longer_and_steps_overlap() {
    let of = |present, count| seconds(present, count);
    assert_eq!(of(None, 100), 0);
    assert_eq!(of(Some(0), 101), 15);
    assert_eq!(of(Some(15), 95), 15, "no way back yet");
    assert_eq!(of(Some(15), 89), 0);
    assert_eq!(of(None, 5000), 300);
    assert_eq!(of(Some(300), 1), 0);
}
