//! The shape of ReplicationControllers; the decisions are tested with ReplicaSets.

use expect_test::expect;

use super::ReplicationControllerController;
use crate::harness::check;

#[test]
fn pods_are_made_and_counted() {
    check(
        &ReplicationControllerController,
        "
apiVersion: v1
kind: ReplicationController
metadata: {name: redis, namespace: default, uid: redis-uid, generation: 2}
spec:
  replicas: 2
  selector: {app: redis}
  template:
    metadata: {labels: {app: redis}}
    spec: {containers: [{name: c, image: i}]}
status: {replicas: 2, observedGeneration: 1}
---
apiVersion: v1
kind: Pod
metadata:
  name: redis-a
  namespace: default
  labels: {app: redis}
  ownerReferences:
  - {apiVersion: v1, kind: ReplicationController, name: redis, uid: redis-uid, controller: true}
status:
  phase: Running
  conditions: [{type: Ready, status: 'True', lastTransitionTime: '2025-12-31T00:00:00Z'}]
",
        "default/redis",
        &expect![[r#"
            because 1 of 2 replicas are there, creating 1
            create pods default/redis-hvls4
              then SuccessfulCreate: Created pod: redis-hvls4
            status replicationcontrollers default/redis: {"availableReplicas":1,"fullyLabeledReplicas":1,"observedGeneration":2,"readyReplicas":1,"replicas":1}
        "#]],
    );
}
