//! One table, and the laws.

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::rbac::v1::ClusterRole;
use testkit::World;

use super::ClusterRoleAggregationController;
use crate::harness::check_world;

#[test]
fn rules_are_gathered_once_each() {
    let world = World::from_yaml(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: view}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {to-view: 'true'}}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: b, labels: {to-view: 'true'}}
rules: [{verbs: [get], apiGroups: [''], resources: [pods]}, {verbs: [list], apiGroups: [''], resources: [pods]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: a, labels: {to-view: 'true'}}
rules: [{verbs: [get], apiGroups: [''], resources: [pods]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: other}
rules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*']}]
",
    );
    check_world(
        &ClusterRoleAggregationController,
        &world,
        "view",
        &expect![[r#"
            because 2 rules are selected
            patch clusterroles.rbac.authorization.k8s.io view: {"metadata":{"uid":"view-uid"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]},{"apiGroups":[""],"resources":["pods"],"verbs":["list"]}]}
        "#]],
    );
    let root = Target {
        resource: Resource::of::<ClusterRole>(),
        key: Key::cluster("view"),
    };
    testkit::laws::hold(&ClusterRoleAggregationController, &world, &root.key, &root);
}
