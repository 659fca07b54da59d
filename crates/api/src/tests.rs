//! Laws that hold for every kind of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use serde_json::{Value, json};

use crate::kind::{AnyKind, Part, Scope, Subresource};
use crate::testing::{context, create_errors, created, kind_of, now, object, updated};
use crate::{BODIES, KINDS};

mod small;

fn all() -> impl Iterator<Item = &'static dyn AnyKind> {
    KINDS.iter().chain(BODIES).copied()
}

fn file_name(kind: &dyn AnyKind) -> String {
    let names = kind.names();
    format!(
        "{}.{}.yaml",
        names.api_version().replace('/', "."),
        names.kind
    )
}

fn testdata(folder: &str, kind: &dyn AnyKind) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/testdata")
        .join(folder)
        .join(file_name(kind))
}

fn minimal(kind: &dyn AnyKind) -> String {
    let path = testdata("minimal", kind);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[test]
fn a_minimal_object_of_every_kind_is_valid() {
    for kind in all() {
        let yaml = minimal(kind);
        assert_eq!(kind_of(&object(&yaml)).names(), kind.names());
        assert_eq!(create_errors(&yaml), "", "{}", file_name(kind));
    }
}

#[test]
fn defaults_are_as_recorded_and_idempotent() {
    for kind in all() {
        let once = created(&minimal(kind));
        let mut twice = once.clone();
        kind.default(&mut twice).unwrap();
        assert_eq!(once, twice, "{}", file_name(kind));
        let yaml = machinery::codec::encode_yaml(&once.into_value()).unwrap();
        expect_file![testdata("created", kind)].assert_eq(&yaml);
    }
}

#[test]
fn nothing_that_a_kind_does_not_know_is_lost() {
    for kind in all() {
        let mut tree = object(&minimal(kind)).into_value();
        strew(&mut tree);
        let before = tree.clone();
        let mut object = machinery::Object::from_value(tree).unwrap();
        kind.default(&mut object).unwrap();
        assert_contains(&object.into_value(), &before, &file_name(kind));
    }
}

/// Puts an unknown field with empty things in it into every object of the tree that is not a map of names.
fn strew(value: &mut Value) {
    const MAPS: &[&str] = &[
        "labels",
        "matchLabels",
        "selector",
        "data",
        "stringData",
        "capacity",
        "annotations",
        "limits",
        "nodeSelector",
        "requests",
        "parameters",
        "podFixed",
        "hard",
        "max",
        "min",
        "default",
        "defaultRequest",
    ];
    match value {
        Value::Object(map) => {
            for (_, inner) in map
                .iter_mut()
                .filter(|(key, _)| !MAPS.contains(&key.as_str()))
            {
                strew(inner);
            }
            map.insert(
                "xUnknown".into(),
                json!({"empty": [], "none": null, "text": ""}),
            );
        }
        Value::Array(list) => list.iter_mut().for_each(strew),
        _ => {}
    }
}

#[track_caller]
fn assert_contains(whole: &Value, part: &Value, path: &str) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            // What `stringData` says is in `data` afterwards.
            for (key, value) in part.iter().filter(|(key, _)| *key != "stringData") {
                let path = format!("{path}.{key}");
                assert_contains(
                    whole.get(key).unwrap_or_else(|| panic!("{path} is gone")),
                    value,
                    &path,
                );
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            assert_eq!(whole.len(), part.len(), "{path}");
            for (whole, part) in whole.iter().zip(part) {
                assert_contains(whole, part, &format!("{path}[]"));
            }
        }
        // A quantity that was written as a number is text afterwards.
        (Value::String(whole), Value::Number(part)) => {
            assert_eq!(*whole, part.to_string(), "{path}")
        }
        _ => assert_eq!(whole, part, "{path}"),
    }
}

#[test]
fn an_object_may_be_written_over_itself() {
    for kind in KINDS
        .iter()
        .filter(|k| k.verbs().contains(&crate::Verb::Update))
    {
        let yaml = minimal(*kind);
        let old = created(&yaml);
        let (new, errors) = updated(Part::Main, &old, &yaml);
        assert_eq!(errors, "", "{}", file_name(*kind));
        let without_version = |mut object: machinery::Object| {
            object.set_meta_str("resourceVersion", "");
            object
        };
        assert_eq!(
            without_version(new),
            without_version(old),
            "{}",
            file_name(*kind)
        );
    }
}

#[test]
fn a_status_write_leaves_the_rest_alone() {
    for kind in KINDS {
        if !kind
            .subresources()
            .contains(&Subresource::Part(Part::Status))
        {
            continue;
        }
        let old = created(&minimal(*kind));
        let mut new = old.clone();
        new.0.insert("spec".into(), json!({"changed": true}));
        new.0.insert("status".into(), json!({"changed": true}));
        kind.prepare_update(&context(), Part::Status, &mut new, &old);
        assert_eq!(new.0.get("spec"), old.0.get("spec"), "{}", file_name(*kind));
        assert_eq!(
            new.at(&["status", "changed"]),
            Some(&json!(true)),
            "{}",
            file_name(*kind)
        );
        kind.prepare_update(&context(), Part::Main, &mut new, &old);
        assert_eq!(
            new.0.get("status"),
            old.0.get("status"),
            "{}",
            file_name(*kind)
        );
    }
}

