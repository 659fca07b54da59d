//! Fragments from objects, and the law that applying changes reaches what the fragments say.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use nft::Change;
use nft::model::Value;
use proptest::prelude::*;
use serde_json::json;

use crate::{
    Backends, Endpoint, Fragment, Frontend, FrontendKind, Here, Protocol, Reach, Rules, Udp,
    compile,
};

fn service(spec: serde_json::Value) -> Service {
    serde_json::from_value(
        json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}),
    )
    .expect("a service")
}

fn slice(endpoints: serde_json::Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }))
    .expect("a slice")
}

fn node_port_service() -> Service {
    service(json!({
        "type": "NodePort", "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}],
    }))
}

fn here() -> Here {
    Here {
        node: "n1".to_owned(),
        zone: Some("a".to_owned()),
        addresses: vec![Ipv4Addr::new(192, 0, 2, 1)],
    }
}

/// Doors and where they lead, for reading.
fn show(fragment: &Fragment) -> String {
    let lasts =
        |all: &[Endpoint]| -> Vec<u8> { all.iter().map(|e| e.address.octets()[3]).collect() };
    let mut text = String::new();
    for (at, backends) in &fragment.frontends {
        let reach = match &backends.reach {
            Reach::Nowhere => "nowhere".to_owned(),
            Reach::Elsewhere => "elsewhere".to_owned(),
            Reach::Spread(all) => format!("{:?}", lasts(all)),
            Reach::Preserve { cluster, local } => {
                format!("{:?}, from outside {:?}", lasts(cluster), lasts(local))
            }
        };
        text += &format!("{:?} {}:{} {reach}", backends.kind, at.address, at.port);
        text += &backends
            .affinity
            .map(|s| format!(" for {s}s"))
            .unwrap_or_default();
        for source in backends.sources.iter().flatten() {
            text += &format!(" from {}/{}", source.address, source.prefix);
        }
        text += "\n";
    }
    if let Some((port, count)) = fragment.health_check {
        text += &format!("health of {count} at {port}\n");
    }
    text
}

fn check(service: &Service, endpoints: serde_json::Value, expect: &Expect) {
    let slice = slice(endpoints);
    expect.assert_eq(&show(&compile(service, [&slice].into_iter(), &here())));
}

