//! On the real kernel: a node and a client, each in a network namespace of this test's own.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use linux::namespace::{Kind, Namespace, run_in, unshare};
use nft::Change;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use serde_json::json;
use service_rules::{Cidr, Here, Rules, Settings, compile, skeleton};

use crate::apply;

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
const NODE_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const BALANCED_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn cidr(a: u8, b: u8) -> Cidr {
    Cidr {
        address: Ipv4Addr::new(a, b, 0, 0),
        prefix: 16,
    }
}

fn settings() -> Settings {
    Settings {
        service_cidr: Some(cidr(10, 96)),
        cluster_cidr: Some(cidr(10, 244)),
        node_port_addresses: Vec::new(),
    }
}

/// A service on all doors, with these fields on top.
fn service(more: serde_json::Value) -> Service {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "clusterIP": CLUSTER_IP, "clusterIPs": [CLUSTER_IP],
                 "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]},
        "status": {"loadBalancer": {"ingress": [{"ip": BALANCED_IP}]}},
    });
    for (field, value) in more.as_object().expect("fields") {
        service["spec"][field] = value.clone();
    }
    serde_json::from_value(service).expect("a service")
}

fn here() -> Here {
    Here {
        node: "n1".to_owned(),
        zone: None,
        addresses: vec![NODE_IP],
    }
}

fn slice(endpoints: &[Ipv4Addr]) -> EndpointSlice {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|a| {
            let node = if a.octets()[3] < 100 { "n1" } else { "n2" };
            json!({"addresses": [a], "nodeName": node})
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "web-1"}, "addressType": "IPv4",
        "endpoints": endpoints, "ports": [{"port": 8080}],
    }))
    .expect("a slice")
}

fn rules(rules: &mut Rules, service: &Service, endpoints: &[Ipv4Addr]) -> Vec<Change> {
    let slice = slice(endpoints);
    let fragment = compile(service, [&slice].into_iter(), &here());
    rules.set("default/web", fragment)
}

/// A table with this service; the end points are addresses of the node.
fn make_table(service: &Service, endpoints: &[Ipv4Addr]) -> Rules {
    let mut known = Rules::new(settings().cluster_cidr);
    let mut all = skeleton(&settings());
    all.extend(rules(&mut known, service, endpoints));
    apply(all).expect("the kernel takes the table");
    known
}

/// The node: its own address towards the client, and the addresses of "pods" on loopback.
fn make_node(pods: &[Ipv4Addr]) {
    unshare(&[Kind::Network]).expect("tests of the service proxy need root");
    linux::interface::loopback_up().expect("loopback");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding");
    with_netlink(async |handle| {
        for pod in pods {
            handle
                .address()
                .add(1, (*pod).into(), 32)
                .execute()
                .await
                .expect("an address");
        }
    });
}

/// A client in a namespace of its own, whose only way leads to the node.
fn make_client() -> Namespace {
    let node = Namespace::current(Kind::Network).expect("a handle");
    let client = std::thread::spawn(move || {
        unshare(&[Kind::Network]).expect("a namespace");
        let client = Namespace::current(Kind::Network).expect("a handle");
        let link = LinkVeth::new("client", "node").build();
        with_netlink(async |handle| {
            handle.link().add(link).execute().await.expect("a pair");
            let to_node = LinkMessageBuilder::<LinkUnspec>::new()
                .name("node".to_owned())
                .setns_by_fd(node.as_fd().as_raw_fd());
            handle
                .link()
                .set(to_node.build())
                .execute()
                .await
                .expect("moved");
            configure(&handle, "client", CLIENT_IP).await;
            let default = RouteMessageBuilder::<Ipv4Addr>::new()
                .gateway(NODE_IP)
                .build();
            // The routes can be made once the other end is up.
            let node_side = async |h: Handle| {
                configure(&h, "node", NODE_IP).await;
                let elsewhere = RouteMessageBuilder::<Ipv4Addr>::new()
                    .gateway(CLIENT_IP)
                    .build();
                h.route().add(elsewhere).execute().await.expect("a route");
            };
            run_in(&node, || with_netlink(node_side)).expect("entered");
            handle
                .route()
                .add(default)
                .execute()
                .await
                .expect("a route");
        });
        client
    });
    client.join().expect("no panic")
}

