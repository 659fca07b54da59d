//! From the first condition to the last, and the laws.

use control::{Failure, Key, Resource, Target, Verb};
use expect_test::expect;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use testkit::World;

use super::StorageVersionMigrator;
use crate::harness::{check, check_world};

const CONFIG_MAPS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: d}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: b, namespace: e}
---
";

fn migration(name: &str, status: &str) -> String {
    format!(
        "
apiVersion: storagemigration.k8s.io/v1
kind: StorageVersionMigration
metadata: {{name: {name}, generation: 1}}
spec: {{resource: {{group: '', resource: configmaps}}}}
status: {status}
"
    )
}

fn running(more: &str) -> String {
    format!(
        "{{conditions: [{{type: Running, status: 'True', reason: MigrationRunning, message: The migration is running,
            lastTransitionTime: '2025-12-31T00:00:00Z'}}]{more}}}"
    )
}

fn root(name: &str) -> Target {
    Target {
        resource: Resource::of::<StorageVersionMigration>(),
        key: Key::cluster(name),
    }
}

#[test]
fn objects_are_written_anew_and_the_migration_says_so() {
    let check = |status: &str, expected: &expect_test::Expect| {
        let yaml = format!("{CONFIG_MAPS}{}", migration("m", status));
        check(&StorageVersionMigrator, &yaml, "m", expected);
    };
    check(
        "{}",
        &expect![[r#"
        because it begins
        update/status storageversionmigrations.storagemigration.k8s.io m
    "#]],
    );
    check(
        &running(""),
        &expect![[r#"
        because asking for the version of the store
        confirm version of configmaps
        because the store is at this version
        update/status storageversionmigrations.storagemigration.k8s.io m
    "#]],
    );
    check(
        &running(", resourceVersion: '102'"),
        &expect![[r#"
        because asking for all objects
        confirm all configmaps
        because 2 objects are written anew
        touch configmaps d/a at 101
        touch configmaps e/b at 102
        update/status storageversionmigrations.storagemigration.k8s.io m
    "#]],
    );
}

#[test]
fn one_migration_of_a_resource_at_a_time() {
    let yaml = format!(
        "{CONFIG_MAPS}{}---{}---{}",
        migration("a", "{}"),
        migration("b", "{}"),
        migration("r", &running(""))
    );
    check(
        &StorageVersionMigrator,
        &yaml,
        "a",
        &expect![[r#"
        because another migration of the resource is running
    "#]],
    );
    let yaml = format!(
        "{CONFIG_MAPS}{}---{}",
        migration("a", "{}"),
        migration("b", "{}")
    );
    check(
        &StorageVersionMigrator,
        &yaml,
        "b",
        &expect![[r#"
        because another migration of the resource comes first
    "#]],
    );
}

#[test]
fn what_cannot_be_migrated_fails() {
    check(
        &StorageVersionMigrator,
        &migration("m", &running("")),
        "m",
        &expect![[r#"
            because it fails: resource does not exist in discovery
            update/status storageversionmigrations.storagemigration.k8s.io m
        "#]],
    );
    let yaml = format!(
        "{CONFIG_MAPS}{}",
        migration("m", &running(", resourceVersion: '102'"))
    );
    let mut world = World::from_yaml(&yaml);
    let mut refused = |code: u16, reason: &str| {
        world.failure = Some(Failure {
            verb: Verb::Update,
            resource: Resource::of::<ConfigMap>(),
            code,
            reason: reason.to_owned(),
            message: "it is refused".to_owned(),
        });
        world.clone()
    };
    check_world(
        &StorageVersionMigrator,
        &refused(429, "TooManyRequests"),
        "m",
        &expect![[r#"
            because an object could not be written
            update/status storageversionmigrations.storagemigration.k8s.io m
        "#]],
    );
    check_world(
        &StorageVersionMigrator,
        &refused(422, "Invalid"),
        "m",
        &expect![[r#"
            because an object cannot be written
            update/status storageversionmigrations.storagemigration.k8s.io m
        "#]],
    );
}

fn custom(status: &str) -> String {
    format!(
        "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: things.example.org, generation: 3}}
spec:
  group: example.org
  names: {{plural: things, kind: Thing}}
  scope: Cluster
  versions: [{{name: v1, served: true, storage: false}}, {{name: v2, served: true, storage: true}}]
status:
  storedVersions: [v1, v2]
  conditions: [{{type: Established, status: 'True'}}{status}]
"
    )
}

#[test]
fn a_definition_names_what_is_stored() {
    let of = |status: &str| {
        migration("m", status).replace(
            "group: '', resource: configmaps",
            "group: example.org, resource: things",
        )
    };
    let begins = format!("{}---{}", custom(""), of("{}"));
    check(
        &StorageVersionMigrator,
        &begins,
        "m",
        &expect![[r#"
        because asking for the definition of its resource
        confirm customresourcedefinitions.apiextensions.k8s.io things.example.org
        because it begins
        patch/status customresourcedefinitions.apiextensions.k8s.io things.example.org: {"metadata":{"resourceVersion":"101"},"status":{"conditions":[{"status":"True","type":"Established"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"Migration m is running","observedGeneration":3,"reason":"MigrationRunning","status":"True","type":"StorageMigrating"}]}}
        update/status storageversionmigrations.storagemigration.k8s.io m
    "#]],
    );
    let done = "{resourceVersion: '1', conditions: [
        {type: Running, status: 'True', reason: MigrationRunning, message: x, lastTransitionTime: '2025-12-31T00:00:00Z'},
        {type: Succeeded, status: 'True', reason: x, message: x, lastTransitionTime: '2025-12-31T00:00:00Z'}]}";
    let ends = |generation: u8| {
        let migrating = format!(
            ", {{type: StorageMigrating, status: 'True', observedGeneration: {generation}}}"
        );
        format!("{}---{}", custom(&migrating), of(done))
    };
    check(
        &StorageVersionMigrator,
        &ends(3),
        "m",
        &expect![[r#"
        because asking for the definition of its resource
        confirm customresourcedefinitions.apiextensions.k8s.io things.example.org
        because it has ended
        patch/status customresourcedefinitions.apiextensions.k8s.io things.example.org: {"metadata":{"resourceVersion":"101"},"status":{"conditions":[{"status":"True","type":"Established"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The migration has succeeded and the stored versions have been updated","observedGeneration":3,"reason":"MigrationSucceeded","status":"False","type":"StorageMigrating"}],"storedVersions":["v2"]}}
        update/status storageversionmigrations.storagemigration.k8s.io m
    "#]],
    );
    check(
        &StorageVersionMigrator,
        &ends(2),
        "m",
        &expect![[r#"
        because asking for the definition of its resource
        confirm customresourcedefinitions.apiextensions.k8s.io things.example.org
        because it has ended
        patch/status customresourcedefinitions.apiextensions.k8s.io things.example.org: {"metadata":{"resourceVersion":"101"},"status":{"conditions":[{"status":"True","type":"Established"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"The migration has succeeded but the stored versions have not been updated due to a generation mismatch","observedGeneration":3,"reason":"MigrationSucceeded","status":"False","type":"StorageMigrating"}]}}
        update/status storageversionmigrations.storagemigration.k8s.io m
    "#]],
    );
}

#[test]
fn laws() {
    let yaml = format!("{CONFIG_MAPS}{}", migration("m", "{}"));
    let world = World::from_yaml(&yaml);
    let root = root("m");
    testkit::laws::hold(&StorageVersionMigrator, &world, &root.key, &root);
    let rest = testkit::laws::settle(&StorageVersionMigrator, world, &root.key, &root);
    let status = &rest.objects[&root]["status"];
    expect![[r#"
        {
          "conditions": [
            {
              "lastTransitionTime": "2026-01-01T00:00:00Z",
              "message": "Migration completed",
              "observedGeneration": 1,
              "reason": "MigrationCompleted",
              "status": "False",
              "type": "Running"
            },
            {
              "lastTransitionTime": "2026-01-01T00:00:00Z",
              "message": "Migration completed",
              "reason": "StorageVersionMigrationSucceeded",
              "status": "True",
              "type": "Succeeded"
            }
          ],
          "resourceVersion": "104"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(status).expect("encodes"));
}