#[test]
fn rows_have_a_cell_for_every_column() {
    for kind in all() {
        for object in [object(&minimal(kind)), created(&minimal(kind))] {
            let row = kind.row(&object, now());
            // Upstream tells the age of an IPAddress and has no column for it.
            let columns = kind.columns().len() + usize::from(kind.names().kind == "IPAddress");
            assert_eq!(row.cells.len(), columns, "{}", file_name(kind));
            for (cell, column) in row.cells.iter().zip(kind.columns()) {
                let fits = match column.kind {
                    "integer" => cell.is_i64(),
                    // Upstream tells one flag in words.
                    "boolean" => cell.is_boolean() || cell == "True" || cell == "False",
                    // Upstream declares counts of data and replicas as text, and a flag of classes.
                    _ => cell.is_string() || cell.is_i64() || cell.is_boolean(),
                };
                assert!(fits, "{} {}: {cell}", file_name(kind), column.name);
            }
        }
    }
}

#[test]
fn selectable_fields_are_those_that_are_announced() {
    for kind in all() {
        let object = created(&minimal(kind));
        let fields = kind.selectable_fields(&object);
        let names: BTreeSet<&str> = fields.iter().map(|(name, _)| &**name).collect();
        let announced: BTreeSet<&str> = kind.selectable().iter().collect();
        assert_eq!(names, announced, "{}", file_name(kind));
    }
}

#[test]
fn names_and_verbs_are_those_of_a_stock_server() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.join("../../../shared/conformance/discovery-1.36");
    if !folder.exists() {
        return; // The recorded answers of a stock server are not part of the project.
    }
    // New in v1.37.
    const NEW: &[&str] = &[
        "devicetaintrules",
        "clustertrustbundles",
        "podcertificaterequests",
        "storageversionmigrations",
    ];
    for kind in KINDS {
        let names = kind.names();
        if NEW.contains(&names.plural) {
            continue;
        }
        let file = match names.group {
            "" => "api__v1.json".to_owned(),
            group => format!("apis__{group}__{}.json", names.version),
        };
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        let resources: BTreeMap<&str, &Value> = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| (r["name"].as_str().unwrap(), r))
            .collect();
        assert_eq!(
            described(*kind),
            expected(resources[names.plural]),
            "{}",
            file_name(*kind)
        );
        let prefix = format!("{}/", names.plural);
        let new = (names.plural == "csinodes").then_some("status");
        let theirs: BTreeSet<&str> = resources
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix))
            .chain(new)
            .collect();
        let ours: BTreeSet<&str> = kind.subresources().iter().map(|s| s.name()).collect();
        assert_eq!(ours, theirs, "{}", file_name(*kind));
    }
}

fn described(kind: &dyn AnyKind) -> Value {
    let names = kind.names();
    let verbs: Vec<&str> = kind.verbs().iter().map(|v| v.as_str()).collect();
    json!({
        "kind": names.kind, "singular": names.singular, "short": names.short,
        "categories": names.categories, "namespaced": kind.scope() == Scope::Namespaced,
        "verbs": verbs,
    })
}

fn expected(resource: &Value) -> Value {
    let list = |key: &str| resource.get(key).cloned().unwrap_or_else(|| json!([]));
    json!({
        "kind": resource["kind"], "singular": resource["singularName"], "short": list("shortNames"),
        "categories": list("categories"), "namespaced": resource["namespaced"],
        "verbs": resource["verbs"],
    })
}

/// Trees that somebody might send: a minimal object with values taken away, replaced and put in.
fn damaged() -> impl proptest::strategy::Strategy<Value = (usize, Value)> {
    use proptest::prelude::*;
    let kinds: Vec<&dyn AnyKind> = all().collect();
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!("")),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{}])),
        Just(json!("..")),
        Just(json!("1e999999999")),
        Just(json!(true)),
    ];
    let trees: Vec<Value> = kinds
        .iter()
        .map(|kind| created(&minimal(*kind)).into_value())
        .collect();
    (
        0..trees.len(),
        proptest::collection::vec((any::<prop::sample::Index>(), leaf), 1..4),
    )
        .prop_map(move |(kind, changes)| {
            let mut tree = trees[kind].clone();
            for (at, value) in changes {
                let mut places = Vec::new();
                collect(&tree, &mut Vec::new(), &mut places);
                if places.is_empty() {
                    continue;
                }
                let path = at.get(&places).clone();
                if let Some(slot) = tree.pointer_mut(&path) {
                    *slot = value;
                }
            }
            (kind, tree)
        })
}

/// The JSON pointers of everything below the type and the metadata's name.
fn collect(value: &Value, path: &mut Vec<String>, places: &mut Vec<String>) {
    if !path.is_empty() && !matches!(path[0].as_str(), "kind" | "apiVersion") {
        places.push(format!("/{}", path.join("/")));
    }
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(i, v)| (i.to_string(), v))
            .collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        path.push(key);
        collect(child, path, places);
        path.pop();
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1000))]

    /// Whatever is sent or stored, defaults come to rest and nothing panics.
    #[test]
    fn no_object_harms_the_server((kind, tree) in damaged()) {
        let kind = all().nth(kind).unwrap();
        let sent = machinery::Object::from_value(tree).unwrap();
        let mut object = sent.clone();
        if kind.default(&mut object).is_ok() {
            let once = object.clone();
            kind.default(&mut object).unwrap();
            proptest::prop_assert_eq!(&object, &once);
        }
        let old = created(&minimal(kind));
        crate::meta::validate_object_meta(kind, &object);
        crate::meta::validate_object_meta_update(&object, &old);
        drop(kind.validate_create(&context(), &object));
        for part in [Part::Main, Part::Status, Part::EphemeralContainers, Part::Resize, Part::Finalize] {
            for (new, old) in [(&object, &old), (&old, &object)] {
                let mut new = new.clone();
                kind.prepare_update(&context(), part, &mut new, old);
                drop(kind.validate_update(&context(), part, &new, old));
            }
        }
        kind.prepare_create(&context(), &mut object);
        for object in [&sent, &object] {
            kind.row(object, now());
            kind.warnings(object);
            kind.selectable_fields(object);
            kind.grace_period(object, None);
        }
    }
}
