//! Tables for addresses of load balancers.

use std::net::Ipv4Addr;

use control::Key;
use expect_test::expect;
use serde_json::{Value, json};
use testkit::World;

use super::{Addresses, LoadBalancerController};
use crate::harness::check_world;

fn pool(last: u8) -> LoadBalancerController {
    let at = |last| Ipv4Addr::new(203, 0, 113, last);
    LoadBalancerController {
        addresses: Addresses::Pool(vec![at(1)..=at(last)]),
    }
}

fn nodes() -> LoadBalancerController {
    LoadBalancerController {
        addresses: Addresses::Nodes {
            reserved: vec![6443],
        },
    }
}

fn node(name: &str, ready: bool) -> Value {
    let last = name.as_bytes()[1] - b'0';
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        "addresses": [{"type": "InternalIP", "address": format!("192.0.2.{last}")}]}})
}

fn service(name: &str, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": port, "protocol": "TCP"}]}})
}

fn world(objects: Vec<Value>) -> World {
    let mut world = World::empty();
    objects.into_iter().for_each(|object| world.put(object));
    world
}

fn settle(controller: &LoadBalancerController, world: &mut World) {
    let plan = world.plan(controller, &Key::cluster("services"));
    world.apply_plan(&plan.expect("a plan"));
    let plan = world.plan(controller, &Key::cluster("services"));
    assert!(plan.expect("a plan").is_idle(), "once is enough");
}

#[test]
fn each_gets_an_address_of_the_pool_and_a_node_that_answers_for_it() {
    let mut world = world(vec![
        node("n1", true),
        node("n2", true),
        node("n3", false),
        service("a", 80),
        service("b", 80),
    ]);
    check_world(
        &pool(9),
        &world,
        "services",
        &expect![[r#"
        because 2 services have their addresses, 0 cannot get any
        event Normal EnsuringLoadBalancer: Ensuring load balancer
        patch/status services default/a: {"metadata":{"annotations":{"oxikube.io/announced-by":"n2"},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"104","uid":"a-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1","ipMode":"VIP"}]}}}
        event Normal EnsuredLoadBalancer: Ensured load balancer
        event Normal EnsuringLoadBalancer: Ensuring load balancer
        patch/status services default/b: {"metadata":{"annotations":{"oxikube.io/announced-by":"n2"},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"105","uid":"b-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.2","ipMode":"VIP"}]}}}
        event Normal EnsuredLoadBalancer: Ensured load balancer
    "#]],
    );
    settle(&pool(9), &mut world);
    // Its node goes: another one takes over, under the same address.
    let service = world.get("Service", "default", "a").expect("there");
    let by = service["metadata"]["annotations"]["oxikube.io/announced-by"].clone();
    world.put(node(by.as_str().expect("a node"), false));
    check_world(
        &pool(9),
        &world,
        "services",
        &expect![[r#"
        because 2 services have their addresses, 0 cannot get any
        patch/status services default/a: {"metadata":{"annotations":{"oxikube.io/announced-by":"n1"},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"106","uid":"a-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1","ipMode":"VIP"}]}}}
        event Normal UpdatedLoadBalancer: Updated load balancer with new hosts
        patch/status services default/b: {"metadata":{"annotations":{"oxikube.io/announced-by":"n1"},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"107","uid":"b-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.2","ipMode":"VIP"}]}}}
        event Normal UpdatedLoadBalancer: Updated load balancer with new hosts
    "#]],
    );
}

#[test]
fn addresses_are_kept_asked_for_and_refused() {
    let mut asks = service("asks", 80);
    asks["spec"]["loadBalancerIP"] = "203.0.113.2".into();
    let mut strange = service("strange", 80);
    strange["spec"]["loadBalancerIP"] = "198.51.100.1".into();
    let mut foreign = service("theirs", 80);
    foreign["spec"]["loadBalancerClass"] = "example.com/theirs".into();
    let mut all = world(vec![node("n1", true), asks, strange, foreign]);
    check_world(
        &pool(2),
        &all,
        "services",
        &expect![[r#"
        because 1 services have their addresses, 1 cannot get any
        event Normal EnsuringLoadBalancer: Ensuring load balancer
        patch/status services default/asks: {"metadata":{"annotations":{"oxikube.io/announced-by":"n1"},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"102","uid":"asks-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.2","ipMode":"VIP"}]}}}
        event Normal EnsuredLoadBalancer: Ensured load balancer
        event Warning SyncLoadBalancerFailed: Error syncing load balancer: failed to ensure load balancer: 198.51.100.1 is not an address of this load balancer
    "#]],
    );
    settle_some(&pool(2), &mut all);
    all.put(service("first", 80));
    all.put(service("late", 80));
    check_world(
        &pool(2),
        &all,
        "services",
        &expect![[r#"
        because 2 services have their addresses, 2 cannot get any
        event Normal EnsuringLoadBalancer: Ensuring load balancer
        patch/status services default/first: {"metadata":{"annotations":{"oxikube.io/announced-by":"n1"},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"106","uid":"first-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1","ipMode":"VIP"}]}}}
        event Normal EnsuredLoadBalancer: Ensured load balancer
    "#]],
    );
}

