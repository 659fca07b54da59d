//! Tables for the protection of volumes.

use expect_test::expect;
use serde_json::json;
use testkit::World;

use super::PvProtectionController;
use crate::harness::check_world;

fn world(phase: &str, leaving: bool, held: bool) -> World {
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"},
        "status": {"phase": phase},
    });
    if leaving {
        volume["metadata"]["deletionTimestamp"] = "2025-12-31T23:00:00Z".into();
    }
    if held {
        volume["metadata"]["finalizers"] = json!(["kubernetes.io/pv-protection"]);
    }
    let mut world = World::empty();
    world.put(volume);
    world
}

#[test]
fn a_bound_volume_stays_and_a_free_one_goes() {
    check_world(
        &PvProtectionController,
        &world("Bound", true, true),
        "disk",
        &expect![[r#"
        because it is bound
    "#]],
    );
    check_world(
        &PvProtectionController,
        &world("Released", true, true),
        "disk",
        &expect![[r#"
        because no claim is bound to it
        update persistentvolumes disk
    "#]],
    );
    check_world(
        &PvProtectionController,
        &world("Available", false, false),
        "disk",
        &expect![[r#"
        because it is not protected yet
        update persistentvolumes disk
    "#]],
    );
}
