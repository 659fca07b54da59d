//! A table, and the laws.

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use testkit::World;

use super::ValidatingAdmissionPolicyStatus;
use crate::harness::check_world;

const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p, generation: 2}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments, replicasets, deployments/scale]}
  variables: [{name: count, expression: object.spec.replicas}]
  validations:
  - {expression: variables.count > 1, messageExpression: params.data.x}
  - {expression: variables.count > '1'}
  - {expression: object.spec.strategy.type == 'x', messageExpression: object.nothing}
";

#[test]
fn expressions_are_looked_at_for_each_kind() {
    let world = World::from_yaml(POLICY);
    check_world(
        &ValidatingAdmissionPolicyStatus,
        &world,
        "p",
        &expect![[r#"
            because 3 of its expressions do not fit
            status validatingadmissionpolicies.admissionregistration.k8s.io p: {"observedGeneration":2,"typeChecking":{"expressionWarnings":[{"fieldRef":"spec.validations[1].expression","warning":"apps/v1, Kind=Deployment: ERROR: <input>:1:17: found no matching overload for '_>_' applied to '(int, string)'\n | variables.count > '1'\n | ................^\n\napps/v1, Kind=ReplicaSet: ERROR: <input>:1:17: found no matching overload for '_>_' applied to '(int, string)'\n | variables.count > '1'\n | ................^\n"},{"fieldRef":"spec.validations[2].expression","warning":"apps/v1, Kind=ReplicaSet: ERROR: <input>:1:12: undefined field 'strategy'\n | object.spec.strategy.type == 'x'\n | ...........^\n"},{"fieldRef":"spec.validations[2].messageExpression","warning":"apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'nothing'\n | object.nothing\n | ......^\n\napps/v1, Kind=ReplicaSet: ERROR: <input>:1:7: undefined field 'nothing'\n | object.nothing\n | ......^\n"}]}}
        "#]],
    );
    let root = Target {
        resource: Resource::of::<ValidatingAdmissionPolicy>(),
        key: Key::cluster("p"),
    };
    testkit::laws::hold(&ValidatingAdmissionPolicyStatus, &world, &root.key, &root);
}
