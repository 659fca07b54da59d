use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use expect_test::{Expect, expect};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::*;

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

fn own(backend: Backend) -> Own {
    Own {
        node: "a".into(),
        pods: net("10.244.0.0/24"),
        cluster: net("10.244.0.0/16"),
        public_ip: Ipv4Addr::new(192, 0, 2, 1),
        link: net("192.0.2.0/24"),
        backend,
    }
}

/// A node that has told the others about itself.
fn node(name: &str, pods: &str, public_ip: &str, backend: Backend) -> Node {
    let mut node: Node = serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"podCIDR": pods},
    }))
    .expect("a node");
    let own = Own {
        node: name.into(),
        public_ip: public_ip.parse().unwrap_or(Ipv4Addr::UNSPECIFIED),
        ..own(backend)
    };
    let patch = lease::announcement(&node, &own).expect("it has said nothing yet");
    let said: BTreeMap<String, String> =
        serde_json::from_value(patch["metadata"]["annotations"].clone()).expect("texts");
    node.metadata.annotations = Some(said);
    node
}

fn check(backend: Backend, nodes: &[Node], want: &Expect) {
    let (picture, problems) = plan(&own(backend), nodes);
    let mut out = String::new();
    for change in diff(&Picture::default(), &picture) {
        writeln!(out, "{change:?}").expect("text");
    }
    if picture.peers != Peers::default() {
        writeln!(out, "{:?}", picture.peers).expect("text");
    }
    for (node, problem) in problems {
        writeln!(out, "{node}: {problem}").expect("text");
    }
    want.assert_eq(&out);
}

