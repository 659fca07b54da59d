//! The OpenAPI documents against the reference of the release before, where the machine has it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use expect_test::expect;
use machinery::openapi::{ServedResource, ServedSubresource, v2, v3};
use serde_json::{Map, Value};

use super::{definition_name, definitions};

fn reference(path: &str) -> Option<Value> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let text = std::fs::read_to_string(root.join(path)).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

fn words(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What the reference serves in a group version, from its discovery.
fn served(group: &str, version: &str) -> Option<Vec<ServedResource>> {
    let file = match group {
        "" => format!("api__{version}"),
        group => format!("apis__{group}__{version}"),
    };
    let list = reference(&format!("discovery-1.36/{file}.json"))?;
    let mut out: Vec<ServedResource> = Vec::new();
    let text =
        |entry: &Value, key: &str, default: &str| entry[key].as_str().unwrap_or(default).to_owned();
    for entry in list["resources"].as_array().unwrap() {
        let name = text(entry, "name", "");
        let (own_group, own_version) =
            (text(entry, "group", group), text(entry, "version", version));
        let kind = text(entry, "kind", "");
        let definition = definition_name(&own_group, &own_version, &kind);
        let verbs = words(&entry["verbs"]);
        match name.split_once('/') {
            None => out.push(ServedResource {
                group: group.to_owned(),
                version: version.to_owned(),
                kind,
                plural: name,
                namespaced: entry["namespaced"] == true,
                verbs,
                definition,
                merges_plainly: false,
                subresources: Vec::new(),
            }),
            Some((plural, sub)) => {
                let parent = out.iter_mut().find(|r| r.plural == plural).unwrap();
                parent.subresources.push(ServedSubresource {
                    name: sub.to_owned(),
                    group: own_group,
                    version: own_version,
                    kind,
                    definition,
                    verbs,
                });
            }
        }
    }
    Some(out)
}

/// What of an operation must agree.
fn essence(operation: &Value) -> Value {
    let mut out = Map::new();
    for key in [
        "operationId",
        "description",
        "tags",
        "x-kubernetes-action",
        "x-kubernetes-group-version-kind",
    ] {
        out.insert(key.to_owned(), operation[key].clone());
    }
    let names = |list: &Value| -> Value {
        let list = list.as_array().into_iter().flatten();
        list.map(|p| p["name"].clone()).collect()
    };
    out.insert("parameters".to_owned(), names(&operation["parameters"]));
    let schema = |content: &Value| {
        let first = content["content"]
            .as_object()
            .and_then(|c| c.values().next().cloned());
        first.unwrap_or_default()
    };
    out.insert("body".to_owned(), schema(&operation["requestBody"]));
    let responses = operation["responses"].as_object().into_iter().flatten();
    let responses = responses.map(|(code, answer)| (code.clone(), schema(answer)));
    out.insert("responses".to_owned(), Value::Object(responses.collect()));
    Value::Object(out)
}

fn compare_paths(own: &Value, theirs: &Value, wrong: &mut Vec<String>) {
    let paths = |doc: &Value| {
        doc["paths"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    for path in paths(own).symmetric_difference(&paths(theirs)) {
        wrong.push(format!("path {path}"));
    }
    for path in paths(own).intersection(&paths(theirs)) {
        let (own, theirs) = (&own["paths"][path], &theirs["paths"][path]);
        let methods = |item: &Value| {
            item.as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<BTreeSet<_>>()
        };
        if methods(own) != methods(theirs) {
            wrong.push(format!(
                "{path}: {:?} instead of {:?}",
                methods(own),
                methods(theirs)
            ));
        }
        for method in methods(own).intersection(&methods(theirs)) {
            let agree = match method.as_str() {
                "parameters" => own[method] == theirs[method],
                _ => essence(&own[method]) == essence(&theirs[method]),
            };
            if !agree {
                wrong.push(format!(
                    "{path} {method}: {} instead of {}",
                    essence(&own[method]),
                    essence(&theirs[method])
                ));
            }
        }
    }
}

/// Fields, references, extensions and required fields; descriptions and new fields may differ between releases.
fn compare_schemas(own: &Value, theirs: &Value, wrong: &mut Vec<String>) {
    let (own, theirs) = (
        &own["components"]["schemas"],
        &theirs["components"]["schemas"],
    );
    for (name, theirs) in theirs.as_object().unwrap() {
        let Some(own) = own.get(name) else {
            wrong.push(format!("schema {name} is missing"));
            continue;
        };
        let lists = name.ends_with("List");
        for (key, value) in theirs.as_object().unwrap() {
            let meta = name.contains("meta.v1") && key.ends_with("group-version-kind");
            let told = ["properties", "description", "required"].contains(&key.as_str());
            if !told && !meta && own[key] != *value {
                wrong.push(format!("{name}.{key}: {} instead of {value}", own[key]));
            }
        }
        let required = |node: &Value| {
            words(&node["required"])
                .into_iter()
                .collect::<BTreeSet<_>>()
        };
        if required(own) != required(theirs) {
            wrong.push(format!("{name}: requires {:?}", required(own)));
        }
        for (field, theirs) in theirs["properties"].as_object().into_iter().flatten() {
            let Some(own) = own["properties"].get(field) else {
                wrong.push(format!("{name}: field {field} is missing"));
                continue;
            };
            for (key, value) in theirs.as_object().unwrap() {
                let by_hand = lists && ["metadata", "items"].contains(&field.as_str());
                if key != "description" && !by_hand && own[key] != *value {
                    wrong.push(format!(
                        "{name}.{field}.{key}: {} instead of {value}",
                        own[key]
                    ));
                }
            }
        }
    }
}

/// Method, operation and parameters of every path, in lines.
fn outline(document: &Value) -> String {
    let mut out = String::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if method != "parameters" {
                let id = operation["operationId"].as_str().unwrap_or_default();
                out.push_str(&format!("{method} {path} {id}\n"));
            }
        }
    }
    out
}

#[test]
fn a_document_has_all_operations_and_schemas() {
    let verbs = ["create", "get", "list", "update", "watch"];
    let lease = ServedResource {
        group: "coordination.k8s.io".to_owned(),
        version: "v1".to_owned(),
        kind: "Lease".to_owned(),
        plural: "leases".to_owned(),
        namespaced: true,
        verbs: verbs.map(str::to_owned).to_vec(),
        definition: definition_name("coordination.k8s.io", "v1", "Lease"),
        merges_plainly: false,
        subresources: Vec::new(),
    };
    let document = v3::group_version_document("coordination.k8s.io", "v1", &[lease], &definitions);
    expect![[r#"
        get /apis/coordination.k8s.io/v1/ getCoordinationV1APIResources
        get /apis/coordination.k8s.io/v1/leases listCoordinationV1LeaseForAllNamespaces
        get /apis/coordination.k8s.io/v1/namespaces/{namespace}/leases listCoordinationV1NamespacedLease
        post /apis/coordination.k8s.io/v1/namespaces/{namespace}/leases createCoordinationV1NamespacedLease
        get /apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name} readCoordinationV1NamespacedLease
        put /apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name} replaceCoordinationV1NamespacedLease
        get /apis/coordination.k8s.io/v1/watch/leases watchCoordinationV1LeaseListForAllNamespaces
        get /apis/coordination.k8s.io/v1/watch/namespaces/{namespace}/leases watchCoordinationV1NamespacedLeaseList
        get /apis/coordination.k8s.io/v1/watch/namespaces/{namespace}/leases/{name} watchCoordinationV1NamespacedLease
    "#]].assert_eq(&outline(&document));
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["io.k8s.api.coordination.v1.Lease"]["properties"]["spec"];
    assert_eq!(
        spec["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.coordination.v1.LeaseSpec"
    );
    assert!(
        spec["description"]
            .as_str()
            .is_some_and(|d| d.contains("specification"))
    );
}

const GROUPS: [&str; 11] = [
    "",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "batch",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "networking.k8s.io",
];

#[test]
fn v3_documents_agree_with_the_reference() {
    let mut wrong = Vec::new();
    let resources: Option<Vec<_>> = GROUPS.iter().map(|group| served(group, "v1")).collect();
    let Some(resources) = resources else { return };
    let resources = resources.concat();
    for group in GROUPS {
        let own = v3::group_version_document(group, "v1", &resources, &definitions);
        let file = match group {
            "" => "api__v1_openapi.json".to_owned(),
            group => format!("apis__{group}__v1_openapi.json"),
        };
        let theirs = reference(&format!("openapi-1.36/v3/{file}")).unwrap();
        compare_paths(&own, &theirs, &mut wrong);
        compare_schemas(&own, &theirs, &mut wrong);
    }
    wrong.sort();
    wrong.dedup();
    // Changes of the release: fields that came, went or changed their type.
    let known = |line: &String| KNOWN.iter().any(|known| line.starts_with(known));
    wrong.retain(|line| !known(line));
    assert!(wrong.is_empty(), "{} differences: {wrong:#?}", wrong.len());
}

/// Differences between the two releases.
const KNOWN: &[&str] = &[
    // Optional since 1.37.
    "io.k8s.api.apps.v1.ControllerRevision: requires",
    "io.k8s.api.apps.v1.DaemonSet: requires",
    "io.k8s.api.apps.v1.DaemonSetCondition: requires",
    "io.k8s.api.apps.v1.Deployment: requires",
    "io.k8s.api.apps.v1.ReplicaSet: requires",
    "io.k8s.api.apps.v1.StatefulSet: requires",
    "io.k8s.api.apps.v1.DeploymentCondition: requires",
    "io.k8s.api.apps.v1.ReplicaSetCondition: requires",
    "io.k8s.api.apps.v1.StatefulSetCondition: requires",
    // Alpha, remade in 1.37.
    "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus",
    "io.k8s.api.core.v1.PodStatus.nodeAllocatableResourceClaimStatuses",
    // Embedded without a description of its own: the same reference, written in another way.
    "io.k8s.api.networking.v1.IngressRule.http",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent.object",
];

/// Fields with new values since the reference.
const GREW: &[&str] = &["io.k8s.api.apps.v1.StatefulSetUpdateStrategy.type"];

#[test]
fn the_v2_document_agrees_with_the_reference() {
    let mut resources = Vec::new();
    for group in GROUPS {
        let Some(more) = served(group, "v1") else {
            return;
        };
        resources.extend(more);
    }
    let own = v2::document(&resources, &definitions);
    let theirs = reference("live-1.36.2/openapi_v2.json").unwrap();
    let all = theirs["paths"].as_object().unwrap();
    let mut missing = Vec::new();
    for (path, item) in own["paths"].as_object().unwrap() {
        let theirs = all.get(path);
        let methods = |item: &Value| {
            item.as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        if theirs.map(methods) != Some(methods(item)) {
            missing.push(path.clone());
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    // Values that fields may have, which `explain` shows.
    let definitions = theirs["definitions"].as_object().unwrap();
    for (name, theirs) in definitions {
        let own = &own["definitions"][name];
        for (field, theirs) in theirs["properties"].as_object().into_iter().flatten() {
            let enumerated = theirs.get("enum").is_some() && !own.is_null();
            let told = enumerated && own["properties"][field]["enum"] != theirs["enum"];
            let place = format!("{name}.{field}");
            assert!(!told || GREW.contains(&place.as_str()), "{place}");
        }
    }
    let bytes = v2::encode_protobuf(&own);
    assert!(bytes.len() > 500_000, "{}", bytes.len());
}
