//! Tables and laws for pod networks.

use control::Key;
use expect_test::expect;
use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::json;
use testkit::World;

use super::{NodeIpam, Ranges};
use crate::harness::check_world;

fn ipam() -> NodeIpam {
    let net = |text: &str| -> IpNet { text.parse().expect("a network") };
    NodeIpam {
        ranges: Ranges {
            cluster: vec![(net("10.244.0.0/16"), 24), (net("fd00::/48"), 64)],
            excluded: vec![net("10.244.1.0/24")],
        },
    }
}

#[test]
fn nodes_get_the_first_free_networks() {
    let mut world = World::empty();
    world.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}));
    world.put(
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b"},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]}}),
    );
    world.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "c"}}));
    check_world(
        &ipam(),
        &world,
        "nodes",
        &expect![[r#"
        because 2 nodes have no network
        patch nodes a: {"metadata":{"resourceVersion":"101","uid":"a-uid"},"spec":{"podCIDR":"10.244.2.0/24","podCIDRs":["10.244.2.0/24","fd00::/64"]}}
        patch nodes c: {"metadata":{"resourceVersion":"103","uid":"c-uid"},"spec":{"podCIDR":"10.244.3.0/24","podCIDRs":["10.244.3.0/24","fd00:0:0:1::/64"]}}
    "#]],
    );
}

#[test]
fn a_full_network_is_told() {
    let mut world = World::empty();
    world.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}));
    let ipam = NodeIpam {
        ranges: Ranges {
            cluster: vec![("10.0.0.0/24".parse().expect("a network"), 24)],
            excluded: vec!["10.0.0.0/16".parse().expect("a network")],
        },
    };
    check_world(
        &ipam,
        &world,
        "nodes",
        &expect![[r#"
        because 1 nodes have no network
        event Normal CIDRNotAvailable: Node a status is now: CIDRNotAvailable
    "#]],
    );
}

proptest! {
    #[test]
    fn no_two_nodes_share_an_address(steps in prop::collection::vec((0..12_u8, any::<bool>()), 1..40)) {
        let mut world = World::empty();
        for (node, add) in steps {
            let name = format!("n{node}");
            if add {
                if world.get("Node", "", &name).is_none() {
                    world.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}));
                }
            } else {
                world.objects.retain(|t, _| t.key.name != name);
            }
            let plan = world.plan(&ipam(), &Key::cluster("nodes")).expect("a plan");
            world.apply_plan(&plan);
            let mut given: Vec<String> = world
                .of_kind("Node")
                .map(|n| n["spec"]["podCIDRs"].to_string())
                .collect();
            let count = given.len();
            given.sort();
            given.dedup();
            prop_assert_eq!(given.len(), count);
            prop_assert!(!given.contains(&"null".to_owned()));
        }
    }
}