#[test]
fn every_back_end_leads_to_the_other_nodes() {
    let nodes = |backend| {
        [
            node("a", "10.244.0.0/24", "192.0.2.1", backend),
            node("b", "10.244.1.0/24", "192.0.2.2", backend),
        ]
    };
    check(
        Backend::Vxlan,
        &nodes(Backend::Vxlan),
        &expect![[r#"
            SetForwarding(Mac([10, 88, 192, 0, 2, 2]), 192.0.2.2)
            SetNeighbour(10.244.1.0, Mac([10, 88, 192, 0, 2, 2]))
            SetRoute(10.244.0.0/16, Nowhere)
            SetRoute(10.244.1.0/24, Tunnel(10.244.1.0))
        "#]],
    );
    check(
        Backend::HostGw,
        &nodes(Backend::HostGw),
        &expect![[r#"
            SetRoute(10.244.0.0/16, Nowhere)
            SetRoute(10.244.1.0/24, Gateway(192.0.2.2))
        "#]],
    );
    check(
        Backend::Udp,
        &nodes(Backend::Udp),
        &expect![[r#"
            SetRoute(10.244.0.0/16, Nowhere)
            SetRoute(10.244.1.0/24, Device)
            Peers({10.244.1.0: (10.244.1.0/24, 192.0.2.2)})
        "#]],
    );
}

#[test]
fn what_a_node_says_is_used_only_when_it_can_be() {
    let good = || node("b", "10.244.1.0/24", "192.0.2.2", Backend::Vxlan);
    let said = |key: &str, value: &str| {
        let mut node = good();
        let all = node.metadata.annotations.get_or_insert_default();
        all.insert(format!("flannel.alpha.coreos.com/{key}"), value.into());
        node
    };
    let named = |name: &str, mut node: Node| {
        node.metadata.name = Some(name.into());
        node
    };
    let silent: Node = serde_json::from_value(json!({"metadata": {"name": "silent"}})).expect("");
    let group = r#"{"VNI":1,"VtepMAC":"01:00:5e:00:00:01"}"#;
    let mine = r#"{"VNI":1,"VtepMAC":"0a:58:c0:00:02:01"}"#;
    let nodes = [
        silent,
        named("backend", said("backend-type", "host-gw")),
        named("data", said("backend-data", "null")),
        named("group", said("backend-data", group)),
        named("mine", said("backend-data", mine)),
        named(
            "vni",
            said("backend-data", r#"{"VNI":2,"VtepMAC":"0a:58:c0:00:02:02"}"#),
        ),
        named("loop", said("public-ip", "127.0.0.1")),
        named("pod", said("public-ip", "10.244.0.7")),
        named("self", said("public-ip", "192.0.2.1")),
        named("text", said("public-ip", "$(reboot)")),
        node("outside", "10.0.0.0/24", "192.0.2.3", Backend::Vxlan),
        node("odd", "10.244.3.1/24", "192.0.2.3", Backend::Vxlan),
        node("all", "10.244.0.0/16", "192.0.2.4", Backend::Vxlan),
        node("part", "10.244.0.128/25", "192.0.2.4", Backend::Vxlan),
        named("z-last", good()),
        good(),
    ];
    check(
        Backend::Vxlan,
        &nodes,
        &expect![[r#"
            SetForwarding(Mac([10, 88, 192, 0, 2, 2]), 192.0.2.2)
            SetNeighbour(10.244.1.0, Mac([10, 88, 192, 0, 2, 2]))
            SetRoute(10.244.0.0/16, Nowhere)
            SetRoute(10.244.1.0/24, Tunnel(10.244.1.0))
            all: its pod network 10.244.0.0/16 belongs to another node in part
            backend: its back end is host-gw, ours vxlan
            data: its annotation flannel.alpha.coreos.com/backend-data cannot be used
            group: its annotation flannel.alpha.coreos.com/backend-data cannot be used
            loop: its annotation flannel.alpha.coreos.com/public-ip cannot be used
            mine: its pod network 10.244.1.0/24 belongs to another node in part
            odd: its pod network "10.244.3.1/24" is none of this cluster's
            outside: its pod network "10.0.0.0/24" is none of this cluster's
            part: its pod network 10.244.0.128/25 belongs to another node in part
            pod: its annotation flannel.alpha.coreos.com/public-ip cannot be used
            self: its annotation flannel.alpha.coreos.com/public-ip cannot be used
            silent: it is not ready for the network yet
            text: its annotation flannel.alpha.coreos.com/public-ip cannot be used
            vni: its annotation flannel.alpha.coreos.com/backend-data cannot be used
            z-last: its pod network 10.244.1.0/24 belongs to another node in part
        "#]],
    );
    let far = node("far", "10.244.1.0/24", "198.51.100.1", Backend::HostGw);
    check(
        Backend::HostGw,
        &[far],
        &expect![[r#"
            SetRoute(10.244.0.0/16, Nowhere)
            far: it is not on this node's link, as host-gw needs it: 198.51.100.1
        "#]],
    );
}

#[test]
fn a_node_speaks_flannels_words_once() {
    let said = node("a", "10.244.0.0/24", "192.0.2.1", Backend::Vxlan);
    let annotations = json!(said.metadata.annotations);
    expect![[r#"
        {
          "flannel.alpha.coreos.com/backend-data": "{\"VNI\":1,\"VtepMAC\":\"0a:58:c0:00:02:01\"}",
          "flannel.alpha.coreos.com/backend-type": "vxlan",
          "flannel.alpha.coreos.com/kube-subnet-manager": "true",
          "flannel.alpha.coreos.com/public-ip": "192.0.2.1"
        }"#]]
    .assert_eq(&format!("{annotations:#}"));
    assert_eq!(lease::announcement(&said, &own(Backend::Vxlan)), None);
    let patch = lease::announcement(&said, &own(Backend::Udp)).expect("another back end");
    let data = &patch["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-data"];
    assert_eq!(data, &Value::from("null"));
}

#[test]
fn packets_find_their_nodes() {
    let nodes = [
        node("b", "10.244.1.0/24", "192.0.2.2", Backend::Udp),
        node("c", "10.244.9.0/24", "192.0.2.3", Backend::Udp),
    ];
    let (picture, _) = plan(&own(Backend::Udp), &nodes);
    let node_of = |text: &str| picture.peers.node_of(text.parse().expect("an address"));
    assert_eq!(node_of("10.244.1.255"), Some(Ipv4Addr::new(192, 0, 2, 2)));
    assert_eq!(node_of("10.244.9.0"), Some(Ipv4Addr::new(192, 0, 2, 3)));
    assert_eq!(node_of("10.244.2.0"), None);
    assert_eq!(node_of("10.244.0.1"), None);
    assert!(picture.peers.has_node(Ipv4Addr::new(192, 0, 2, 3)));
    assert!(!picture.peers.has_node(Ipv4Addr::new(192, 0, 2, 9)));
    let mut packet = [0; 20];
    packet[0] = 0x45;
    packet[12..20].copy_from_slice(&[10, 244, 0, 5, 10, 244, 1, 6]);
    assert_eq!(source(&packet), Some(Ipv4Addr::new(10, 244, 0, 5)));
    assert_eq!(destination(&packet), Some(Ipv4Addr::new(10, 244, 1, 6)));
    assert_eq!(destination(&packet[..19]), None);
    packet[0] = 0x60;
    assert_eq!(destination(&packet), None);
}

/// Carries changes out, as the kernel would.
fn apply(picture: &mut Picture, change: Change) {
    match change {
        Change::SetRoute(net, via) => drop(picture.routes.insert(net, via)),
        Change::RemoveRoute(net, via) => assert_eq!(picture.routes.remove(&net), Some(via)),
        Change::SetNeighbour(address, mac) => drop(picture.neighbours.insert(address, mac)),
        Change::RemoveNeighbour(address, mac) => {
            assert_eq!(picture.neighbours.remove(&address), Some(mac));
        }
        // The kernel would have both.
        Change::SetForwarding(mac, at) => assert_eq!(picture.forwarding.insert(mac, at), None),
        Change::RemoveForwarding(mac, at) => {
            assert_eq!(picture.forwarding.remove(&mac), Some(at));
        }
    }
}

fn some_nodes() -> impl Strategy<Value = Vec<Node>> {
    let one = (0_u8..6, 0_u8..6, 1_u8..6);
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let one = |(name, pods, address): (u8, u8, u8)| {
            let (pods, address) = (format!("10.244.{pods}.0/24"), format!("192.0.2.{address}"));
            node(&format!("n{name}"), &pods, &address, Backend::Vxlan)
        };
        all.into_iter().map(one).collect()
    })
}

proptest! {
    #[test]
    fn every_picture_leads_to_every_other(before in some_nodes(), after in some_nodes()) {
        let own = own(Backend::Vxlan);
        let (mut picture, _) = plan(&own, &before);
        let (wanted, _) = plan(&own, &after);
        for change in diff(&picture, &wanted) {
            apply(&mut picture, change);
            // A route never leads to a neighbour that is not there.
            for via in picture.routes.values() {
                if let Via::Tunnel(gateway) = via {
                    let mac = picture.neighbours.get(gateway);
                    prop_assert!(mac.is_some());
                }
            }
        }
        prop_assert_eq!(&picture, &wanted);
        prop_assert!(diff(&picture, &wanted).is_empty());
    }

    #[test]
    fn macs_are_read_as_they_are_written(bytes: [u8; 6]) {
        let mac = Mac(bytes);
        prop_assert_eq!(mac.to_string().parse(), Ok(mac));
    }
}
