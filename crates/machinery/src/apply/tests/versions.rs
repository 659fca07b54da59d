//! Managers of several versions, and owners seen through `scale`.

use serde_json::json;

use super::*;

/// In version 2, `text` is called `words`; there is no version 3.
fn converted(wanted: &Wanted) -> Option<(Value, Schema)> {
    let mut object = wanted.object.clone();
    let (from, to) = match &*wanted.to {
        "x/v1" => ("words", "text"),
        "x/v2" => ("text", "words"),
        _ => return None,
    };
    object["apiVersion"] = wanted.to.clone().into();
    // What loses all that is in it may be null on the way.
    if let Some(spec) = object["spec"].as_object_mut()
        && let Some(value) = spec.remove(from)
    {
        spec.insert(to.to_owned(), value);
    }
    let schema = json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"},
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}, "uid": {"type": "string"}}},
        "spec": {"type": "object", "properties": {"size": {"type": "integer"}, to: {"type": "string"}}},
    }});
    Some((object, Schema::from_json(&schema)))
}

/// Writes in a version, with whatever has to be known of others.
fn write<T>(
    manager: &str,
    api_version: &str,
    act: impl Fn(&Writer<'_>) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    let object = json!({"spec": {}});
    let to = api_version.to_owned();
    let (_, schema) = converted(&Wanted { object, to }).unwrap();
    let mut versions = Versions::default();
    loop {
        let writer = Writer {
            manager,
            api_version,
            subresource: "",
            now: Timestamp::from_second(60).unwrap(),
            schema: &schema,
            reset_fields: &FieldSet::new(),
            versions: &versions,
        };
        match act(&writer) {
            Err(ApplyError::Wants(wanted)) => {
                let found = converted(&wanted);
                versions.learn(*wanted, found);
            }
            other => return other,
        }
    }
}

fn thing(api_version: &str, spec: Value) -> Object {
    let tree = json!({"apiVersion": api_version, "kind": "Thing", "metadata": {"name": "a", "uid": "1"}, "spec": spec});
    Object::from_value(tree).unwrap()
}

fn in_version(object: &Object, to: &str) -> Object {
    let to = to.to_owned();
    let object = object.clone().into_value();
    let (object, _) = converted(&Wanted { object, to }).unwrap();
    Object::from_value(object).unwrap()
}

fn owners(object: &Object) -> String {
    let line = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or("").to_owned();
        let (manager, version) = (text("manager"), text("apiVersion"));
        format!(
            "{manager} {version} {} {}\n",
            text("subresource"),
            entry["fieldsV1"]
        )
    };
    entries(object).into_iter().flatten().map(line).collect()
}

fn made(spec: Value) -> Object {
    let mut object = thing("x/v1", spec);
    write("one", "x/v1", |writer| {
        let mut new = object.clone();
        update(None, &mut new, writer).map(|()| new)
    })
    .map(|new| object = new)
    .unwrap();
    object
}

#[test]
fn a_field_changes_hands_under_its_name_in_each_version() {
    let live = in_version(&made(json!({"text": "a", "size": 1})), "x/v2");
    let after = write("two", "x/v2", |writer| {
        let mut new = live.clone();
        new.object_at_mut(&["spec"])
            .insert("words".into(), "b".into());
        update(Some(&live), &mut new, writer).map(|()| new)
    });
    expect![[r#"
        one x/v1  {"f:spec":{".":{},"f:size":{}}}
        two x/v2  {"f:spec":{"f:words":{}}}
    "#]]
    .assert_eq(&owners(&after.unwrap()));
}

#[test]
fn a_conflict_names_the_field_as_its_owner_knows_it() {
    let live = in_version(&made(json!({"text": "a"})), "x/v2");
    let config = thing("x/v2", json!({"words": "b"}));
    let refused = write("two", "x/v2", |writer| {
        apply(Some(&live), &config, writer, false)
    });
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Apply failed with 1 conflict: conflict with \"one\" using x/v1: .spec.text"
    );
}

#[test]
fn what_is_applied_no_more_goes_whatever_version_it_was_applied_in() {
    let config = thing("x/v1", json!({"text": "a", "size": 1}));
    let live = write("one", "x/v1", |writer| apply(None, &config, writer, false)).unwrap();
    let live = in_version(&live, "x/v2");
    let config = thing("x/v2", json!({"size": 1}));
    let after = write("one", "x/v2", |writer| {
        apply(Some(&live), &config, writer, false)
    })
    .unwrap();
    assert_eq!(after.at(&["spec"]), Some(&json!({"size": 1})));
    expect![[r#"
        one x/v2  {"f:spec":{"f:size":{}}}
    "#]]
    .assert_eq(&owners(&after));
}

#[test]
fn managers_of_a_version_that_is_gone_are_forgotten() {
    let mut live = made(json!({"text": "a"}));
    live.metadata_mut()["managedFields"][0]["apiVersion"] = "x/v3".into();
    let after = write("two", "x/v1", |writer| {
        let mut new = live.clone();
        new.object_at_mut(&["spec"]).insert("size".into(), 2.into());
        update(Some(&live), &mut new, writer).map(|()| new)
    });
    expect![[r#"
        two x/v1  {"f:spec":{"f:size":{}}}
    "#]]
    .assert_eq(&owners(&after.unwrap()));
}

#[test]
fn replicas_are_taken_through_the_scale() {
    let object = made(json!({"size": 1, "text": "a"}));
    let scaled = Scaled {
        object: &object,
        api_version: "x/v1",
        replicas: &["spec", "size"],
    };
    let scale = json!({"apiVersion": SCALE_VERSION, "kind": "Scale", "metadata": {"name": "a", "uid": "1"}, "spec": {"replicas": 1}});
    let mut live = Object::from_value(scale).unwrap();
    scaled.show(&mut live);
    expect![[r#"
        one autoscaling/v1  {"f:spec":{"f:replicas":{}}}
    "#]]
    .assert_eq(&owners(&live));

    let mut wanted = live.clone();
    wanted
        .object_at_mut(&["spec"])
        .insert("replicas".into(), 2.into());
    let writer = Writer {
        manager: "two",
        api_version: SCALE_VERSION,
        subresource: "scale",
        now: Timestamp::from_second(120).unwrap(),
        schema: Schema::any(),
        reset_fields: &FieldSet::new(),
        versions: &Versions::default(),
    };
    update(Some(&live), &mut wanted, &writer).unwrap();
    let mut new = object.clone();
    scaled.take_over(&wanted, &mut new);
    expect![[r#"
        two x/v1 scale {"f:spec":{"f:size":{}}}
        one x/v1  {"f:spec":{".":{},"f:text":{}}}
    "#]]
    .assert_eq(&owners(&new));
}
