//! What a server shows and makes by itself, beside what a stock server of v1.36 did, where the machine has that recorded.

use std::path::{Path, PathBuf};

use expect_test::expect;
use serde_json::{Value, json};

use crate::harness::Cluster;

/// The recorded answers of a stock server; they are not part of the project.
fn recorded(name: &str) -> Option<Value> {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let text = std::fs::read_to_string(root.join("live-1.36.2").join(name)).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
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
        configmaps kube-apiserver-legacy-service-account-token-tracking: only there
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
        // The checks are of the parts of a server: ours has others.
        let is_check = |path: &&str| {
            let mut checks = ["/healthz/", "/livez/", "/readyz/"].iter();
            checks.any(|check| path.starts_with(check))
        };
        let all = all.iter().filter_map(|path| path.as_str());
        all.filter(|path| !is_check(path))
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
        only there: /flagz
        only there: /metrics/slis
        only there: /statusz
        /apis only here: "storagemigration.k8s.io" ["v1"]"#]]
    .assert_eq(&found.join("\n"));
}