async fn configure(handle: &Handle, name: &str, address: Ipv4Addr) {
    let link = handle
        .link()
        .get()
        .match_name(name.to_owned())
        .execute()
        .try_next()
        .await;
    let index = link.expect("listed").expect("there").header.index;
    handle
        .address()
        .add(index, address.into(), 24)
        .execute()
        .await
        .expect("an address");
    let up = LinkMessageBuilder::<LinkUnspec>::new()
        .index(index)
        .up()
        .build();
    handle.link().set(up).execute().await.expect("up");
}

fn with_netlink(work: impl AsyncFnOnce(Handle)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("an event loop").block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().expect("a socket");
        tokio::spawn(connection);
        work(handle).await;
    });
}

/// Answers with its own last byte and that of who asks, for ever.
fn serve(address: Ipv4Addr) {
    let listener = TcpListener::bind((address, 8080)).expect("a free port");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let SocketAddr::V4(client) = stream.peer_addr().expect("connected") else {
                unreachable!("the listener is IPv4");
            };
            let answer = [address.octets()[3], client.ip().octets()[3]];
            stream.write_all(&answer).expect("sent");
        }
    });
}

/// Who answers, and as whom it sees us.
fn ask(address: Ipv4Addr, port: u16) -> Result<(u8, u8), ErrorKind> {
    let target = SocketAddr::from((address, port));
    let patience = Duration::from_secs(if address == BALANCED_IP { 1 } else { 5 });
    let mut stream = TcpStream::connect_timeout(&target, patience).map_err(|e| e.kind())?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).map_err(|e| e.kind())?;
    Ok(answer.into())
}

fn pods(lasts: impl Iterator<Item = u8>) -> Vec<Ipv4Addr> {
    lasts.map(|last| Ipv4Addr::new(10, 244, 0, last)).collect()
}

#[test]
fn connections_spread_over_end_points_and_are_refused_without_any() {
    let ends = pods(2..5);
    make_node(&ends);
    let client = make_client();
    let ask = |address, port| {
        let asked = run_in(&client, || ask(address, port)).expect("entered");
        asked.map(|(who, _)| who)
    };
    ends.iter().for_each(|end| serve(*end));
    let service = service(json!({}));
    let mut known = make_table(&service, &ends);
    for (address, port) in [(CLUSTER_IP, 80), (NODE_IP, 30080), (BALANCED_IP, 80)] {
        let mut seen: Vec<u8> = (0..60)
            .map(|_| ask(address, port).expect("answered"))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [2, 3, 4], "{address}:{port}");
    }
    apply(rules(&mut known, &service, &ends[..1])).expect("the kernel takes an update");
    assert!((0..20).all(|_| ask(CLUSTER_IP, 80) == Ok(2)));
    apply(rules(&mut known, &service, &[])).expect("the kernel takes an update");
    assert_eq!(ask(CLUSTER_IP, 80), Err(ErrorKind::ConnectionRefused));
    assert_eq!(ask(NODE_IP, 30080), Err(ErrorKind::ConnectionRefused));
    apply(known.serve([cidr(10, 96)].into())).expect("the kernel takes an update");
    apply(known.serve([cidr(10, 96), cidr(10, 200)].into())).expect("the kernel takes an update");
    assert_eq!(known.serve([cidr(10, 96), cidr(10, 200)].into()), []);
    for network in [96, 200] {
        assert_eq!(
            ask(Ipv4Addr::new(10, network, 0, 99), 80),
            Err(ErrorKind::ConnectionRefused),
            "an address of no service"
        );
    }
    assert_eq!(
        ask(CLUSTER_IP, 81),
        Err(ErrorKind::ConnectionRefused),
        "a port that the service does not have"
    );
    apply(rules(&mut known, &service, &ends)).expect("the kernel takes an update");
    assert!(ask(CLUSTER_IP, 80).is_ok());
    apply(known.set("default/web", service_rules::Fragment::default())).expect("removed");
    nft::delete_table(service_rules::TABLE).expect("removed");
}

