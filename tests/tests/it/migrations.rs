//! Storage migrations, with the real kubectl: objects are written anew in the version of today, and the definition says so.

use cluster_tests::{Cluster, KUBECTLS};

fn definition(group: &str, stored: &str) -> String {
    let version = |name: &str| {
        let storage = name == stored;
        format!(
            "{{name: {name}, served: true, storage: {storage}, schema: {{openAPIV3Schema: {{type: object, \
             x-kubernetes-preserve-unknown-fields: true}}}}}}"
        )
    };
    let versions = [version("v1"), version("v2")].join(", ");
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
         metadata: {{name: things.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  \
         names: {{plural: things, singular: thing, kind: Thing}}\n  versions: [{versions}]\n"
    )
}

fn migration(name: &str, group: &str, resource: &str) -> String {
    format!(
        "apiVersion: storagemigration.k8s.io/v1\nkind: StorageVersionMigration\n\
         metadata: {{name: {name}}}\nspec: {{resource: {{group: '{group}', resource: {resource}}}}}\n"
    )
}

#[test]
fn objects_are_written_anew() {
    let cluster = Cluster::shared();
    let minor = KUBECTLS[0];
    let space = cluster.namespace("migrations", minor);
    let run = |arguments: &[&str]| space.kubectl(arguments).ok();
    let apply = |text: &str| space.input(&["apply", "-f", "-"], text).ok();
    let group = "migrations.example.com";
    let crd = format!("crd/things.{group}");
    apply(&definition(group, "v1"));
    space.wait_established(&crd);
    for name in ["a", "b"] {
        apply(&format!(
            "apiVersion: {group}/v1\nkind: Thing\nmetadata: {{name: {name}}}\nspec: {{size: 1}}\n"
        ));
    }
    apply(&definition(group, "v2"));
    let stored = |of: &str| run(&["get", &crd, "-o", &format!("jsonpath={of}")]);
    assert_eq!(stored("{.status.storedVersions}"), r#"["v1","v2"]"#);
    let version = |name: &str| {
        let of = "jsonpath={.metadata.resourceVersion}";
        run(&["get", &format!("thing.{group}/{name}"), "-o", of])
    };
    let before = [version("a"), version("b")];
    apply(&migration("things", group, "things"));
    let things = "storageversionmigration/things";
    space.wait(&[things], "condition=succeeded");
    space.wait(&[things], "condition=running=false");
    assert_eq!(stored("{.status.storedVersions}"), r#"["v2"]"#);
    let of = r#"{.status.conditions[?(@.type=="StorageMigrating")].message}"#;
    assert_eq!(
        stored(of),
        "The migration has succeeded and the stored versions have been updated"
    );
    for (name, before) in ["a", "b"].into_iter().zip(&before) {
        assert_ne!(version(name), *before, "{name} is written anew");
    }
    // Nothing is stored otherwise than it would be today: nothing is written.
    let map = "jsonpath={.metadata.resourceVersion}";
    let root = || run(&["get", "configmap/kube-root-ca.crt", "-o", map]);
    let before = root();
    apply(&migration("maps", "", "configmaps"));
    space.wait(&["storageversionmigration/maps"], "condition=succeeded");
    assert_eq!(root(), before);
    let shown = run(&["get", "storageversionmigrations"]);
    assert!(shown.contains("maps     configmaps"), "{shown}");
    run(&["delete", "storageversionmigration", "things", "maps"]);
    run(&["delete", &crd]);
}
