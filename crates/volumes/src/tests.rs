//! Volumes and claims in JSON, matches out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use crate::affinity::Place;
use crate::matching::{For, find, mismatch};
use crate::{local, notes};

fn volume(name: &str, size: &str, more: Value) -> PersistentVolume {
    let mut spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"]});
    let labels = more.get("labels").cloned();
    let reserved = more.as_object().expect("an object").clone();
    for (key, value) in reserved.into_iter().filter(|(key, _)| key != "labels") {
        spec[key] = value;
    }
    let volume = json!({"metadata": {"name": name, "labels": labels}, "spec": spec,
        "status": {"phase": "Available"}});
    serde_json::from_value(volume).expect("a volume")
}

fn claim(size: &str, more: Value) -> PersistentVolumeClaim {
    let mut spec = json!({"resources": {"requests": {"storage": size}},
        "accessModes": ["ReadWriteOnce"]});
    for (key, value) in more.as_object().expect("an object").clone() {
        spec[key] = value;
    }
    let claim = json!({"metadata": {"name": "data", "namespace": "ns", "uid": "u"}, "spec": spec});
    serde_json::from_value(claim).expect("a claim")
}

fn found(claim: &PersistentVolumeClaim, volumes: &[PersistentVolume]) -> Option<String> {
    let volume = find(claim, volumes, For::Binder { delayed: false })?;
    volume.metadata.name.clone()
}

#[test]
fn the_smallest_that_fits_wins() {
    let volumes = [
        volume("big", "10Gi", json!({})),
        volume("small", "1Gi", json!({})),
        volume("right", "5Gi", json!({})),
    ];
    let of = |size: &str| found(&claim(size, json!({})), &volumes);
    assert_eq!(of("2Gi").as_deref(), Some("right"));
    assert_eq!(of("1Gi").as_deref(), Some("small"));
    assert_eq!(of("11Gi"), None);
}

#[test]
fn as_few_other_access_modes_as_possible() {
    let many = json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]});
    let volumes = [volume("many", "1Gi", many), volume("one", "5Gi", json!({}))];
    assert_eq!(
        found(&claim("1Gi", json!({})), &volumes).as_deref(),
        Some("one")
    );
    let many = claim("1Gi", json!({"accessModes": ["ReadOnlyMany"]}));
    assert_eq!(found(&many, &volumes).as_deref(), Some("many"));
}

#[test]
fn classes_selectors_and_modes_must_fit() {
    let volumes = [
        volume("plain", "1Gi", json!({})),
        volume("fast", "1Gi", json!({"storageClassName": "fast"})),
        volume("raw", "1Gi", json!({"volumeMode": "Block"})),
        volume(
            "gold",
            "1Gi",
            json!({"labels": {"tier": "gold"}, "storageClassName": "tiers"}),
        ),
    ];
    let of = |more: Value| found(&claim("1Gi", more), &volumes);
    assert_eq!(
        of(json!({"storageClassName": "fast"})).as_deref(),
        Some("fast")
    );
    assert_eq!(of(json!({"storageClassName": "slow"})), None);
    assert_eq!(of(json!({"volumeMode": "Block"})).as_deref(), Some("raw"));
    let gold = json!({"storageClassName": "tiers", "selector": {"matchLabels": {"tier": "gold"}}});
    assert_eq!(of(gold).as_deref(), Some("gold"));
    let iron = json!({"storageClassName": "tiers", "selector": {"matchLabels": {"tier": "iron"}}});
    assert_eq!(of(iron), None);
}

#[test]
fn a_reserved_volume_is_the_claims_even_when_it_waits() {
    let reserved = json!({"claimRef": {"namespace": "ns", "name": "data"}});
    let other = json!({"claimRef": {"namespace": "ns", "name": "other"}});
    let volumes = [
        volume("others", "1Gi", other),
        volume("free", "1Gi", json!({})),
        volume("mine", "9Gi", reserved),
    ];
    let claim = claim("1Gi", json!({}));
    assert_eq!(found(&claim, &volumes).as_deref(), Some("mine"));
    let delayed = find(&claim, &volumes, For::Binder { delayed: true });
    assert_eq!(
        delayed.and_then(|v| v.metadata.name.as_deref()),
        Some("mine")
    );
    let delayed = find(&claim, &volumes[..2], For::Binder { delayed: true });
    assert_eq!(delayed, None);
}

#[test]
fn the_scheduler_looks_at_the_node_and_promises_once() {
    let here = |name: &str, node: &str| {
        let mut volume = volume(name, "1Gi", json!({}));
        let spec = volume.spec.as_mut().expect("a specification");
        spec.node_affinity = Some(local::affinity_to(node));
        volume
    };
    let volumes = [here("a", "n1"), here("b", "n2")];
    let on = |node: &'static str, promised: &BTreeSet<String>| {
        let labels = BTreeMap::from([(local::HOST_NAME.to_owned(), node.to_owned())]);
        let place = Place {
            name: node,
            labels: &labels,
        };
        let volume = find(
            &claim("1Gi", json!({})),
            &volumes,
            For::Node(place, promised),
        );
        volume.and_then(|v| v.metadata.name.clone())
    };
    let none = BTreeSet::new();
    assert_eq!(on("n1", &none).as_deref(), Some("a"));
    assert_eq!(on("n2", &none).as_deref(), Some("b"));
    assert_eq!(on("n3", &none), None);
    assert_eq!(on("n1", &BTreeSet::from(["a".to_owned()])), None);
}

#[test]
fn a_named_volume_is_refused_with_the_reason() {
    let wants = claim("2Gi", json!({}));
    let why = |volume: PersistentVolume| mismatch(&volume, &wants).unwrap_or_default();
    assert_eq!(
        why(volume("a", "1Gi", json!({}))),
        "requested PV is too small"
    );
    let class = json!({"storageClassName": "x"});
    assert_eq!(
        why(volume("a", "2Gi", class)),
        "storageClassName does not match"
    );
    let mode = json!({"volumeMode": "Block"});
    assert_eq!(why(volume("a", "2Gi", mode)), "incompatible volumeMode");
    let modes = json!({"accessModes": ["ReadOnlyMany"]});
    assert_eq!(why(volume("a", "2Gi", modes)), "incompatible accessMode");
    assert_eq!(why(volume("a", "2Gi", json!({}))), "");
}

#[test]
fn only_our_own_volumes_have_a_node_of_ours() {
    let mut own = volume("a", "1Gi", json!({"local": {"path": "/x"}}));
    let spec = own.spec.as_mut().expect("a specification");
    spec.node_affinity = Some(local::affinity_to("n1"));
    assert_eq!(local::node_of(&own), None);
    let note = (
        notes::PROVISIONED_BY.to_owned(),
        local::PROVISIONER.to_owned(),
    );
    own.metadata.annotations = Some([note].into());
    assert_eq!(local::node_of(&own), Some("n1"));
}

/// CVE-2025-62878, CVE-2026-44543: no name leads out of the folder.
#[test]
fn hostile_names_are_no_directory_names() {
    for name in [
        "", ".", "..", "a/b", "../a", "a/..", "A", "a\0", ".a", "a.", "-a", "a b",
    ] {
        assert!(!local::is_directory_name(name), "{name:?}");
    }
    assert!(!local::is_directory_name(&"a".repeat(254)));
    assert!(local::is_directory_name(
        "pvc-2f0c9c1e-4a53-4c5a-9b7f-5e0f6a1d2b3c"
    ));
    assert!(local::is_directory_name("disk-1.old"));
}