#[test]
fn a_client_stays_with_its_end_point_while_that_is_one() {
    let ends = pods(2..10);
    make_node(&ends);
    let client = make_client();
    let ask = |address, port| {
        let asked = run_in(&client, || ask(address, port)).expect("entered");
        asked.expect("answered").0
    };
    ends.iter().for_each(|end| serve(*end));
    let affine = service(json!({"sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}));
    let mut known = make_table(&affine, &ends);
    for (address, port) in [(CLUSTER_IP, 80), (NODE_IP, 30080), (BALANCED_IP, 80)] {
        let first = ask(address, port);
        assert!(
            (0..40).all(|_| ask(address, port) == first),
            "{address}:{port}"
        );
    }
    let left: Vec<Ipv4Addr> = {
        let gone = ask(CLUSTER_IP, 80);
        let left = ends.iter().filter(|end| end.octets()[3] != gone);
        left.copied().collect()
    };
    apply(rules(&mut known, &affine, &left)).expect("the kernel takes an update");
    let second = ask(CLUSTER_IP, 80);
    assert!(left.iter().any(|end| end.octets()[3] == second));
    assert!((0..40).all(|_| ask(CLUSTER_IP, 80) == second), "moved once");
    let plain = service(json!({}));
    apply(rules(&mut known, &plain, &ends)).expect("the kernel takes an update");
    assert!(
        (0..100).any(|_| ask(CLUSTER_IP, 80) != second),
        "free again"
    );
}

#[test]
fn what_comes_from_outside_stays_here_under_its_own_address() {
    let (here, elsewhere) = (pods(2..4), pods(101..102));
    let ends = [here.clone(), elsewhere.clone()].concat();
    make_node(&ends);
    let client = make_client();
    let outside = |address, port| run_in(&client, || ask(address, port)).expect("entered");
    ends.iter().for_each(|end| serve(*end));
    let local = service(json!({"externalTrafficPolicy": "Local"}));
    let mut known = make_table(&local, &ends);
    let doors = [(NODE_IP, 30080), (BALANCED_IP, 80)];
    for (address, port) in doors {
        for _ in 0..20 {
            let (who, sees) = outside(address, port).expect("answered");
            assert!(who < 100 && sees == CLIENT_IP.octets()[3], "{who} {sees}");
        }
    }
    let seen_from_inside = |address, port| {
        (0..60).any(|_| ask(address, port).expect("answered").0 == elsewhere[0].octets()[3])
    };
    assert!(
        seen_from_inside(NODE_IP, 30080),
        "the node itself goes anywhere"
    );
    apply(rules(&mut known, &local, &elsewhere)).expect("the kernel takes an update");
    for (address, port) in doors {
        assert!(ask(address, port).is_ok(), "the node itself goes anywhere");
    }
    assert_eq!(
        outside(BALANCED_IP, 80),
        Err(ErrorKind::TimedOut),
        "dropped"
    );
    let internal = service(json!({"internalTrafficPolicy": "Local"}));
    apply(rules(&mut known, &internal, &ends)).expect("the kernel takes an update");
    assert!((0..40).all(|_| ask(CLUSTER_IP, 80).expect("answered").0 < 100));
}

#[test]
fn only_the_given_networks_may_use_the_load_balancer() {
    let ends = pods(2..4);
    make_node(&ends);
    let client = make_client();
    let outside = |address, port| run_in(&client, || ask(address, port)).expect("entered");
    ends.iter().for_each(|end| serve(*end));
    let ranges = |all: &[&str]| service(json!({"loadBalancerSourceRanges": all}));
    let mut known = make_table(&ranges(&["198.51.100.0/24", "10.0.0.0/8"]), &ends);
    assert_eq!(outside(BALANCED_IP, 80), Err(ErrorKind::TimedOut));
    assert!(outside(NODE_IP, 30080).is_ok(), "node ports know no ranges");
    for range in ["192.0.2.0/29", "192.0.2.2/32", "0.0.0.0/0"] {
        let changes = rules(&mut known, &ranges(&["10.0.0.0/8", range]), &ends);
        apply(changes).expect("the kernel takes an update");
        assert!(outside(BALANCED_IP, 80).is_ok(), "{range}");
    }
}

#[test]
fn a_flow_of_udp_does_not_outlive_its_end_point() {
    let ends = pods(2..4);
    make_node(&ends);
    let client = make_client();
    let node = Namespace::current(Kind::Network).expect("a handle");
    let udp = service(json!({"ports": [{"port": 80, "protocol": "UDP"}]}));
    for end in &ends {
        let socket = UdpSocket::bind((*end, 8080)).expect("a free port");
        let name = end.octets()[3];
        std::thread::spawn(move || {
            loop {
                let (_, from) = socket.recv_from(&mut [0; 8]).expect("a question");
                socket.send_to(&[name], from).expect("sent");
            }
        });
    }
    let mut known = make_table(&udp, &ends);
    run_in(&client, || {
        let socket = UdpSocket::bind((CLIENT_IP, 0)).expect("a port");
        socket.connect((CLUSTER_IP, 80)).expect("an address");
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a time");
        let ask = || {
            socket.send(b"?").expect("sent");
            let mut answer = [0];
            socket.recv(&mut answer).expect("answered");
            answer[0]
        };
        let first = ask();
        assert!((0..20).all(|_| ask() == first), "one flow, one end point");
        let left: Vec<Ipv4Addr> = ends
            .iter()
            .copied()
            .filter(|end| end.octets()[3] != first)
            .collect();
        let change = compile(&udp, [&slice(&left)].into_iter(), &here());
        let mut changed = service_rules::Udp::default();
        changed.note(known.fragment("default/web"), &change);
        assert!(!changed.is_empty());
        run_in(&node, || {
            apply(known.set("default/web", change.clone())).expect("the kernel takes it");
            crate::forget(&changed);
        })
        .expect("entered");
        assert_eq!(ask(), left[0].octets()[3]);
    })
    .expect("entered");
}

#[test]
fn a_firewall_that_drops_what_passes_is_found() {
    make_node(&[]);
    make_table(&service(json!({})), &[]);
    let chains = || nft::chains_that_drop_forwarded().expect("the kernel says");
    assert!(chains().is_empty(), "our own tables let everything pass");
}

#[test]
fn ten_thousand_services_fit_one_transaction() {
    make_node(&[]);
    let ends = pods(2..6);
    let make = |i: u32, ends: &[Ipv4Addr]| {
        let ip = Ipv4Addr::from(u32::from(CLUSTER_IP) + i);
        let affinity = if i.is_multiple_of(10) {
            "ClientIP"
        } else {
            "None"
        };
        let service = service(
            json!({"type": "NodePort", "clusterIP": ip, "clusterIPs": [ip],
            "sessionAffinity": affinity, "ports": [{"port": 80, "nodePort": 20000 + i}]}),
        );
        let slice = slice(ends);
        (
            format!("default/s{i}"),
            compile(&service, [&slice].into_iter(), &here()),
        )
    };
    let mut known = Rules::new(settings().cluster_cidr);
    let mut all = skeleton(&settings());
    all.extend(known.set_all((0..10_000).map(|i| make(i, &ends)).collect()));
    apply(all).expect("the kernel takes them all");
    for i in 0..100 {
        apply(known.set_all(vec![make(i * 7, &ends[1..])])).expect("the kernel takes an update");
    }
    let nowhere = vec![Change::AddElements(
        "nowhere".into(),
        vec![(vec![0; 4], nft::model::Value::None)],
    )];
    let error = apply(nowhere).expect_err("there is no such set");
    assert_eq!(error.errno, Some(2), "{error}");
}
