//! What a server shows and makes by itself, beside what a stock server of v1.36 did, where the machine has that recorded.

use std::path::{Path, PathBuf};

use expect_test::expect;
use http::Method;
use serde_json::{Value, json};

use crate::harness::Cluster;

/// The recorded answers of a stock server; they are not part of the project.
fn recorded_text(name: &str) -> Option<String> {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    std::fs::read_to_string(root.join("live-1.36.2").join(name)).ok()
}

fn recorded(name: &str) -> Option<Value> {
    let text = recorded_text(name)?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// What is here only and what is there only, line by line.
fn sides(ours: &[String], theirs: &[String]) -> String {
    let only = |side: &str, all: &[String], others: &[String]| -> Vec<String> {
        let only = all.iter().filter(|one| !others.contains(one));
        only.map(|one| format!("only {side}: {one}")).collect()
    };
    [only("here", ours, theirs), only("there", theirs, ours)]
        .concat()
        .join("\n")
}

/// The lists of objects that a new server has, and where they are; roles and bindings are compared where they are made
/// (`access::bootstrap`), and the lease of a server is its own.
const LISTS: &[(&str, &str)] = &[
    ("apiservices", "/apis/apiregistration.k8s.io/v1"),
    ("configmaps", "/api/v1"),
    ("endpoints", "/api/v1"),
    ("flowschemas", "/apis/flowcontrol.apiserver.k8s.io/v1"),
    ("ipaddresses", "/apis/networking.k8s.io/v1"),
    ("namespaces", "/api/v1"),
    ("priorityclasses", "/apis/scheduling.k8s.io/v1"),
    (
        "prioritylevelconfigurations",
        "/apis/flowcontrol.apiserver.k8s.io/v1",
    ),
    ("servicecidrs", "/apis/networking.k8s.io/v1"),
    ("services", "/api/v1"),
];

/// The objects of a list by name, without what is of its server alone.
fn objects(list: &Value) -> Vec<(String, Value)> {
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<(String, Value)> = items
        .into_iter()
        .map(|mut object| {
            let metadata = object["metadata"].take();
            let name = metadata["name"].as_str().unwrap_or_default().to_owned();
            let kept = json!({
                "labels": metadata["labels"], "annotations": metadata["annotations"],
                "finalizers": metadata["finalizers"], "generation": metadata["generation"],
            });
            object["metadata"] = kept;
            for key in ["kind", "apiVersion", "status", "data"] {
                object.as_object_mut().map(|o| o.remove(key));
            }
            (name, object)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn difference(ours: &Value, theirs: &Value, at: &str, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                difference(&ours[key], &theirs[key], &format!("{at}.{key}"), out);
            }
        }
        _ if ours == theirs => {}
        _ => out.push(format!("{at}: {ours}, there {theirs}")),
    }
}

#[tokio::test]
async fn what_a_new_server_has_is_what_a_stock_server_has() {
    let cluster = Cluster::start().await;
    let mut found = Vec::new();
    for (resource, base) in LISTS {
        let Some(theirs) = recorded(&format!("objects_{resource}.json")) else {
            return;
        };
        let ours = cluster.admin.get(&format!("{base}/{resource}")).await.ok();
        let (ours, theirs) = (objects(&ours), objects(&theirs));
        let of = |all: &[(String, Value)], name: &str| {
            all.iter().find(|(n, _)| n == name).map(|(_, o)| o.clone())
        };
        for (name, object) in &ours {
            match of(&theirs, name) {
                None => found.push(format!("{resource} {name}: not there")),
                Some(other) => {
                    difference(object, &other, &format!("{resource} {name}"), &mut found);
                }
            }
        }
        for (name, _) in theirs.iter().filter(|(n, _)| of(&ours, n).is_none()) {
            found.push(format!("{resource} {name}: only there"));
        }
    }
    expect![[r#"
        apiservices v1.storagemigration.k8s.io: not there
        configmaps extension-apiserver-authentication: not there
        endpoints kubernetes: not there
        services kubernetes.spec.ports: [{"name":"https","port":443,"protocol":"TCP","targetPort":6443}], there [{"name":"https","port":443,"protocol":"TCP","targetPort":26443}]"#]]
    .assert_eq(&found.join("\n"));
}

#[tokio::test]
async fn what_is_served_is_what_a_stock_server_serves() {
    let cluster = Cluster::start().await;
    let Some(theirs) = recorded("root_paths.json") else {
        return;
    };
    let mut found = Vec::new();
    let paths = |value: &Value| -> Vec<String> {
        let all = value["paths"].as_array().cloned().unwrap_or_default();
        let all = all.iter().filter_map(|path| path.as_str());
        // What is said of one page of checks is said of all.
        let of_others = |path: &&str| path.starts_with("/healthz/") || path.starts_with("/livez/");
        all.filter(|path| !of_others(path))
            .map(str::to_owned)
            .collect()
    };
    let ours = paths(&cluster.admin.get("/").await.ok());
    let theirs = paths(&theirs);
    found.extend(
        ours.iter()
            .filter(|p| !theirs.contains(p))
            .map(|p| format!("only here: {p}")),
    );
    found.extend(
        theirs
            .iter()
            .filter(|p| !ours.contains(p))
            .map(|p| format!("only there: {p}")),
    );
    for (file, path) in [("api.json", "/api"), ("apis.json", "/apis")] {
        let (ours, theirs) = (cluster.admin.get(path).await.ok(), recorded(file));
        let mut theirs = theirs.unwrap_or_default();
        // Addresses are those of a server.
        theirs["serverAddressByClientCIDRs"] = ours["serverAddressByClientCIDRs"].clone();
        let names = |list: &Value| -> Vec<String> {
            let groups = list["groups"].as_array().cloned().unwrap_or_default();
            let name = |group: &Value| {
                let versions = group["versions"].as_array().cloned().unwrap_or_default();
                let versions: Vec<Value> = versions.iter().map(|v| v["version"].clone()).collect();
                format!("{} {}", group["name"], json!(versions))
            };
            groups.iter().map(name).collect()
        };
        let (own, others) = (names(&ours), names(&theirs));
        found.extend(
            own.iter()
                .filter(|g| !others.contains(g))
                .map(|g| format!("{path} only here: {g}")),
        );
        found.extend(
            others
                .iter()
                .filter(|g| !own.contains(g))
                .map(|g| format!("{path} only there: {g}")),
        );
    }
    expect![[r#"
        only here: /apis/storagemigration.k8s.io
        only here: /apis/storagemigration.k8s.io/v1
        only here: /readyz/etcd
        only here: /readyz/etcd-readiness
        only here: /readyz/store-writable
        only there: /readyz/poststarthook/apiservice-wait-for-first-sync
        only there: /readyz/poststarthook/peer-endpoint-reconciler-controller
        /apis only here: "storagemigration.k8s.io" ["v1"]"#]]
    .assert_eq(&found.join("\n"));
}

#[tokio::test]
async fn the_version_says_what_a_stock_server_says() {
    let cluster = Cluster::start().await;
    let Some(theirs) = recorded("version.json") else {
        return;
    };
    let mut found = Vec::new();
    let ours = cluster.admin.get("/version").await.ok();
    difference(&ours, &theirs, "version", &mut found);
    expect![[r#"
        version.compiler: "rustc", there "gc"
        version.emulationMinor: "37", there "36"
        version.gitCommit: "", there "$Format:%H$"
        version.gitVersion: "v1.37.0", there "v1.36.2"
        version.goVersion: "none", there "go1.26.6"
        version.minCompatibilityMinor: "36", there "35"
        version.minor: "37", there "36""#]]
    .assert_eq(&found.join("\n"));
}

#[tokio::test]
async fn the_checks_are_those_of_a_stock_server() {
    let cluster = Cluster::start().await;
    let Some(theirs) = recorded_text("readyz.txt") else {
        return;
    };
    let ours = cluster.admin.get("/readyz?verbose").await.text;
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    expect![[r#"
        only here: [+]etcd ok
        only here: [+]etcd-readiness ok
        only here: [+]store-writable ok
        only there: [+]poststarthook/peer-endpoint-reconciler-controller ok
        only there: [+]poststarthook/apiservice-wait-for-first-sync ok"#]]
    .assert_eq(&sides(&lines(&ours), &lines(&theirs)));
}

/// A resource as `kubectl api-resources -o wide` prints it: name, short names, version, scope, kind, verbs, categories.
fn resource_line(version: &str, resource: &Value) -> String {
    let list = |key: &str| -> String {
        let all = resource[key].as_array().cloned().unwrap_or_default();
        let mut all: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
        if key == "verbs" {
            all.sort_unstable();
        }
        all.join(",")
    };
    let columns = [
        resource["name"].as_str().unwrap_or_default().to_owned(),
        list("shortNames"),
        version.to_owned(),
        resource["namespaced"].to_string(),
        resource["kind"].as_str().unwrap_or_default().to_owned(),
        list("verbs"),
        list("categories"),
    ];
    columns.join("|")
}

#[tokio::test]
async fn the_resources_are_those_of_a_stock_server() {
    let cluster = Cluster::start().await;
    let Some(theirs) = recorded_text("api-resources.txt") else {
        return;
    };
    let mut lines = theirs.lines();
    let header = lines.next().expect("a header");
    let names = [
        "NAME",
        "SHORTNAMES",
        "APIVERSION",
        "NAMESPACED",
        "KIND",
        "VERBS",
        "CATEGORIES",
    ];
    let starts: Vec<usize> = names.iter().filter_map(|name| header.find(name)).collect();
    let cell = |line: &str, i: usize| {
        let end = starts.get(i + 1).copied().unwrap_or(line.len());
        let text = line.get(starts[i]..end.min(line.len())).unwrap_or_default();
        text.trim().to_owned()
    };
    let theirs: Vec<String> = lines
        .map(|line| {
            (0..names.len())
                .map(|i| cell(line, i))
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect();
    let groups = cluster.admin.get("/apis").await.ok();
    let groups = groups["groups"].as_array().cloned().unwrap_or_default();
    let preferred = groups.iter().map(|group| {
        let version = group["preferredVersion"]["groupVersion"].as_str();
        version.unwrap_or_default().to_owned()
    });
    let mut ours = Vec::new();
    for version in std::iter::once("v1".to_owned()).chain(preferred) {
        let root = if version == "v1" { "/api" } else { "/apis" };
        let list = cluster.admin.get(&format!("{root}/{version}")).await.ok();
        let all = list["resources"].as_array().cloned().unwrap_or_default();
        let main = all
            .iter()
            .filter(|r| !r["name"].as_str().unwrap_or_default().contains('/'));
        ours.extend(main.map(|resource| resource_line(&version, resource)));
    }
    expect![[r#"
        only here: clustertrustbundles||certificates.k8s.io/v1|false|ClusterTrustBundle|create,delete,deletecollection,get,list,patch,update,watch|
        only here: podcertificaterequests||certificates.k8s.io/v1|true|PodCertificateRequest|create,delete,deletecollection,get,list,patch,update,watch|
        only here: devicetaintrules||resource.k8s.io/v1|false|DeviceTaintRule|create,delete,deletecollection,get,list,patch,update,watch|
        only here: storageversionmigrations||storagemigration.k8s.io/v1|false|StorageVersionMigration|create,delete,deletecollection,get,list,patch,update,watch|"#]].assert_eq(&sides(&ours, &theirs));
}

#[tokio::test]
async fn the_table_of_namespaces_is_that_of_a_stock_server() {
    let cluster = Cluster::start().await;
    let Some(mut theirs) = recorded("table_namespaces.json") else {
        return;
    };
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = "/api/v1/namespaces";
    let ours = cluster.admin.send(Method::GET, path, &accept, "").await;
    let mut ours = ours.ok();
    for table in [&mut ours, &mut theirs] {
        table["metadata"].take();
        for row in table["rows"].as_array_mut().expect("rows") {
            // Ages, times, UIDs and versions are those of a server.
            row["cells"][2].take();
            let metadata = &mut row["object"]["metadata"];
            for key in ["uid", "resourceVersion", "creationTimestamp"] {
                metadata[key].take();
            }
            let fields = metadata["managedFields"].as_array_mut();
            for entry in fields.into_iter().flatten() {
                entry["time"].take();
                entry["manager"].take();
            }
        }
    }
    let mut found = Vec::new();
    difference(
        &ours["columnDefinitions"],
        &theirs["columnDefinitions"],
        "columns",
        &mut found,
    );
    let rows = |table: &Value| table["rows"].as_array().cloned().unwrap_or_default();
    assert_eq!(rows(&ours).len(), rows(&theirs).len());
    for (i, (ours, theirs)) in rows(&ours).iter().zip(rows(&theirs)).enumerate() {
        difference(ours, &theirs, &format!("row {i}"), &mut found);
    }
    expect![[r#""#]].assert_eq(&found.join("\n"));
}

/// The resources and sub-resources of aggregated discovery by their full names.
fn discovered(document: &Value) -> Vec<(String, Value)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = Vec::new();
    for group in list(&document["items"]) {
        let name = group["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        for version in list(&group["versions"]) {
            let of = version["version"].as_str().unwrap_or_default().to_owned();
            for mut resource in list(&version["resources"]) {
                let own = resource["resource"].as_str().unwrap_or_default().to_owned();
                let parts = list(&resource["subresources"].take());
                let full = format!("{name}/{of}/{own}");
                for part in parts {
                    let below = part["subresource"].as_str().unwrap_or_default();
                    out.push((format!("{full}/{below}"), part.clone()));
                }
                out.push((full, resource));
            }
        }
    }
    out
}

#[tokio::test]
async fn aggregated_discovery_is_that_of_a_stock_server() {
    let cluster = Cluster::start().await;
    let accept = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    )];
    let mut found = Vec::new();
    for (path, file) in [
        ("/api", "api_aggregated.json"),
        ("/apis", "apis_aggregated.json"),
    ] {
        let Some(theirs) = recorded(file) else {
            return;
        };
        let ours = cluster
            .admin
            .send(Method::GET, path, &accept, "")
            .await
            .ok();
        let (ours, theirs) = (discovered(&ours), discovered(&theirs));
        let names = |all: &[(String, Value)]| -> Vec<String> {
            all.iter().map(|(name, _)| name.clone()).collect()
        };
        found.push(sides(&names(&ours), &names(&theirs)));
        for (name, own) in &ours {
            if let Some((_, other)) = theirs.iter().find(|(other, _)| other == name) {
                difference(own, other, name, &mut found);
            }
        }
    }
    found.retain(|line| !line.is_empty());
    expect![[r#"
        only here: certificates.k8s.io/v1/clustertrustbundles
        only here: certificates.k8s.io/v1/podcertificaterequests/status
        only here: certificates.k8s.io/v1/podcertificaterequests
        only here: storage.k8s.io/v1/csinodes/status
        only here: resource.k8s.io/v1/devicetaintrules/status
        only here: resource.k8s.io/v1/devicetaintrules
        only here: storagemigration.k8s.io/v1/storageversionmigrations/status
        only here: storagemigration.k8s.io/v1/storageversionmigrations"#]]
    .assert_eq(&found.join("\n"));
}

#[tokio::test]
async fn the_index_of_openapi_is_that_of_a_stock_server() {
    let cluster = Cluster::start().await;
    let Some(theirs) = recorded("openapi_v3_index.json") else {
        return;
    };
    let paths = |index: &Value| -> Vec<String> {
        let all = index["paths"].as_object().cloned().unwrap_or_default();
        all.keys().cloned().collect()
    };
    let ours = cluster.admin.get("/openapi/v3").await.ok();
    expect![[r#"
        only here: apis/storagemigration.k8s.io
        only here: apis/storagemigration.k8s.io/v1"#]]
    .assert_eq(&sides(&paths(&ours), &paths(&theirs)));
}
