//! One table.

use control::Key;
use expect_test::expect;
use testkit::World;

use super::{ClusterTrustBundlePublisher, ITEM};
use crate::harness::check_world;

const OTHERS: &str = "
apiVersion: certificates.k8s.io/v1
kind: ClusterTrustBundle
metadata: {name: 'kubernetes.io:kube-apiserver-serving:former'}
spec: {signerName: kubernetes.io/kube-apiserver-serving, trustBundle: old}
---
apiVersion: certificates.k8s.io/v1
kind: ClusterTrustBundle
metadata: {name: 'example.com:foo:bar'}
spec: {signerName: example.com/foo, trustBundle: theirs}
---
apiVersion: certificates.k8s.io/v1
kind: ClusterTrustBundle
metadata: {name: nobodys}
spec: {trustBundle: theirs}
";

#[test]
fn there_is_one_bundle_with_our_content() {
    let publisher = ClusterTrustBundlePublisher {
        certificates: "PEM".into(),
    };
    let mut world = World::from_yaml(OTHERS);
    check_world(
        &publisher,
        &world,
        ITEM,
        &expect![[r#"
        because the certificates are not published as they are
        create clustertrustbundles.certificates.k8s.io kubernetes.io:kube-apiserver-serving:384fb9a44fabe158be2757b9
        delete clustertrustbundles.certificates.k8s.io kubernetes.io:kube-apiserver-serving:former
    "#]],
    );
    let key = Key::cluster(ITEM);
    let plan = world.plan(&publisher, &key).expect("a plan");
    world.apply_plan(&plan);
    check_world(
        &publisher,
        &world,
        ITEM,
        &expect![[r#"
        because the certificates are published
    "#]],
    );
    for object in world.objects.values_mut() {
        if object["spec"]["trustBundle"] == "PEM" {
            object["spec"]["trustBundle"] = "forged".into();
        }
    }
    check_world(
        &publisher,
        &world,
        ITEM,
        &expect![[r#"
        because the certificates are not published as they are
        update clustertrustbundles.certificates.k8s.io kubernetes.io:kube-apiserver-serving:384fb9a44fabe158be2757b9
    "#]],
    );
    testkit::laws::settle_loosely(&publisher, world, &key);
}
