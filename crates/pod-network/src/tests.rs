//! On the real kernel: a node and two pods, each in a network namespace of this test's own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use linux::namespace::{Kind, Namespace, run_in, unshare};

use crate::addresses::Pool;
use crate::{Backend, Config, HostPort, Network};

mod nodes;

/// A network namespace that ends with its handle.
fn new_namespace() -> Namespace {
    let made = std::thread::spawn(|| {
        unshare(&[Kind::Network]).expect("tests of the pod network need root");
        Namespace::current(Kind::Network).expect("a handle")
    });
    made.join().expect("no panic")
}

/// Answers one connection with `pong`.
fn serve_once(namespace: &Namespace, port: u16) -> std::thread::JoinHandle<()> {
    let listener = run_in(namespace, || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
    });
    let listener = listener.expect("entered").expect("a free port");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(b"pong").expect("sent");
    })
}

fn ask(namespace: &Namespace, address: Ipv4Addr, port: u16) -> String {
    let target = std::net::SocketAddr::from((address, port));
    let stream = run_in(namespace, || {
        TcpStream::connect_timeout(&target, Duration::from_secs(5))
    });
    let mut stream = stream.expect("entered").expect("connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn on_a_node(work: impl AsyncFnOnce(&Network, &Namespace) + Send) {
    let node = new_namespace();
    let dir = tempfile::tempdir().expect("a directory");
    run_in(&node, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("an event loop").block_on(async {
            let network = Network::new(Config {
                state_dir: dir.path().to_owned(),
                cluster_cidr: "10.244.0.0/16".parse().expect("a network"),
                node_address: Ipv4Addr::LOCALHOST,
                backend: Backend::HostGw,
            });
            network
                .set_pod_cidr("10.244.3.0/24".parse().expect("a network"))
                .await
                .expect("ready");
            work(&network, &node).await;
        });
    })
    .expect("entered");
}

#[test]
fn pods_reach_each_other_and_the_node_and_leave_nothing_behind() {
    on_a_node(async |network, node| {
        let (a, b) = (new_namespace(), new_namespace());
        let first = network.attach("aaaa", &a, &[]).await.expect("attached");
        let second = network.attach("bbbb", &b, &[]).await.expect("attached");
        assert_eq!(network.attach("aaaa", &a, &[]).await.expect("again"), first);
        assert_ne!(first, second);
        let server = serve_once(&b, 8080);
        assert_eq!(ask(&a, second, 8080), "pong");
        server.join().expect("served");
        let server = serve_once(&a, 8080);
        assert_eq!(ask(node, first, 8080), "pong");
        server.join().expect("served");
        for id in ["aaaa", "bbbb", "bbbb"] {
            network.detach(id).await.expect("detached");
        }
        let links = run_in(node, || {
            std::fs::read_to_string("/proc/thread-self/net/dev")
        });
        let links = links.expect("entered").expect("listed");
        assert!(!links.contains("oxi"), "{links}");
    });
}

#[test]
fn a_host_port_leads_to_the_pod_from_another_pod_and_only_for_addresses_of_the_node() {
    on_a_node(async |network, _| {
        let (a, b) = (new_namespace(), new_namespace());
        let port = HostPort {
            protocol: 6,
            host_port: 8000,
            pod_port: 80,
            address: None,
        };
        let server_address = network.attach("aaaa", &a, &[port]).await.expect("attached");
        let other = network.attach("bbbb", &b, &[]).await.expect("attached");
        let server = serve_once(&a, 80);
        assert_eq!(ask(&b, Ipv4Addr::new(10, 244, 3, 1), 8000), "pong");
        server.join().expect("served");
        // Port 8000 of another pod is that pod's own business.
        let server = serve_once(&b, 8000);
        assert_eq!(ask(&a, other, 8000), "pong");
        server.join().expect("served");
        assert_ne!(server_address, other);
    });
}

#[test]
fn pods_share_a_host_port_on_different_addresses() {
    on_a_node(async |network, _| {
        let (a, b, c) = (new_namespace(), new_namespace(), new_namespace());
        let gateway = Ipv4Addr::new(10, 244, 3, 1);
        let at = |address| HostPort {
            protocol: 6,
            host_port: 8000,
            pod_port: 80,
            address: Some(address),
        };
        let localhost = [at(Ipv4Addr::LOCALHOST)];
        network.attach("aaaa", &a, &localhost).await.expect("own");
        let ports = [at(gateway)];
        network.attach("bbbb", &b, &ports).await.expect("another");
        network.attach("cccc", &c, &[]).await.expect("attached");
        let server = serve_once(&b, 80);
        assert_eq!(ask(&c, gateway, 8000), "pong");
        server.join().expect("served");
        network.detach("bbbb").await.expect("detached");
        let again = network.attach("cccc", &c, &ports).await;
        again.expect("the port is free again");
    });
}

#[test]
fn addresses_are_not_reused_at_once_and_run_out_with_a_clear_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = Pool::open(dir.path(), "10.0.0.0/29".parse().expect("a network")).expect("open");
    let first = pool.take("a").expect("free");
    pool.give_back("a").expect("given back");
    assert_ne!(pool.take("a").expect("free"), first);
    for id in ["b", "c", "d", "e"] {
        pool.take(id).expect("free");
    }
    let error = pool.take("f").expect_err("five are all");
    assert_eq!(
        error.to_string(),
        "no address is free in the node's pod CIDR 10.0.0.0/29"
    );
    let again = Pool::open(dir.path(), "10.0.0.0/29".parse().expect("a network")).expect("open");
    assert_eq!(
        again.take("c").expect("held"),
        pool.take("c").expect("held")
    );
}
