//! Fragments from objects, and the law that applying changes reaches what the fragments say.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use nft::Change;
use nft::model::Value;
use proptest::prelude::*;
use serde_json::json;

use crate::{Endpoint, Fragment, Frontend, FrontendKind, Protocol, Rules, compile};

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

#[test]
fn node_port_service_has_two_doors_to_the_ready_end_points() {
    let slice = slice(json!([
        {"addresses": ["10.244.0.5"], "conditions": {"ready": true}},
        {"addresses": ["10.244.0.4"]},
        {"addresses": ["10.244.0.6"], "conditions": {"ready": false}},
    ]));
    let fragment = compile(&node_port_service(), [&slice].into_iter());
    let doors: Vec<_> = fragment
        .frontends
        .iter()
        .map(|(f, _)| (f.kind, f.port))
        .collect();
    assert_eq!(
        doors,
        [(FrontendKind::Cluster, 80), (FrontendKind::Node, 30080)]
    );
    let to = |last| Endpoint {
        address: Ipv4Addr::new(10, 244, 0, last),
        port: 8080,
    };
    assert!(
        fragment
            .frontends
            .iter()
            .all(|(_, endpoints)| *endpoints == [to(4), to(5)])
    );
}

#[test]
fn terminating_end_points_serve_when_no_ready_one_is_left() {
    let slice = slice(json!([
        {"addresses": ["10.244.0.5"],
         "conditions": {"ready": false, "serving": true, "terminating": true}},
        {"addresses": ["10.244.0.6"], "conditions": {"ready": false, "serving": false}},
    ]));
    let fragment = compile(&node_port_service(), [&slice].into_iter());
    assert_eq!(fragment.frontends[0].1.len(), 1);
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
        assert_eq!(compile(&service, [].into_iter()), Fragment::default());
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

/// Services never share a front end; each gets a cluster IP and a node port of its own.
fn fragment(service: u8, endpoints: Option<Vec<u8>>) -> Fragment {
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
    let cluster = Frontend {
        kind: FrontendKind::Cluster,
        address: Ipv4Addr::new(10, 96, 0, service),
        protocol: Protocol::Tcp,
        port: 80,
    };
    let node = Frontend {
        kind: FrontendKind::Node,
        address: Ipv4Addr::UNSPECIFIED,
        port: 30000 + u16::from(service),
        ..cluster
    };
    Fragment {
        frontends: vec![(cluster, endpoints.clone()), (node, endpoints)],
    }
}

proptest! {
    #[test]
    fn changes_lead_to_the_same_sets_as_a_fresh_start(
        steps in prop::collection::vec(
            (0u8..4, prop::option::of(prop::collection::vec(0u8..6, 0..5))), 0..30),
    ) {
        let (mut rules, mut sets) = (Rules::new(), Sets::default());
        let mut last: BTreeMap<u8, Fragment> = BTreeMap::new();
        for (service, endpoints) in steps {
            let fragment = fragment(service, endpoints);
            sets.apply(&rules.set(&service.to_string(), fragment.clone()));
            last.insert(service, fragment);
        }
        let (mut fresh, mut expected) = (Rules::new(), Sets::default());
        for (service, fragment) in last {
            expected.apply(&fresh.set(&service.to_string(), fragment));
        }
        prop_assert_eq!(sets, expected);
    }
}
