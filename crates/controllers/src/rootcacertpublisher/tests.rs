//! One table.

use control::Key;
use expect_test::expect;
use testkit::World;

use super::RootCaCertPublisher;
use crate::harness::check_world;

#[test]
fn certificates_are_published_and_put_right() {
    let publisher = RootCaCertPublisher {
        certificates: "PEM".into(),
    };
    let mut world = World::from_yaml(
        "{apiVersion: v1, kind: Namespace, metadata: {name: team}, status: {phase: Active}}",
    );
    check_world(
        &publisher,
        &world,
        "team",
        &expect![[r#"
        because the certificates are not published as they are
        create configmaps team/kube-root-ca.crt
    "#]],
    );
    let plan = world
        .plan(&publisher, &Key::cluster("team"))
        .expect("a plan");
    world.apply_plan(&plan);
    check_world(
        &publisher,
        &world,
        "team",
        &expect![[r#"
        because the certificates are published
    "#]],
    );
    for object in world.objects.values_mut() {
        if object["kind"] == "ConfigMap" {
            object["data"]["ca.crt"] = "forged".into();
        }
    }
    check_world(
        &publisher,
        &world,
        "team",
        &expect![[r#"
        because the certificates are not published as they are
        update configmaps team/kube-root-ca.crt
    "#]],
    );
}
