//! On the real kernel: a node and a client, each in a network namespace of this test's own.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use linux::namespace::{Kind, Namespace, run_in, unshare};
use nft::Change;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use serde_json::json;
use service_rules::{Cidr, Rules, Settings, compile, skeleton};

use crate::apply;

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
const NODE_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn settings() -> Settings {
    let cidr = |a, b| Cidr {
        address: Ipv4Addr::new(a, b, 0, 0),
        prefix: 16,
    };
    Settings {
        service_cidr: cidr(10, 96),
        cluster_cidr: cidr(10, 244),
    }
}

fn service() -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": CLUSTER_IP, "clusterIPs": [CLUSTER_IP],
                 "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]},
    }))
    .expect("a service")
}

fn slice(endpoints: &[Ipv4Addr]) -> EndpointSlice {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|a| json!({"addresses": [a]}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "web-1"}, "addressType": "IPv4",
        "endpoints": endpoints, "ports": [{"port": 8080}],
    }))
    .expect("a slice")
}

fn rules(rules: &mut Rules, endpoints: &[Ipv4Addr]) -> Vec<Change> {
    let slice = slice(endpoints);
    rules.set("default/web", compile(&service(), [&slice].into_iter()))
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

/// Answers with its own last byte, for ever.
fn serve(address: Ipv4Addr) {
    let listener = TcpListener::bind((address, 8080)).expect("a free port");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream
                .expect("a client")
                .write_all(&[address.octets()[3]])
                .expect("sent");
        }
    });
}

fn ask(address: Ipv4Addr, port: u16) -> Result<u8, ErrorKind> {
    let target = SocketAddr::from((address, port));
    let mut stream =
        TcpStream::connect_timeout(&target, Duration::from_secs(5)).map_err(|e| e.kind())?;
    let mut answer = [0];
    stream.read_exact(&mut answer).map_err(|e| e.kind())?;
    Ok(answer[0])
}

#[test]
fn connections_spread_over_end_points_and_are_refused_without_any() {
    let ends: Vec<_> = (2..5).map(|last| Ipv4Addr::new(10, 244, 0, last)).collect();
    make_node(&ends);
    let client = make_client();
    let ask = |address, port| run_in(&client, || ask(address, port)).expect("entered");
    ends.iter().for_each(|end| serve(*end));
    let mut known = Rules::new();
    let mut all = skeleton(&settings());
    all.extend(rules(&mut known, &ends));
    apply(all).expect("the kernel takes the table");
    for (address, port) in [(CLUSTER_IP, 80), (NODE_IP, 30080)] {
        let mut seen: Vec<u8> = (0..60)
            .map(|_| ask(address, port).expect("answered"))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [2, 3, 4], "{address}:{port}");
    }
    apply(rules(&mut known, &ends[..1])).expect("the kernel takes an update");
    assert!((0..20).all(|_| ask(CLUSTER_IP, 80) == Ok(2)));
    apply(rules(&mut known, &[])).expect("the kernel takes an update");
    assert_eq!(ask(CLUSTER_IP, 80), Err(ErrorKind::ConnectionRefused));
    assert_eq!(ask(NODE_IP, 30080), Err(ErrorKind::ConnectionRefused));
    let other = Ipv4Addr::new(10, 96, 0, 99);
    assert_eq!(
        ask(other, 80),
        Err(ErrorKind::ConnectionRefused),
        "an address of no service"
    );
    apply(rules(&mut known, &ends)).expect("the kernel takes an update");
    assert!(ask(CLUSTER_IP, 80).is_ok());
    apply(known.set("default/web", service_rules::Fragment::default())).expect("removed");
    nft::delete_table(service_rules::TABLE).expect("removed");
}
