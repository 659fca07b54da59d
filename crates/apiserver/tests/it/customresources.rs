//! Kinds that users define, from their definition to their end.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Cluster};

pub(crate) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const ROOT: &str = "/apis/stable.example.com/v1";
const TABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

fn crontab() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "cronSpec": {"type": "string", "pattern": "^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$"},
                        "image": {"type": "string"},
                        "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
                        "color": {"type": "string", "enum": ["red", "blue"]},
                        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {
                                "name": {"type": "string"}, "port": {"x-kubernetes-int-or-string": true}}}},
                    }},
                    "status": {"type": "object", "properties": {
                        "replicas": {"type": "integer"}, "labelSelector": {"type": "string"}, "message": {"type": "string"}}},
                }}},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.labelSelector"}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [
                    {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}],
            }],
        },
    })
}

fn tab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

/// Waits until a definition has a condition.
async fn until(admin: &Client, name: &str, condition: &str, status: &str) -> Value {
    for _ in 0..200 {
        let found = admin.get(&format!("{CRDS}/{name}")).await;
        let conditions = found.body["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if conditions
            .iter()
            .any(|c| c["type"] == condition && c["status"] == status)
        {
            return found.body;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} is never {condition}={status}");
}

pub(crate) async fn established(cluster: &Cluster, definition: Value) {
    let name = definition["metadata"]["name"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    cluster.admin.post(CRDS, definition).await.ok();
    until(&cluster.admin, &name, "Established", "True").await;
}

#[tokio::test]
async fn a_defined_kind_is_served() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    admin.get(TABS).await.refused(404);
    established(&cluster, crontab()).await;
    let definition = admin
        .get(&format!("{CRDS}/crontabs.stable.example.com"))
        .await
        .ok();
    assert_eq!(
        definition["status"]["acceptedNames"]["listKind"],
        "CronTabList"
    );
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    let made = admin.post(TABS, tab("a", json!({"cronSpec": "* * * * */5", "image": "x", "ports": [{"name": "p", "port": 80}]}))).await.ok();
    assert_eq!(made["spec"]["replicas"], 1);
    assert_eq!(made["metadata"]["generation"], 1);
    let list = admin.get(TABS).await.ok();
    assert_eq!(
        (&list["kind"], list["items"].as_array().map(Vec::len)),
        (&json!("CronTabList"), Some(1))
    );
    let got = admin.get(&format!("{TABS}/a")).await.ok();
    assert_eq!(got, made);
    let refused = admin
        .post(
            TABS,
            tab(
                "b",
                json!({"cronSpec": "never", "replicas": 11, "color": "green"}),
            ),
        )
        .await
        .refused(422);
    expect_test::expect![[r#"CronTab.stable.example.com "b" is invalid: [spec.color: Unsupported value: "green": supported values: "red", "blue", spec.cronSpec: Invalid value: "never": spec.cronSpec in body should match '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$', spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10]"#]].assert_eq(refused.message());
}

#[tokio::test]
async fn a_default_of_the_status_is_there_from_the_start() {
    let cluster = Cluster::start().await;
    let mut definition = crontab();
    let version = &mut definition["spec"]["versions"][0];
    version["schema"]["openAPIV3Schema"]["properties"]["status"] = json!({
        "type": "object", "default": {"phase": "Waiting"}, "properties": {"phase": {"type": "string"}},
    });
    established(&cluster, definition).await;
    let mut given = tab(
        "a",
        json!({"cronSpec": "* * * * */5", "image": "x", "replicas": 3.0}),
    );
    given["status"] = json!({"phase": "Done"});
    for query in ["?dryRun=All", ""] {
        let path = format!("{TABS}{query}");
        let made = cluster.admin.post(&path, given.clone()).await.ok();
        assert_eq!(made["status"], json!({"phase": "Waiting"}), "{query}");
        assert_eq!(made["spec"]["replicas"].to_string(), "3");
        let owned = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
        assert_eq!(owned["."], json!({}), "{owned}");
    }
}

#[tokio::test]
async fn unknown_fields_are_pruned_told_or_refused() {
    let cluster = Cluster::start().await;
    established(&cluster, crontab()).await;
    let object = || tab("a", json!({"cronSpec": "* * * * */5", "other": 1}));
    let strict = format!("{TABS}?fieldValidation=Strict");
    let refused = cluster.admin.post(&strict, object()).await.refused(400);
    expect_test::expect![[r#"CronTab in version "v1" cannot be handled as a CronTab: strict decoding error: unknown field "spec.other""#]].assert_eq(refused.message());
    let warned = cluster.admin.post(TABS, object()).await;
    assert_eq!(
        warned.headers.get("warning").and_then(|w| w.to_str().ok()),
        Some(r#"299 - "unknown field \"spec.other\"""#)
    );
    assert_eq!(warned.ok()["spec"].get("other"), None);
    let mut applied = object();
    applied["apiVersion"] = json!("stable.example.com/v1");
    applied["kind"] = json!("CronTab");
    let path = format!("{TABS}/a?fieldManager=me&fieldValidation=Strict");
    let refused = cluster.admin.patch(&path, "apply", applied).await;
    assert!(
        refused
            .text
            .contains(".spec.other: field not declared in schema"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn patches_apply_and_scale() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    established(&cluster, crontab()).await;
    admin.post(TABS, tab("a", json!({"image": "x"}))).await.ok();
    let path = format!("{TABS}/a");
    let merged = admin
        .patch(
            &path,
            "merge",
            json!({"spec": {"image": "y", "ports": [{"name": "p"}]}}),
        )
        .await
        .ok();
    assert_eq!(
        (&merged["spec"]["image"], &merged["metadata"]["generation"]),
        (&json!("y"), &json!(2))
    );
    admin
        .patch(&path, "strategic", json!({"spec": {"image": "z"}}))
        .await
        .refused(415);
    let applied = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "spec": {"ports": [{"name": "q", "port": "http"}]}});
    let applied = admin
        .patch(&format!("{path}?fieldManager=me"), "apply", applied)
        .await
        .ok();
    assert_eq!(
        applied["spec"]["ports"],
        json!([{"name": "p"}, {"name": "q", "port": "http"}])
    );
    let scale = admin.get(&format!("{path}/scale")).await.ok();
    assert_eq!(scale["spec"], json!({"replicas": 1}));
    admin
        .patch(
            &format!("{path}/scale"),
            "merge",
            json!({"spec": {"replicas": 3}}),
        )
        .await
        .ok();
    let status =
        json!({"status": {"replicas": 3, "labelSelector": "app=x"}, "spec": {"image": "not"}});
    let told = admin
        .patch(&format!("{path}/status"), "merge", status)
        .await
        .ok();
    assert_eq!(
        (&told["spec"]["image"], &told["spec"]["replicas"]),
        (&json!("y"), &json!(3))
    );
    assert_eq!(told["metadata"]["generation"], 4);
    let scale = admin.get(&format!("{path}/scale")).await.ok();
    assert_eq!(scale["status"], json!({"replicas": 3, "selector": "app=x"}));
    let refused = admin
        .put(&path, tab("a", json!({"image": "z"})))
        .await
        .refused(422);
    assert!(
        refused
            .message()
            .contains("metadata.resourceVersion: Invalid value"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn selectable_fields_and_columns() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    established(&cluster, crontab()).await;
    for (name, color) in [("a", "red"), ("b", "blue")] {
        admin
            .post(
                TABS,
                tab(name, json!({"color": color, "cronSpec": "* * * * *"})),
            )
            .await
            .ok();
    }
    let red = admin
        .get(&format!("{TABS}?fieldSelector=spec.color%3Dred"))
        .await
        .ok();
    assert_eq!(red["items"].as_array().map(Vec::len), Some(1));
    admin
        .get(&format!("{TABS}?fieldSelector=spec.image%3Dred"))
        .await
        .refused(400);
    let table = admin
        .send(
            Method::GET,
            TABS,
            &[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")],
            "",
        )
        .await
        .ok();
    let names: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(names, ["Name", "Spec", "Replicas", "Age"]);
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..3],
        [json!("a"), json!("* * * * *"), json!(1)]
    );
}

#[tokio::test]
async fn discovery_and_openapi_follow() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let before = admin.get("/openapi/v3").await.ok();
    assert_eq!(before["paths"].get("apis/stable.example.com/v1"), None);
    established(&cluster, crontab()).await;
    let group = admin.get("/apis/stable.example.com").await.ok();
    assert_eq!(
        group["preferredVersion"]["groupVersion"],
        "stable.example.com/v1"
    );
    let resources = admin.get(ROOT).await.ok();
    let names: Vec<&str> = resources["resources"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|r| r["name"].as_str())
        .collect();
    assert_eq!(names, ["crontabs", "crontabs/scale", "crontabs/status"]);
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let all = admin
        .send(Method::GET, "/apis", &[("accept", accept)], "")
        .await
        .ok();
    let own = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["metadata"]["name"] == "stable.example.com")
        .unwrap();
    assert_eq!(
        own["versions"][0]["resources"][0]["responseKind"],
        json!({"group": "stable.example.com", "version": "v1", "kind": "CronTab"})
    );
    let after = admin.get("/openapi/v3").await.ok();
    let url = after["paths"]["apis/stable.example.com/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let document = admin.get(&url).await.ok();
    let schema = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(
        schema["properties"]["spec"]["properties"]["image"]["type"],
        "string"
    );
    assert_eq!(
        schema["x-kubernetes-group-version-kind"][0]["kind"],
        "CronTab"
    );
    let second = admin.get("/openapi/v2").await.ok();
    assert_eq!(
        second["definitions"]["com.example.stable.v1.CronTab"]["properties"]["spec"]["properties"]
            ["image"]["type"],
        "string"
    );
    let version = second["definitions"]["com.example.stable.v1.CronTab"]["properties"]["apiVersion"]
        ["description"]
        .as_str();
    assert!(version.is_some_and(|text| text.starts_with("APIVersion defines")));
}

#[tokio::test]
async fn clients_of_the_older_document_see_an_open_kind_as_an_object_alone() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut open = crontab();
    open["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-preserve-unknown-fields"] =
        json!(true);
    established(&cluster, open).await;
    let second = admin.get("/openapi/v2").await.ok();
    let schema = &second["definitions"]["com.example.stable.v1.CronTab"];
    assert_eq!(
        (&schema["type"], schema.get("properties")),
        (&json!("object"), None)
    );
    assert_eq!(schema.get("x-kubernetes-preserve-unknown-fields"), None);
}

#[tokio::test]
async fn a_deleted_definition_takes_its_objects_along() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    established(&cluster, crontab()).await;
    let held = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab",
        "metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    admin.post(TABS, held).await.ok();
    admin.post(TABS, tab("a", json!({}))).await.ok();
    let path = format!("{CRDS}/crontabs.stable.example.com");
    admin.delete(&path).await.ok();
    until(admin, "crontabs.stable.example.com", "Terminating", "True").await;
    let refused = admin.post(TABS, tab("b", json!({}))).await.refused(403);
    assert!(
        refused
            .message()
            .ends_with("create not allowed while custom resource definition is terminating")
    );
    admin
        .patch(
            &format!("{TABS}/held"),
            "merge",
            json!({"metadata": {"finalizers": null}}),
        )
        .await
        .ok();
    for _ in 0..200 {
        if admin.get(&path).await.code == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    admin.get(&path).await.refused(404);
    for _ in 0..200 {
        if admin.get(TABS).await.code == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the kind is still served");
}

/// Waits until a definition is gone.
async fn gone(admin: &Client, name: &str) {
    for _ in 0..500 {
        if admin.get(&format!("{CRDS}/{name}")).await.code == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} does not go");
}

#[tokio::test]
async fn nobody_is_asked_whether_objects_may_go_with_their_definition() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    established(&cluster, crontab()).await;
    admin.post(TABS, tab("a", json!({}))).await.ok();
    let hooks = json!({"metadata": {"name": "a"}, "webhooks": [{
        "name": "gone.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "default", "name": "gone"}},
        "rules": [{"apiGroups": ["stable.example.com"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}],
    }]});
    let configurations = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    admin.post(configurations, hooks).await.ok();
    admin.delete(&format!("{TABS}/a")).await.refused(500);
    let name = "crontabs.stable.example.com";
    admin.delete(&format!("{CRDS}/{name}")).await.ok();
    gone(admin, name).await;
}

#[tokio::test]
async fn a_definition_that_takes_the_place_of_a_kind_of_the_program_deletes_nothing() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let policies = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let policy = json!({"metadata": {"name": "a"}, "spec": {"podSelector": {}}});
    admin.post(policies, policy).await.ok();
    let name = "networkpolicies.networking.k8s.io";
    let mut definition = crontab();
    definition["metadata"] = json!({"name": name,
        "annotations": {"api-approved.kubernetes.io": "unapproved, a mistake"}});
    definition["spec"]["group"] = json!("networking.k8s.io");
    definition["spec"]["names"] = json!({"plural": "networkpolicies", "kind": "NetworkPolicy"});
    established(&cluster, definition).await;
    admin.delete(&format!("{CRDS}/{name}")).await.ok();
    gone(admin, name).await;
    admin.get(&format!("{policies}/a")).await.ok();
}

#[tokio::test]
async fn a_name_is_had_once() {
    let cluster = Cluster::start().await;
    established(&cluster, crontab()).await;
    let mut other = crontab();
    other["metadata"]["name"] = "others.stable.example.com".into();
    other["spec"]["names"] = json!({"plural": "others", "kind": "Other", "shortNames": ["ct"]});
    cluster.admin.post(CRDS, other).await.ok();
    let refused = until(
        &cluster.admin,
        "others.stable.example.com",
        "NamesAccepted",
        "False",
    )
    .await;
    let conditions = refused["status"]["conditions"].as_array().unwrap();
    let why = conditions
        .iter()
        .find(|c| c["type"] == "NamesAccepted")
        .unwrap();
    assert_eq!(
        (&why["reason"], &why["message"]),
        (
            &json!("ShortNamesConflict"),
            &json!("\"ct\" is already in use")
        )
    );
    cluster
        .admin
        .delete(&format!("{CRDS}/crontabs.stable.example.com"))
        .await
        .ok();
    until(
        &cluster.admin,
        "others.stable.example.com",
        "Established",
        "True",
    )
    .await;
}

#[tokio::test]
async fn versions_differ_in_name_only() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut definition = crontab();
    let mut old = definition["spec"]["versions"][0].clone();
    (old["name"], old["storage"]) = ("v1beta1".into(), false.into());
    old["deprecated"] = true.into();
    definition["spec"]["versions"]
        .as_array_mut()
        .unwrap()
        .push(old);
    established(&cluster, definition.clone()).await;
    admin.post(TABS, tab("a", json!({"image": "x"}))).await.ok();
    let beta = TABS.replace("/v1/", "/v1beta1/");
    let seen = admin.get(&format!("{beta}/a")).await;
    assert!(
        seen.headers
            .get("warning")
            .unwrap()
            .to_str()
            .unwrap()
            .contains("stable.example.com/v1beta1 CronTab is deprecated")
    );
    assert_eq!(seen.ok()["apiVersion"], "stable.example.com/v1beta1");
    let listed = admin.get(&beta).await.ok();
    assert_eq!(listed["items"][0]["spec"]["image"], "x");
    // The storage version may change: what is stored is shown in whatever version is asked for.
    let mut now = admin
        .get(&format!("{CRDS}/crontabs.stable.example.com"))
        .await
        .ok();
    now["spec"]["versions"][0]["storage"] = false.into();
    now["spec"]["versions"][1]["storage"] = true.into();
    let now = admin
        .put(&format!("{CRDS}/crontabs.stable.example.com"), now)
        .await
        .ok();
    assert_eq!(now["status"]["storedVersions"], json!(["v1", "v1beta1"]));
    assert_eq!(admin.get(TABS).await.ok()["items"][0]["spec"]["image"], "x");
    let all = admin.get(&format!("{TABS}/a")).await.ok();
    assert_eq!(all["apiVersion"], "stable.example.com/v1");
}

/// CVE-2019-11247: an object without a namespace is not reached by a path with one.
#[tokio::test]
async fn cve_2019_11247_scope_of_custom_resources() {
    let cluster = Cluster::start().await;
    let mut definition = crontab();
    definition["spec"]["scope"] = "Cluster".into();
    established(&cluster, definition).await;
    let all = format!("{ROOT}/crontabs");
    cluster.admin.post(&all, tab("a", json!({}))).await.ok();
    cluster.admin.get(&format!("{all}/a")).await.ok();
    cluster.admin.get(&format!("{TABS}/a")).await.refused(404);
    cluster.admin.get(TABS).await.refused(404);
    cluster
        .admin
        .delete(&format!("{TABS}/a"))
        .await
        .refused(404);
}

/// CVE-2022-3162: a list of one custom resource does not reach another of its group.
#[tokio::test]
async fn cve_2022_3162_lists_stay_in_their_resource() {
    let cluster = Cluster::start().await;
    established(&cluster, crontab()).await;
    let mut other = crontab();
    other["metadata"]["name"] = "crontabsecrets.stable.example.com".into();
    other["spec"]["names"] = json!({"plural": "crontabsecrets", "kind": "CronTabSecret"});
    established(&cluster, other).await;
    let secrets = TABS.replace("crontabs", "crontabsecrets");
    let mut secret = tab("s", json!({}));
    secret["kind"] = "CronTabSecret".into();
    cluster.admin.post(&secrets, secret).await.ok();
    assert_eq!(
        cluster.admin.get(&format!("{ROOT}/crontabs")).await.ok()["items"],
        json!([])
    );
    for name in ["..%2Fcrontabsecrets%2Fdefault%2Fs", "..", "%2E%2E"] {
        cluster
            .admin
            .get(&format!("{TABS}/{name}"))
            .await
            .refused(400);
    }
}
