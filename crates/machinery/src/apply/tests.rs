use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::codec;

mod versions;

fn schema() -> Schema {
    let atomic = json!({"type": "object", "properties": {
        "a": {"type": "string"}, "b": {"type": "string"},
    }, "x-kubernetes-map-type": "atomic"});
    Schema::from_json(&json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "properties": {
            "name": {"type": "string"}, "namespace": {"type": "string"}, "uid": {"type": "string"}, "resourceVersion": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
            "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "managedFields": {"type": "array", "items": {"type": "object"}},
        }},
        "spec": {"type": "object", "default": {}, "properties": {
            "replicas": {"type": "integer"},
            "selector": atomic,
            "args": {"type": "array", "items": {"type": "string"}},
            "containers": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {
                    "name": {"type": "string"}, "image": {"type": "string"}, "tty": {"type": "boolean"},
                    "ports": {
                        "type": "array", "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
                        "items": {"type": "object", "properties": {
                            "containerPort": {"type": "integer"}, "name": {"type": "string"},
                            "protocol": {"type": "string", "default": "TCP"},
                        }},
                    },
                }},
            },
        }},
        "status": {"type": "object", "properties": {"ready": {"type": "integer"}}},
    }}))
}

fn object(yaml: &str) -> Object {
    let text = format!("apiVersion: apps/v1\nkind: Thing\n{yaml}");
    codec::decode_yaml(text.as_bytes()).unwrap().object
}

/// A little world: one object, and a clock that moves a minute a write.
struct World {
    schema: Schema,
    reset: FieldSet,
    live: Option<Object>,
    minute: i64,
}

impl World {
    fn new() -> Self {
        let reset = FieldSet::of_fields(&[&["status"]]);
        Self {
            schema: schema(),
            reset,
            live: None,
            minute: 0,
        }
    }

