use std::collections::BTreeMap;
use std::path::Path;

use machinery::schema::{Format, Kind, ListType, MapType, validate_fields};
use serde_json::json;

use super::*;

#[test]
fn a_deployment_has_types_keys_and_strategies() {
    let deployment = of_kind("apps", "v1", "Deployment").unwrap();
    let spec = deployment.property("spec").unwrap();
    assert_eq!(spec.property("replicas").unwrap().format(), Format::Int32);
    let pod = spec.property("template").unwrap().property("spec").unwrap();
    let containers = pod.property("containers").unwrap();
    assert_eq!(containers.list_type(), ListType::Map);
    assert_eq!(containers.merge_key(), Some("name"));
    assert!(containers.patch_strategy().merge);
    let ports = containers.items().unwrap().property("ports").unwrap();
    let keys: Vec<&str> = ports.list_map_keys().collect();
    assert_eq!(keys, ["containerPort", "protocol"]);
    assert_eq!(ports.merge_key(), Some("containerPort"));
    let protocol = ports.items().unwrap().property("protocol").unwrap();
    assert_eq!(protocol.default_value(), Some(&json!("TCP")));
    let selector = spec.property("selector").unwrap();
    assert_eq!(selector.map_type(), MapType::Atomic);
    let resources = containers.items().unwrap().property("resources").unwrap();
    let limit = resources.property("limits").unwrap().additional().unwrap();
    assert_eq!(limit.kind(), Kind::Quantity);
}

#[test]
fn every_root_has_a_schema() {
    for name in roots::names() {
        let schema = get(&name).unwrap_or_else(|| panic!("{name}"));
        let open = ["WatchEvent", "Patch", "version.Info"]
            .iter()
            .any(|n| name.ends_with(n));
        assert!(open || schema.property("kind").is_some(), "{name}");
    }
    assert!(get("io.k8s.api.core.v1.Nothing").is_none());
}

#[test]
fn field_validation_knows_the_kinds() {
    let deployment = of_kind("apps", "v1", "Deployment").unwrap();
    let value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "foo": 1},
        "spec": {"replicaz": 1, "template": {"spec": {"containers": [{"name": "a", "imag": "x"}]}}},
    });
    let report = validate_fields(&value, &deployment, &[]);
    assert_eq!(
        report.unknown,
        [
            "unknown field \"metadata.foo\"",
            "unknown field \"spec.replicaz\"",
            "unknown field \"spec.template.spec.containers[0].imag\"",
        ]
    );
    let value = json!({"spec": {"replicas": "1"}});
    let error = validate_fields(&value, &deployment, &[]).type_error;
    let expected = "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
    assert_eq!(error.as_deref(), Some(expected));
}

/// The reference schemas, where the machine has them.
fn reference() -> Option<Map<String, Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let text = std::fs::read_to_string(root.join("schemas-1.37.json")).ok()?;
    let mut all: Value = serde_json::from_str(&text).unwrap();
    match all["$defs"].take() {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// The facts of a node: all extensions but those that are not ours to know.
fn facts_of(node: &Value) -> BTreeMap<String, Value> {
    let derived = [
        "x-kubernetes-group-version-kind",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-validations",
    ];
    let all = node.as_object().into_iter().flatten();
    all.filter(|(key, _)| key.starts_with("x-kubernetes-") && !derived.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn required(node: &Value) -> std::collections::BTreeSet<&str> {
    let list = node["required"].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

#[test]
fn the_table_agrees_with_the_reference() {
    let Some(reference) = reference() else { return };
    let mut checked = 0;
    let mut wrong = Vec::new();
    for root in roots::names() {
        for (name, own) in definitions(&root).unwrap() {
            let Some(theirs) = reference.get(&name) else {
                wrong.push(format!("{name} is unknown to the reference"));
                continue;
            };
            checked += 1;
            if facts_of(&own) != facts_of(theirs) {
                wrong.push(name.clone());
            }
            let fields = |node: &Value| node["properties"].as_object().cloned().unwrap_or_default();
            let (own_fields, their_fields) = (fields(&own), fields(theirs));
            if !own_fields.keys().eq(their_fields.keys()) {
                wrong.push(format!("{name}: other fields"));
            }
            if required(&own) != required(theirs) {
                wrong.push(format!("{name}: requires {:?}", required(&own)));
            }
            for (field, node) in own_fields {
                if facts_of(&node) != facts_of(&their_fields[&field]) {
                    wrong.push(format!("{name}.{field}"));
                }
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 500, "{checked}");
}

#[test]
fn the_table_names_only_fields_that_exist() {
    let mut all = Map::new();
    for root in roots::names() {
        all.extend(roots::build(&root).unwrap());
    }
    for (name, lines) in facts::sections() {
        let Some(definition) = all.get(name) else {
            continue;
        };
        for line in lines {
            let field = line.split(' ').next().unwrap_or_default();
            let known = field == "." || definition["properties"].get(field).is_some();
            assert!(known, "{name}.{field}");
        }
    }
}
