//! A namespace from the request to its end.

use control::{Answers, Key};
use expect_test::expect;
use serde_json::json;
use testkit::World;

use super::NamespaceController;
use crate::harness::check_world;

fn ending() -> World {
    World::from_yaml(
        "
apiVersion: v1
kind: Namespace
metadata: {name: team, deletionTimestamp: '2025-12-31T23:00:00Z'}
spec: {finalizers: [kubernetes]}
status: {phase: Terminating}
",
    )
}

#[test]
fn pods_go_before_everything_else() {
    let mut world = ending();
    for (kind, name) in [("Pod", "a"), ("ConfigMap", "b")] {
        let meta = json!({"name": name, "namespace": "team"});
        world.put(json!({"apiVersion": "v1", "kind": kind, "metadata": meta}));
    }
    check_world(
        &NamespaceController,
        &world,
        "team",
        &expect![[r#"
        because waiting for pods to go before the rest, 2 objects are left
        delete all pods in team
        status namespaces team: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"All resources successfully discovered","reason":"ResourcesDiscovered","status":"False","type":"NamespaceDeletionDiscoveryFailure"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"All legacy kube types successfully parsed","reason":"ParsedGroupVersions","status":"False","type":"NamespaceDeletionGroupVersionParsingFailure"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"All content successfully deleted, may be waiting on finalization","reason":"ContentDeleted","status":"False","type":"NamespaceDeletionContentFailure"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"Some resources are remaining: pods. has 1 resource instances","reason":"SomeResourcesRemain","status":"True","type":"NamespaceContentRemaining"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"All content-preserving finalizers finished","reason":"ContentHasNoFinalizers","status":"False","type":"NamespaceFinalizersRemaining"}],"phase":"Terminating"}
    "#]],
    );
}

#[test]
fn finalizers_are_waited_for_and_told() {
    let mut world = ending();
    world.put(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "held", "namespace": "team", "finalizers": ["example.com/hold"],
        "deletionTimestamp": "2025-12-31T23:30:00Z"}}),
    );
    check_world(
        &NamespaceController,
        &world,
        "team",
        &expect![[r#"
        because waiting for 1 objects to go
        status namespaces team: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"All resources successfully discovered","reason":"ResourcesDiscovered","status":"False","type":"NamespaceDeletionDiscoveryFailure"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"All legacy kube types successfully parsed","reason":"ParsedGroupVersions","status":"False","type":"NamespaceDeletionGroupVersionParsingFailure"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"All content successfully deleted, may be waiting on finalization","reason":"ContentDeleted","status":"False","type":"NamespaceDeletionContentFailure"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"Some resources are remaining: configmaps. has 1 resource instances","reason":"SomeResourcesRemain","status":"True","type":"NamespaceContentRemaining"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances","reason":"SomeFinalizersRemain","status":"True","type":"NamespaceFinalizersRemaining"}],"phase":"Terminating"}
    "#]],
    );
}

#[test]
fn an_empty_namespace_is_finalized_after_a_live_look() {
    check_world(
        &NamespaceController,
        &ending(),
        "team",
        &expect![[r#"
        because nothing is left in it
        update/finalize namespaces team
    "#]],
    );
}

/// Whatever is in it, in the end all is gone.
#[test]
fn everything_goes() {
    let mut world = ending();
    for (api, kind) in [
        ("v1", "Pod"),
        ("v1", "Secret"),
        ("v1", "Event"),
        ("apps/v1", "Deployment"),
        ("example.com/v1", "Widget"),
    ] {
        for name in ["one", "two"] {
            let meta =
                json!({"name": format!("{kind}-{name}").to_lowercase(), "namespace": "team"});
            world.put(json!({"apiVersion": api, "kind": kind, "metadata": meta}));
        }
    }
    let key = Key::cluster("team");
    let mut answers = Answers::new();
    for _ in 0..20 {
        let Some(plan) = world.plan_with(&NamespaceController, &key, &answers) else {
            break;
        };
        world.apply_plan(&plan);
        answers = world.answer(&plan);
    }
    assert!(world.objects.is_empty(), "{:?}", world.objects.keys());
}