#[test]
fn node_port_service_has_two_doors_to_the_ready_end_points() {
    check(
        &node_port_service(),
        json!([
            {"addresses": ["10.244.0.5"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.4"]},
            {"addresses": ["10.244.0.6"], "conditions": {"ready": false}},
        ]),
        &expect![[r#"
            Node 0.0.0.0:30080 [4, 5]
            Cluster 10.96.0.20:80 [4, 5]
        "#]],
    );
}

#[test]
fn terminating_end_points_serve_when_no_ready_one_is_left() {
    check(
        &node_port_service(),
        json!([
            {"addresses": ["10.244.0.5"],
             "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.244.0.6"], "conditions": {"ready": false, "serving": false}},
        ]),
        &expect![[r#"
            Node 0.0.0.0:30080 [5]
            Cluster 10.96.0.20:80 [5]
        "#]],
    );
}

fn everything() -> Service {
    let mut service = service(json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"],
        "externalIPs": ["198.51.100.7", "203.0.113.1"], "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 32000, "loadBalancerSourceRanges": ["192.0.2.0/24", "10.0.0.1/8"],
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 30}},
        "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}],
    }));
    service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [
        {"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}]}}))
    .expect("a status");
    service
}

#[test]
fn a_load_balancer_keeps_sources_on_this_node_only() {
    let endpoints = json!([
        {"addresses": ["10.244.0.5"], "nodeName": "n1"},
        {"addresses": ["10.244.1.6"], "nodeName": "n2"},
    ]);
    check(
        &everything(),
        endpoints,
        &expect![[r#"
        Node 0.0.0.0:30080 [5, 6], from outside [5] for 30s
        Cluster 10.96.0.20:80 [5, 6] for 30s
        External 198.51.100.7:80 [5, 6], from outside [5] for 30s
        External 203.0.113.1:80 [5, 6], from outside [5] for 30s from 10.0.0.1/8 from 192.0.2.0/24 from 203.0.113.1/32
        health of 1 at 32000
    "#]],
    );
    let elsewhere = json!([{"addresses": ["10.244.1.6"], "nodeName": "n2"}]);
    check(
        &everything(),
        elsewhere.clone(),
        &expect![[r#"
        Node 0.0.0.0:30080 [6], from outside [] for 30s
        Cluster 10.96.0.20:80 [6] for 30s
        External 198.51.100.7:80 [6], from outside [] for 30s
        External 203.0.113.1:80 [6], from outside [] for 30s from 10.0.0.1/8 from 192.0.2.0/24 from 203.0.113.1/32
        health of 0 at 32000
    "#]],
    );
    check(
        &everything(),
        json!([]),
        &expect![[r#"
        Node 0.0.0.0:30080 nowhere for 30s
        Cluster 10.96.0.20:80 nowhere for 30s
        External 198.51.100.7:80 nowhere for 30s
        External 203.0.113.1:80 nowhere for 30s from 10.0.0.1/8 from 192.0.2.0/24 from 203.0.113.1/32
        health of 0 at 32000
    "#]],
    );
    let mut internal = node_port_service();
    let spec = internal.spec.as_mut().expect("a spec");
    spec.internal_traffic_policy = Some("Local".to_owned());
    check(
        &internal,
        elsewhere,
        &expect![[r#"
        Node 0.0.0.0:30080 [6]
        Cluster 10.96.0.20:80 elsewhere
    "#]],
    );
}

#[test]
fn hints_are_followed_when_all_have_them_and_one_is_for_here() {
    let hinted = |address: &str, zone: &str, node: Option<&str>| {
        let mut hints = json!({"forZones": [{"name": zone}]});
        if let Some(node) = node {
            hints["forNodes"] = json!([{"name": node}]);
        }
        json!({"addresses": [address], "hints": hints})
    };
    let service = node_port_service();
    let (near, far) = (hinted("10.0.0.1", "a", None), hinted("10.0.0.2", "b", None));
    check(
        &service,
        json!([near, far]),
        &expect![[r#"
        Node 0.0.0.0:30080 [1]
        Cluster 10.96.0.20:80 [1]
    "#]],
    );
    check(
        &service,
        json!([far]),
        &expect![[r#"
        Node 0.0.0.0:30080 [2]
        Cluster 10.96.0.20:80 [2]
    "#]],
    );
    check(
        &service,
        json!([near, far, {"addresses": ["10.0.0.3"]}]),
        &expect![[r#"
            Node 0.0.0.0:30080 [1, 2, 3]
            Cluster 10.96.0.20:80 [1, 2, 3]
        "#]],
    );
    let here = hinted("10.0.0.4", "a", Some("n1"));
    let there = hinted("10.0.0.5", "a", Some("n2"));
    check(
        &service,
        json!([here, there]),
        &expect![[r#"
        Node 0.0.0.0:30080 [4]
        Cluster 10.96.0.20:80 [4]
    "#]],
    );
    check(
        &service,
        json!([there]),
        &expect![[r#"
        Node 0.0.0.0:30080 [5]
        Cluster 10.96.0.20:80 [5]
    "#]],
    );
}

#[test]
fn nobody_claims_all_addresses() {
    let mut service = node_port_service();
    let spec = service.spec.as_mut().expect("a spec");
    spec.external_ips = Some(vec!["0.0.0.0".to_owned()]);
    let fragment = compile(&service, [].into_iter(), &here());
    let doors = fragment.frontends.iter();
    let doors: Vec<_> = doors.map(|(f, b)| (b.kind, f.port)).collect();
    let expected = [(FrontendKind::Node, 30080), (FrontendKind::Cluster, 80)];
    assert_eq!(doors, expected);
}

#[test]
fn headless_external_and_foreign_services_are_left_alone() {
    let headless =
        service(json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}));
    let external = service(json!({"type": "ExternalName", "externalName": "example.com"}));
    let mut foreign = node_port_service();
    let label = (
        "service.kubernetes.io/service-proxy-name".to_owned(),
        "other".to_owned(),
    );
    foreign.metadata.labels = Some([label].into());
    for service in [headless, external, foreign] {
        assert_eq!(
            compile(&service, [].into_iter(), &here()),
            Fragment::default()
        );
    }
}

/// The kernel's sets as the changes leave them.
#[derive(Default, Debug, PartialEq)]
struct Sets(BTreeMap<String, BTreeMap<Vec<u8>, Value>>);

impl Sets {
    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::AddElements(set, elements) => {
                    let set = self.0.entry(set.clone()).or_default();
                    for (key, value) in elements {
                        assert_eq!(set.insert(key.clone(), value.clone()), None, "added twice");
                    }
                }
                Change::DeleteElements(set, keys) => {
                    let set = self.0.entry(set.clone()).or_default();
                    for key in keys {
                        assert!(set.remove(key).is_some(), "removed what is not there");
                    }
                }
                _ => {}
            }
        }
        self.0.retain(|_, set| !set.is_empty());
    }
}

/// Each service has a cluster IP, a node port, and claims an address that others claim as well.
fn fragment(service: u8, endpoints: Option<Vec<u8>>, local: bool, affine: bool) -> Fragment {
    let Some(mut endpoints) = endpoints else {
        return Fragment::default();
    };
    endpoints.sort_unstable();
    endpoints.dedup();
    let endpoints: Vec<_> = endpoints
        .into_iter()
        .map(|last| Endpoint {
            address: Ipv4Addr::new(10, 244, 0, last),
            port: 80,
        })
        .collect();
    let reach = |kind| match (endpoints.is_empty(), local && kind != FrontendKind::Cluster) {
        (true, _) => Reach::Nowhere,
        (_, false) => Reach::Spread(endpoints.clone()),
        (_, true) => Reach::Preserve {
            cluster: endpoints.clone(),
            local: endpoints[1..].to_vec(),
        },
    };
    let at = |kind, address, port| {
        let frontend = Frontend {
            address,
            protocol: Protocol::Tcp,
            port,
        };
        let backends = Backends {
            kind,
            reach: reach(kind),
            affinity: affine.then_some(10),
            sources: local.then(|| vec!["10.0.0.0/8".parse().expect("a network")]),
            serving: Vec::new(),
        };
        (frontend, backends)
    };
    let node_port = 30000 + u16::from(service);
    Fragment {
        frontends: vec![
            at(FrontendKind::Node, Ipv4Addr::UNSPECIFIED, node_port),
            at(FrontendKind::Cluster, Ipv4Addr::new(10, 96, 0, service), 80),
            at(FrontendKind::External, Ipv4Addr::new(203, 0, 113, 1), 80),
        ],
        health_check: None,
    }
}

proptest! {
    #[test]
    fn changes_lead_to_the_same_sets_as_a_fresh_start(
        steps in prop::collection::vec(
            (0u8..4, prop::option::of(prop::collection::vec(0u8..6, 0..5)), any::<bool>(), any::<bool>()),
            0..30),
        together in 1usize..4,
    ) {
        let (mut rules, mut sets) = (Rules::new(None), Sets::default());
        let mut last: BTreeMap<u8, Fragment> = BTreeMap::new();
        for steps in steps.chunks(together) {
            let mut all: BTreeMap<u8, Fragment> = BTreeMap::new();
            for (service, endpoints, local, affine) in steps.iter().cloned() {
                all.insert(service, fragment(service, endpoints, local, affine));
            }
            last.extend(all.clone());
            let all = all.into_iter().map(|(service, f)| (service.to_string(), f));
            sets.apply(&rules.set_all(all.collect()));
        }
        let (mut fresh, mut expected) = (Rules::new(None), Sets::default());
        for (service, fragment) in last {
            expected.apply(&fresh.set(&service.to_string(), fragment));
        }
        prop_assert_eq!(sets, expected);
    }
}

#[test]
fn of_two_claims_the_cluster_ip_counts_and_then_the_name() {
    let claim = |kind, last| {
        let frontend = Frontend {
            address: Ipv4Addr::new(10, 96, 0, 1),
            protocol: Protocol::Tcp,
            port: 443,
        };
        let endpoints = vec![Endpoint {
            address: Ipv4Addr::new(10, 244, 0, last),
            port: 80,
        }];
        let backends = Backends {
            kind,
            reach: Reach::Spread(endpoints),
            affinity: None,
            sources: None,
            serving: Vec::new(),
        };
        Fragment {
            frontends: vec![(frontend, backends)],
            health_check: None,
        }
    };
    let mut rules = Rules::new(None);
    let mut sets = Sets::default();
    let goes_to = |sets: &Sets| match sets.0["endpoints"].values().next() {
        Some(Value::Data(data)) => data[3],
        other => panic!("{other:?}"),
    };
    sets.apply(&rules.set("b", claim(FrontendKind::External, 2)));
    assert_eq!(goes_to(&sets), 2);
    sets.apply(&rules.set("a", claim(FrontendKind::External, 1)));
    assert_eq!(goes_to(&sets), 1);
    sets.apply(&rules.set("c", claim(FrontendKind::Cluster, 3)));
    assert_eq!(goes_to(&sets), 3);
    sets.apply(&rules.set("c", Fragment::default()));
    assert_eq!(goes_to(&sets), 1);
}

#[test]
fn flows_to_what_no_longer_serves_are_stale() {
    let dns = service(json!({
        "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
        "ports": [{"name": "http", "port": 53, "nodePort": 30053, "protocol": "UDP"}],
    }));
    let with = |lasts: &[u8]| {
        let all: Vec<_> = lasts
            .iter()
            .map(|last| json!({"addresses": [format!("10.244.0.{last}")]}))
            .collect();
        compile(&dns, [&slice(json!(all))].into_iter(), &here())
    };
    let flow = |destination: [u8; 4], port, answered_by: [u8; 4]| nft::conntrack::Flow {
        source: (Ipv4Addr::new(10, 244, 0, 99), 4000),
        destination: destination.into(),
        port,
        answered_by: answered_by.into(),
        answered_port: 8080,
        zone: 0,
    };
    let flows = || {
        vec![
            flow([10, 96, 0, 10], 53, [10, 244, 0, 1]),
            flow([10, 96, 0, 10], 53, [10, 244, 0, 2]),
            flow([10, 96, 0, 11], 53, [10, 244, 0, 1]),
            flow([192, 0, 2, 1], 30053, [10, 244, 0, 1]),
        ]
    };
    let left = |old: &[u8], new: &[u8]| {
        let mut changed = Udp::default();
        changed.note(Some(&with(old)), &with(new));
        crate::stale(flows(), &changed).len()
    };
    assert_eq!(left(&[1, 2], &[1, 2, 3]), 0, "all are kept");
    assert_eq!(
        left(&[1, 2], &[2]),
        2,
        "by the cluster IP and by the node port"
    );
    assert_eq!(
        left(&[1, 2], &[]),
        2,
        "a node port without end points is let be"
    );
    assert_eq!(left(&[], &[1]), 1, "what was sent before there was anybody");
}