/// The plan is carried out; what is wrong stays wrong.
fn settle_some(controller: &LoadBalancerController, world: &mut World) {
    let plan = world.plan(controller, &Key::cluster("services"));
    world.apply_plan(&plan.expect("a plan"));
}

#[test]
fn what_is_no_longer_wanted_is_given_back() {
    let mut world = world(vec![node("n1", true), service("a", 80)]);
    settle(&pool(9), &mut world);
    let mut service = world.get("Service", "default", "a").expect("there").clone();
    service["spec"]["type"] = "ClusterIP".into();
    world.put(service);
    check_world(
        &pool(9),
        &world,
        "services",
        &expect![[r#"
        because 0 services have their addresses, 0 cannot get any
        event Normal DeletingLoadBalancer: Deleting load balancer
        patch/status services default/a: {"metadata":{"annotations":{"oxikube.io/announced-by":null},"finalizers":[],"resourceVersion":"104","uid":"a-uid"},"status":{"loadBalancer":{"ingress":null}}}
        event Normal DeletedLoadBalancer: Deleted load balancer
    "#]],
    );
}

#[test]
fn without_a_pool_the_nodes_addresses_are_shared_port_by_port() {
    let mut world = world(vec![
        node("n1", true),
        node("n2", true),
        service("a", 80),
        service("b", 80),
        service("c", 6443),
        service("d", 81),
    ]);
    check_world(
        &nodes(),
        &world,
        "services",
        &expect![[r#"
        because 2 services have their addresses, 2 cannot get any
        event Normal EnsuringLoadBalancer: Ensuring load balancer
        patch/status services default/a: {"metadata":{"annotations":{"oxikube.io/announced-by":null},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"103","uid":"a-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"VIP"},{"ip":"192.0.2.2","ipMode":"VIP"}]}}}
        event Normal EnsuredLoadBalancer: Ensured load balancer
        event Warning SyncLoadBalancerFailed: Error syncing load balancer: failed to ensure load balancer: port 80/TCP is used by service default/a
        event Warning SyncLoadBalancerFailed: Error syncing load balancer: failed to ensure load balancer: port 6443/TCP is used by the nodes
        event Normal EnsuringLoadBalancer: Ensuring load balancer
        patch/status services default/d: {"metadata":{"annotations":{"oxikube.io/announced-by":null},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"106","uid":"d-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"VIP"},{"ip":"192.0.2.2","ipMode":"VIP"}]}}}
        event Normal EnsuredLoadBalancer: Ensured load balancer
    "#]],
    );
    settle_some(&nodes(), &mut world);
    world.put(node("n2", false));
    check_world(
        &nodes(),
        &world,
        "services",
        &expect![[r#"
        because 2 services have their addresses, 2 cannot get any
        patch/status services default/a: {"metadata":{"annotations":{"oxikube.io/announced-by":null},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"107","uid":"a-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"VIP"}]}}}
        event Normal UpdatedLoadBalancer: Updated load balancer with new hosts
        patch/status services default/d: {"metadata":{"annotations":{"oxikube.io/announced-by":null},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"108","uid":"d-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"VIP"}]}}}
        event Normal UpdatedLoadBalancer: Updated load balancer with new hosts
    "#]],
    );
}

#[test]
fn local_services_are_announced_where_their_end_points_are() {
    let mut local = service("a", 80);
    local["spec"]["externalTrafficPolicy"] = "Local".into();
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "a-1", "namespace": "default",
                     "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n2"}]});
    let world = world(vec![
        node("n1", true),
        node("n2", true),
        node("n3", true),
        local,
        slice,
    ]);
    check_world(
        &pool(9),
        &world,
        "services",
        &expect![[r#"
        because 1 services have their addresses, 0 cannot get any
        event Normal EnsuringLoadBalancer: Ensuring load balancer
        patch/status services default/a: {"metadata":{"annotations":{"oxikube.io/announced-by":"n2"},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"104","uid":"a-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1","ipMode":"VIP"}]}}}
        event Normal EnsuredLoadBalancer: Ensured load balancer
    "#]],
    );
    check_world(
        &nodes(),
        &world,
        "services",
        &expect![[r#"
        because 1 services have their addresses, 0 cannot get any
        event Normal EnsuringLoadBalancer: Ensuring load balancer
        patch/status services default/a: {"metadata":{"annotations":{"oxikube.io/announced-by":null},"finalizers":["service.kubernetes.io/load-balancer-cleanup"],"resourceVersion":"104","uid":"a-uid"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.2","ipMode":"VIP"}]}}}
        event Normal EnsuredLoadBalancer: Ensured load balancer
    "#]],
    );
}