    fn with<T>(&mut self, manager: &str, act: impl FnOnce(Option<&Object>, &Writer<'_>) -> T) -> T {
        self.minute += 1;
        let writer = Writer {
            manager,
            api_version: "apps/v1",
            subresource: "",
            now: Timestamp::from_second(self.minute * 60).unwrap(),
            schema: &self.schema,
            reset_fields: &self.reset,
            versions: &Versions::default(),
        };
        act(self.live.as_ref(), &writer)
    }

    fn update(&mut self, manager: &str, yaml: &str) -> &mut Self {
        let mut new = object(yaml);
        new.set_meta_str("uid", "1");
        self.with(manager, |live, writer| update(live, &mut new, writer))
            .unwrap();
        self.live = Some(new);
        self
    }

    fn try_apply(&mut self, manager: &str, yaml: &str, force: bool) -> Result<(), String> {
        let config = object(yaml);
        let new = self.with(manager, |live, writer| apply(live, &config, writer, force));
        let mut new = new.map_err(|e| e.to_string())?;
        new.set_meta_str("uid", "1");
        self.live = Some(new);
        Ok(())
    }

    fn apply(&mut self, manager: &str, yaml: &str) -> &mut Self {
        self.try_apply(manager, yaml, false).unwrap();
        self
    }

    /// The spec and labels, and who owns what.
    fn show(&self, expected: Expect) {
        let live = self.live.as_ref().unwrap();
        let mut out = String::new();
        for (what, path) in [
            ("labels", vec!["metadata", "labels"]),
            ("spec", vec!["spec"]),
        ] {
            if let Some(value) = live.at(&path) {
                out.push_str(&format!("{what} {value}\n"));
            }
        }
        for entry in entries(live).into_iter().flatten() {
            let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
            let time = text("time")
                .replace("1970-01-01T00:", "")
                .replace(":00Z", "");
            let line = [
                text("manager"),
                text("operation"),
                time,
                entry["fieldsV1"].to_string(),
            ];
            out.push_str(&format!("{}\n", line.join(" ")));
        }
        expected.assert_eq(&out);
    }
}

#[test]
fn creating_by_apply_owns_what_is_applied() {
    let mut world = World::new();
    world.apply("kubectl", "metadata: {name: a, labels: {x: q}}\nspec: {replicas: 1, selector: {a: b}, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}");
    world.show(expect![[r#"
        labels {"x":"q"}
        spec {"containers":[{"image":"i","name":"c","ports":[{"containerPort":80}]}],"replicas":1,"selector":{"a":"b"}}
        kubectl Apply 01 {"f:metadata":{"f:labels":{"f:x":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}},"f:replicas":{},"f:selector":{}}}
    "#]]);
}

#[test]
fn what_is_no_longer_applied_goes_unless_others_own_it() {
    let mut world = World::new();
    world.apply("one", "metadata: {name: a, labels: {x: '1', y: '1'}}\nspec: {replicas: 1, containers: [{name: c, image: i}, {name: d, image: j}]}");
    world.apply("two", "metadata: {name: a, labels: {y: '1'}}");
    world.apply(
        "one",
        "metadata: {name: a}\nspec: {containers: [{name: d, image: k}]}",
    );
    world.show(expect![[r#"
        labels {"y":"1"}
        spec {"containers":[{"image":"k","name":"d"}]}
        two Apply - {"f:metadata":{"f:labels":{"f:y":{}}}}
        one Apply 03 {"f:spec":{"f:containers":{"k:{\"name\":\"d\"}":{".":{},"f:image":{},"f:name":{}}}}}
    "#]]);
}

#[test]
fn a_removed_element_keeps_what_others_own_in_it() {
    let mut world = World::new();
    world.apply(
        "one",
        "metadata: {name: a}\nspec: {containers: [{name: c, image: i}]}",
    );
    world.apply(
        "two",
        "metadata: {name: a}\nspec: {containers: [{name: c, tty: true}]}",
    );
    world.apply("one", "metadata: {name: a}\nspec: {replicas: 1}");
    world.show(expect![[r#"
        spec {"containers":[{"name":"c","tty":true}],"replicas":1}
        two Apply 02 {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{},"f:tty":{}}}}}
        one Apply 03 {"f:spec":{"f:replicas":{}}}
    "#]]);
}

#[test]
fn an_emptied_map_stays_with_its_owner() {
    let mut world = World::new();
    world.update(
        "create",
        "metadata: {name: a, labels: {b: '1'}}\nspec: {replicas: 1}",
    );
    let taken = "metadata: {name: a, labels: {b: '2'}}";
    world.try_apply("ssa", taken, true).unwrap();
    world.apply("ssa", "metadata: {name: a}\nspec: {args: [x]}");
    world.show(expect![[r#"
        spec {"args":["x"],"replicas":1}
        ssa Apply 03 {"f:spec":{"f:args":{}}}
        create Update 01 {"f:metadata":{"f:labels":{}},"f:spec":{"f:replicas":{}}}
    "#]]);
}

#[test]
fn conflicts_name_the_owner_and_the_field() {
    let mut world = World::new();
    world.update(
        "kubectl-client-side-apply",
        "metadata: {name: a}\nspec: {replicas: 1, containers: [{name: c, image: i}]}",
    );
    let changed = "metadata: {name: a}\nspec: {replicas: 2, containers: [{name: c, image: i}]}";
    let error = world.try_apply("ssa", changed, false).unwrap_err();
    assert_eq!(
        error,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    let more = "metadata: {name: a}\nspec: {replicas: 2, containers: [{name: c, image: j}]}";
    let error = world.try_apply("ssa", more, false).unwrap_err();
    assert_eq!(
        error,
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n\
         - .spec.containers[name=\"c\"].image\n- .spec.replicas"
    );
    world.try_apply("ssa", changed, true).unwrap();
    world.show(expect![[r#"
        spec {"containers":[{"image":"i","name":"c"}],"replicas":2}
        ssa Apply 04 {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}},"f:replicas":{}}}
        kubectl-client-side-apply Update 01 {"f:spec":{"f:containers":{".":{},"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}
    "#]]);
}

#[test]
fn conflicts_become_causes() {
    let mut world = World::new();
    world.apply("one", "metadata: {name: a}\nspec: {replicas: 1}");
    let config = object("metadata: {name: a}\nspec: {replicas: 2}");
    let error = world
        .with("two", |live, writer| apply(live, &config, writer, false))
        .unwrap_err();
    let error = ApiError::from(error);
    assert_eq!((error.code, error.reason), (409, "Conflict"));
    let cause = (
        "FieldManagerConflict".to_owned(),
        "conflict with \"one\"".to_owned(),
        ".spec.replicas".to_owned(),
    );
    assert_eq!(error.details.unwrap().causes, [cause]);
}

#[test]
fn updates_take_ownership_of_what_they_change() {
    let mut world = World::new();
    world.update(
        "create",
        "metadata: {name: a, labels: {x: q}}\nspec: {replicas: 1, args: [a]}\nstatus: {ready: 1}",
    );
    world.update(
        "edit",
        "metadata: {name: a}\nspec: {replicas: 3, args: [a, b]}\nstatus: {ready: 2}",
    );
    world.update(
        "edit",
        "metadata: {name: a}\nspec: {replicas: 3, args: [a, b]}",
    );
    world.show(expect![[r#"
        spec {"args":["a","b"],"replicas":3}
        edit Update 02 {"f:spec":{"f:args":{},"f:replicas":{}}}
    "#]]);
}

#[test]
fn the_first_apply_finds_an_owner_for_what_was_there() {
    let mut world = World::new();
    world.live = Some(object("metadata: {name: a, uid: '1'}\nspec: {replicas: 1}"));
    world.update("edit", "metadata: {name: a}\nspec: {replicas: 2}");
    assert!(entries(world.live.as_ref().unwrap()).is_none());
    let error = world.try_apply("ssa", "metadata: {name: a}\nspec: {replicas: 5}", false);
    assert_eq!(
        error.unwrap_err(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
    world.apply("ssa", "metadata: {name: a}\nspec: {replicas: 2}");
    world.show(expect![[r#"
        spec {"replicas":2}
        ssa Apply - {"f:spec":{"f:replicas":{}}}
        before-first-apply Update 03 {"f:spec":{"f:replicas":{}}}
    "#]]);
}

#[test]
fn kubectl_may_move_on_from_client_side_apply() {
    let mut world = World::new();
    let last =
        r#"{"apiVersion":"apps/v1","kind":"Thing","metadata":{"name":"a"},"spec":{"replicas":1}}"#;
    let yaml = format!(
        "metadata: {{name: a, annotations: {{{LAST_APPLIED}: '{last}'}}}}\nspec: {{replicas: 1}}"
    );
    world.update("kubectl-client-side-apply", &yaml);
    world.apply("kubectl", "metadata: {name: a}\nspec: {replicas: 2}");
    let live = world.live.unwrap();
    assert_eq!(live.at(&["spec", "replicas"]), Some(&json!(2)));
    let annotation = live
        .annotations()
        .find(|(k, _)| *k == LAST_APPLIED)
        .unwrap()
        .1;
    assert_eq!(
        annotation,
        "{\"kind\":\"Thing\",\"apiVersion\":\"apps/v1\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"replicas\":2}}\n"
    );
}

#[test]
fn sets_and_orders_merge() {
    let mut world = World::new();
    world.apply(
        "one",
        "metadata: {name: a, finalizers: [p, q]}\nspec: {containers: [{name: a}, {name: c}]}",
    );
    world.apply(
        "two",
        "metadata: {name: a, finalizers: [z]}\nspec: {containers: [{name: b}, {name: a}]}",
    );
    let live = world.live.as_ref().unwrap();
    assert_eq!(
        live.at(&["metadata", "finalizers"]),
        Some(&json!(["p", "q", "z"]))
    );
    let names: Vec<&str> = live
        .at(&["spec", "containers"])
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["b", "a", "c"]);
}

#[test]
fn a_configuration_must_fit_the_schema() {
    let mut world = World::new();
    let mut fail = |yaml: &str| world.try_apply("one", yaml, false).unwrap_err();
    assert_eq!(
        fail("metadata: {name: a, namespace: m, nam: x}"),
        "failed to create typed patch object (m/a; apps/v1, Kind=Thing): .metadata.nam: field not declared in schema"
    );
    assert_eq!(
        fail("metadata: {name: a}\nspec: {replicas: x, containers: [{name: c}, {name: c}]}"),
        "failed to create typed patch object (/a; apps/v1, Kind=Thing): errors:\n  \
         .spec.containers: duplicate entries for key [name=\"c\"]\n  \
         .spec.replicas: expected numeric (int or float), got string"
    );
    assert_eq!(
        fail("metadata: {name: 5}"),
        "failed to create typed patch object (/; apps/v1, Kind=Thing): .metadata.name: expected string, got &value.valueUnstructured{Value:5}"
    );
    assert_eq!(
        fail("metadata: {managedFields: []}"),
        "metadata.managedFields must be nil"
    );
}

#[test]
fn old_updaters_are_rolled_up() {
    let mut world = World::new();
    world.update("m00", "metadata: {name: a}\nspec: {replicas: 0}");
    for i in 1..14 {
        let mut labels: Vec<String> = (1..=i).map(|n| format!("l{n:02}: x")).collect();
        labels.sort();
        let yaml = format!(
            "metadata: {{name: a, labels: {{{}}}}}\nspec: {{replicas: 0}}",
            labels.join(", ")
        );
        world.update(&format!("m{i:02}"), &yaml);
    }
    let live = world.live.as_ref().unwrap();
    let names: Vec<&str> = entries(live)
        .unwrap()
        .iter()
        .map(|e| e["manager"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 10);
    assert_eq!(names[0], "ancient-changes");
    assert_eq!(names[9], "m13");
}

#[test]
fn a_write_without_change_is_none() {
    let mut world = World::new();
    world.update("a", "metadata: {name: a}\nspec: {replicas: 1}");
    let live = world.live.clone().unwrap();
    let mut again = live.clone();
    let entry = again.metadata_mut().get_mut("managedFields").unwrap();
    entry[0]["time"] = "2030-01-01T00:00:00Z".into();
    settle(&live, &mut again);
    assert_eq!(again, live);
}

#[test]
fn owners_can_be_forgotten() {
    let mut world = World::new();
    world.update("a", "metadata: {name: a}\nspec: {replicas: 1}");
    world.update(
        "b",
        "metadata: {name: a, managedFields: [{}]}\nspec: {replicas: 1}",
    );
    assert!(entries(world.live.as_ref().unwrap()).is_none());
}

fn any_set() -> impl Strategy<Value = FieldSet> {
    let element = prop_oneof![
        "[a-c]".prop_map(PathElement::Field),
        (0_i64..3).prop_map(|n| PathElement::Value(Scalar(n.into()))),
        "[a-c]".prop_map(|s| PathElement::Key(vec![("name".to_owned(), Scalar(s.into()))])),
    ];
    let paths = prop::collection::vec(prop::collection::vec(element, 1..4), 0..8);
    paths.prop_map(|paths| {
        let mut set = FieldSet::new();
        paths.iter().for_each(|path| set.insert(path));
        set
    })
}

fn any_config() -> impl Strategy<Value = Object> {
    let port = (1_i64..3, any::<bool>(), "[ab]").prop_map(|(port, udp, name)| {
        let mut out = json!({"containerPort": port, "name": name});
        if udp {
            out["protocol"] = "UDP".into();
        }
        out
    });
    let key = |v: &Value| (v["containerPort"].to_string(), v["protocol"].to_string());
    let ports = prop::collection::vec(port, 0..3).prop_map(move |mut ports| {
        ports.sort_by_key(key);
        ports.dedup_by_key(|v| key(v));
        ports
    });
    // Lists with named elements are absent rather than empty: an empty one owns nothing and does not stay.
    let container = ("[a-d]", "[xyz]", ports).prop_map(|(name, image, ports)| {
        let mut out = json!({"name": name, "image": image});
        if !ports.is_empty() {
            out["ports"] = ports.into();
        }
        out
    });
    let containers = prop::collection::vec(container, 1..4).prop_map(|mut all| {
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|c| seen.insert(c["name"].to_string()));
        all
    });
    let labels = prop::collection::btree_map("[a-c]", "[xy]", 0..3);
    let args = prop::collection::vec("[ab]", 0..3);
    (prop::option::of(0_i64..3), containers, labels, args).prop_map(|(replicas, containers, labels, args)| {
        let mut spec = json!({"containers": containers, "args": args});
        let mut metadata = json!({"name": "a"});
        if !labels.is_empty() { metadata["labels"] = json!(labels); }
        if let Some(replicas) = replicas { spec["replicas"] = replicas.into(); }
        let value = json!({"apiVersion": "apps/v1", "kind": "Thing", "metadata": metadata, "spec": spec});
        Object::from_value(value).unwrap()
    })
}

proptest! {
    #[test]
    fn sets_are_sets(a in any_set(), b in any_set(), c in any_set()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert_eq!(FieldSet::decode(&a.encode()).unwrap(), a);
    }

    #[test]
    fn apply_is_idempotent(first in any_config(), other in any_config(), second in any_config()) {
        let mut world = World::new();
        for (manager, config) in [("one", &first), ("two", &other), ("one", &second)] {
            let new = world.with(manager, |live, writer| apply(live, config, writer, true)).unwrap();
            world.live = Some(new);
        }
        let once = world.live.clone().unwrap();
        let again = world.with("one", |live, writer| apply(live, &second, writer, false)).unwrap();
        prop_assert_eq!(again, once);
    }

    #[test]
    fn what_is_applied_is_there(first in any_config(), second in any_config()) {
        let mut world = World::new();
        for config in [&first, &second] {
            let new = world.with("one", |live, writer| apply(live, config, writer, true)).unwrap();
            world.live = Some(new);
        }
        // A sole manager gets what it last applied, whatever was there before.
        let live = world.live.unwrap().into_value();
        let changes = compare(&second.into_value(), &live, &schema()).without(&FieldSet::of_fields(&[&["metadata", "managedFields"]]));
        prop_assert!(changes.modified.is_empty() && changes.removed.paths().iter().all(|p| p.len() <= 2), "{:?}", changes);
    }

    #[test]
    fn a_comparison_with_itself_is_empty(config in any_config()) {
        let value = config.into_value();
        prop_assert!(compare(&value, &value, &schema()).is_same());
    }
}
