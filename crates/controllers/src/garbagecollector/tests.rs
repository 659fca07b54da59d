//! Tables and laws for garbage collection.

use control::Key;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::World;

use super::GarbageCollector;
use crate::harness::check_world;

fn owner(name: &str, blocks: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": format!("{name}-uid"),
           "blockOwnerDeletion": blocks})
}

fn object(name: &str, owners: &[Value], finalizers: &[&str], deleting: bool) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default",
                     "ownerReferences": owners, "finalizers": finalizers},
    });
    if deleting {
        object["metadata"]["deletionTimestamp"] = json!("2025-12-31T23:00:00Z");
    }
    object
}

fn check(objects: &[Value], uid: &str, expect: &Expect) {
    let mut world = World::empty();
    for object in objects {
        world.put(object.clone());
    }
    check_world(&GarbageCollector, &world, uid, expect);
}

#[test]
fn an_object_with_an_owner_stays() {
    let objects = [
        object("a", &[], &[], false),
        object("b", &[owner("a", true)], &[], false),
    ];
    check(
        &objects,
        "b-uid",
        &expect![[r#"
        because its owners exist
    "#]],
    );
}

#[test]
fn an_object_without_owner_goes_after_the_api_has_been_asked() {
    let objects = [object("b", &[owner("gone", true)], &[], false)];
    check(
        &objects,
        "b-uid",
        &expect![[r#"
        because asking the API about 1 owners
        confirm configmaps default/gone
        because all its owners are gone
        delete configmaps default/b (Background)
    "#]],
    );
}

#[test]
fn an_object_with_one_living_owner_loses_the_other_reference() {
    let objects = [
        object("a", &[], &[], false),
        object("b", &[owner("gone", true), owner("a", false)], &[], false),
    ];
    check(
        &objects,
        "b-uid",
        &expect![[r#"
        because asking the API about 1 owners
        confirm configmaps default/gone
        because some of its owners are gone, others exist
        patch configmaps default/b: {"metadata":{"ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":false,"kind":"ConfigMap","name":"a","uid":"a-uid"}],"resourceVersion":"102","uid":"b-uid"}}
    "#]],
    );
}

#[test]
fn an_owner_of_another_namespace_is_none() {
    let mut elsewhere = object("a", &[], &[], false);
    elsewhere["metadata"]["namespace"] = json!("other");
    let objects = [elsewhere, object("b", &[owner("a", true)], &[], false)];
    check(
        &objects,
        "b-uid",
        &expect![[r#"
        because asking the API about 1 owners
        confirm configmaps default/a
        because all its owners are gone
        event Warning OwnerRefInvalidNamespace: ownerRef [v1/ConfigMap, namespace: default, name: a, uid: a-uid] does not exist in namespace "default"
        delete configmaps default/b (Background)
    "#]],
    );
}

#[test]
fn foreground_deletion_waits_for_those_that_block() {
    let waiting = object("a", &[], &["foregroundDeletion"], true);
    let child = object("b", &[owner("a", true)], &[], false);
    check(
        &[waiting.clone(), child.clone()],
        "a-uid",
        &expect![[r#"
        because waiting for 1 dependents to go
    "#]],
    );
    check(
        &[waiting.clone(), child],
        "b-uid",
        &expect![[r#"
            because its owner waits for it to go
            delete configmaps default/b (Background)
        "#]],
    );
    check(
        &[waiting],
        "a-uid",
        &expect![[r#"
        because no dependent blocks its deletion any more
        patch configmaps default/a: {"metadata":{"finalizers":[],"resourceVersion":"101","uid":"a-uid"}}
    "#]],
    );
}

#[test]
fn a_child_with_children_goes_in_the_foreground_as_well() {
    let objects = [
        object("a", &[], &["foregroundDeletion"], true),
        object("b", &[owner("a", true)], &[], false),
        object("c", &[owner("b", true)], &[], false),
    ];
    check(
        &objects,
        "b-uid",
        &expect![[r#"
        because an owner waits for it, and it has dependents
        delete configmaps default/b (Foreground)
    "#]],
    );
}

#[test]
fn orphans_lose_the_reference_before_the_owner_goes() {
    let objects = [
        object("a", &[], &["orphan"], true),
        object("b", &[owner("a", true), owner("x", false)], &[], false),
    ];
    check(
        &objects,
        "a-uid",
        &expect![[r#"
        because 1 dependents are orphaned
        patch configmaps default/b: {"metadata":{"ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":false,"kind":"ConfigMap","name":"x","uid":"x-uid"}],"resourceVersion":"102","uid":"b-uid"}}
        patch configmaps default/a: {"metadata":{"finalizers":[],"resourceVersion":"101","uid":"a-uid"}}
    "#]],
    );
}

#[test]
fn an_owner_of_an_unknown_kind_keeps_the_object() {
    let mut strange = owner("a", true);
    strange["kind"] = json!("Widget");
    strange["apiVersion"] = json!("example.com/v1");
    check(
        &[object("b", &[strange], &[], false)],
        "b-uid",
        &expect![[r#"
            because its owners exist
        "#]],
    );
}

/// A reference that leads elsewhere in the URL is not followed.
#[test]
fn an_owner_that_cannot_exist_keeps_the_object() {
    let mut strange = owner("a", true);
    strange["name"] = json!("../secrets/s");
    check(
        &[object("b", &[strange], &[], false)],
        "b-uid",
        &expect![[r#"
            because its owners exist
        "#]],
    );
}

/// Lets the collector look at every object until nothing happens any more.
fn collect(world: &mut World) {
    for _ in 0..60 {
        let uids: Vec<String> = world
            .objects
            .values()
            .filter_map(|o| o["metadata"]["uid"].as_str().map(str::to_owned))
            .collect();
        let mut quiet = true;
        for uid in uids {
            let key = Key::cluster(uid);
            let Some(mut plan) = world.plan(&GarbageCollector, &key) else {
                continue;
            };
            let answers = world.answer(&plan);
            if !answers.is_empty() {
                plan = world
                    .plan_with(&GarbageCollector, &key, &answers)
                    .expect("still there");
            }
            quiet &= plan.is_idle();
            world.apply_plan(&plan);
        }
        if quiet {
            return;
        }
    }
    panic!("the collector does not come to rest");
}

proptest! {
    /// Objects whose owners chains end in a living root stay; all others go, whatever the graph looks like.
    #[test]
    fn exactly_what_hangs_on_nothing_goes(
        edges in prop::collection::vec((0..8_usize, 0..10_usize, any::<bool>()), 0..14),
        policy in prop::sample::select(vec!["foregroundDeletion", "orphan", ""]),
    ) {
        let mut owners: Vec<Vec<(usize, bool)>> = vec![Vec::new(); 8];
        for (child, parent, blocks) in edges {
            // Owners are older than their dependents, 8 and 9 do not exist.
            if (parent < child || parent >= 8) && !owners[child].iter().any(|(p, _)| *p == parent) {
                owners[child].push((parent, blocks));
            }
        }
        let mut world = World::empty();
        for (i, list) in owners.iter().enumerate() {
            let list: Vec<Value> = list.iter().map(|(p, b)| owner(&format!("o{p}"), *b)).collect();
            let finalizers: &[&str] = if i == 0 && !policy.is_empty() { &[policy] } else { &[] };
            world.put(object(&format!("o{i}"), &list, finalizers, i == 0 && !policy.is_empty()));
        }
        if policy.is_empty() {
            world.objects.retain(|t, _| t.key.name != "o0");
        }
        collect(&mut world);
        let mut lives = [false; 8];
        for i in 1..8 {
            // Orphaning takes the reference away, all else takes the owner away.
            let left: Vec<usize> = owners[i]
                .iter()
                .map(|(p, _)| *p)
                .filter(|p| !(policy == "orphan" && *p == 0))
                .collect();
            lives[i] = left.is_empty() || left.iter().any(|p| *p < 8 && lives[*p]);
        }
        for (i, lives) in lives.into_iter().enumerate() {
            let there = world.get("ConfigMap", "default", &format!("o{i}")).is_some();
            prop_assert_eq!(there, lives, "o{}", i);
        }
    }
}
