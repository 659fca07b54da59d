//! Two nodes on one link, with a pod each.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use overlay::lease::announcement;
use overlay::{Own, Picture, diff, plan};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::kernel::Kernel;
use crate::link::{index_of, set_up, with_handle};
use crate::tunnel::{self, Ways};
use crate::underlay;

/// A node and what it knows of itself.
struct OneNode {
    namespace: Namespace,
    own: Own,
    dir: tempfile::TempDir,
}

fn one_node(number: u8, backend: Backend) -> OneNode {
    let text = format!("10.244.{number}.0/24");
    let own = Own {
        node: format!("n{number}"),
        pods: text.parse().expect("a network"),
        cluster: "10.244.0.0/16".parse().expect("a network"),
        public_ip: Ipv4Addr::new(192, 0, 2, number),
        link: "192.0.2.0/24".parse().expect("a network"),
        backend,
    };
    OneNode {
        namespace: new_namespace(),
        own,
        dir: tempfile::tempdir().expect("a directory"),
    }
}

impl OneNode {
    /// The object, as the others see it.
    fn object(&self) -> Node {
        let mut node = json!({
            "metadata": {"name": self.own.node}, "spec": {"podCIDR": self.own.pods},
        });
        let silent = serde_json::from_value(node.clone()).expect("a node");
        let said = announcement(&silent, &self.own).expect("it has said nothing yet");
        node["metadata"]["annotations"] = said["metadata"]["annotations"].clone();
        serde_json::from_value(node).expect("a node")
    }

    fn config(&self) -> Config {
        Config {
            state_dir: self.dir.path().to_owned(),
            cluster_cidr: self.own.cluster,
            node_address: self.own.public_ip,
            backend: self.own.backend,
        }
    }

    fn run<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        run_in(&self.namespace, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("an event loop").block_on(work())
        })
        .expect("entered")
    }

    /// Connects a pod, and tells its address and the largest packet of its interface.
    fn pod(&self, pod: &Namespace) -> (Ipv4Addr, u32) {
        let address = self.run(async || {
            let network = Network::new(self.config());
            network.set_pod_cidr(self.own.pods).await.expect("ready");
            network.attach("pod", pod, &[]).await.expect("attached")
        });
        let mtu = run_in(pod, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let found = async { underlay::find(address).await.expect("its interface").mtu };
            runtime.expect("an event loop").block_on(found)
        });
        (address, mtu.expect("entered"))
    }

    /// Brings the kernel from what it has to what these nodes ask for; returns what had to be done.
    async fn settle(&self, nodes: &[Node]) -> Vec<overlay::Change> {
        with_handle(async |handle| {
            let underlay = underlay::find(self.own.public_ip).await?;
            assert_eq!(underlay.network, self.own.link);
            let kernel = Kernel::prepare(handle, &self.own, &underlay).await?;
            let present = kernel.picture().await?;
            let (desired, problems) = plan(&self.own, nodes);
            assert!(problems.is_empty(), "{problems:?}");
            let changes = diff(&present, &desired);
            for change in &changes {
                kernel.apply(*change).await.expect("carried out");
            }
            let now = kernel.picture().await?;
            let desired = Picture {
                peers: now.peers.clone(),
                ..desired
            };
            assert_eq!(now, desired);
            Ok(changes)
        })
        .await
        .expect("settled")
    }
}

/// A cable between two nodes.
fn connect(a: &OneNode, b: &OneNode) {
    a.run(async || {
        with_handle(async |handle| {
            let pair = LinkVeth::new("eth0", "eth1").build();
            handle.link().add(pair).execute().await.expect("a cable");
            let end = index_of(&handle, "eth1")
                .await
                .expect("found")
                .expect("there");
            use std::os::fd::{AsFd, AsRawFd};
            let there = b.namespace.as_fd().as_raw_fd();
            let push = LinkMessageBuilder::<LinkUnspec>::new()
                .index(end)
                .setns_by_fd(there);
            handle
                .link()
                .set(push.build())
                .execute()
                .await
                .expect("there");
            Ok(())
        })
        .await
        .expect("connected");
    });
    for (node, name) in [(a, "eth0"), (b, "eth1")] {
        node.run(async || {
            with_handle(async |handle| {
                let index = index_of(&handle, name)
                    .await
                    .expect("found")
                    .expect("there");
                let address = node.own.public_ip.into();
                let add = handle.address().add(index, address, 24).execute().await;
                add.expect("an address");
                set_up(&handle, index).await.expect("up");
                Ok(())
            })
            .await
            .expect("configured");
        });
    }
}

/// A tunnel that runs until the value is dropped.
struct Running {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(node: &OneNode, nodes: &[Node]) -> Self {
        let (own, namespace) = (
            node.own.clone(),
            node.namespace.try_clone().expect("a handle"),
        );
        let (desired, _) = plan(&own, nodes);
        let ways = Ways {
            pods: own.pods,
            peers: desired.peers,
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (up, is_up) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            namespace.enter().expect("entered");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("an event loop").block_on(async {
                let (_sender, ways) = watch::channel(Arc::new(ways));
                let running = tunnel::run(&own, ways).expect("a tunnel");
                up.send(()).expect("heard");
                tokio::select! {
                    ended = running => ended.expect("it runs"),
                    _ = stopped => {}
                }
            });
        });
        is_up.recv().expect("it is up");
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

fn pods_reach_pods_of_another_node(backend: Backend, mtu: u32) {
    let (a, b) = (one_node(1, backend), one_node(2, backend));
    connect(&a, &b);
    let nodes = [a.object(), b.object()];
    let tunnels = match backend {
        Backend::Udp => vec![Running::start(&a, &nodes), Running::start(&b, &nodes)],
        _ => Vec::new(),
    };
    for node in [&a, &b] {
        assert!(!node.run(async || node.settle(&nodes).await).is_empty());
        // Another process takes over what it finds.
        assert_eq!(node.run(async || node.settle(&nodes).await), []);
    }
    let (in_a, in_b) = (new_namespace(), new_namespace());
    let (of_a, of_b) = (a.pod(&in_a), b.pod(&in_b));
    assert_eq!((of_a.1, of_b.1), (mtu, mtu));
    let server = serve_once(&in_b, 8080);
    assert_eq!(ask(&in_a, of_b.0, 8080), "pong");
    server.join().expect("served");
    let server = serve_once(&in_a, 8080);
    assert_eq!(ask(&b.namespace, of_a.0, 8080), "pong");
    server.join().expect("served");
    // The other node goes: its pods are unreachable, which is said at once.
    let alone = [a.object()];
    assert!(!a.run(async || a.settle(&alone).await).is_empty());
    let target = std::net::SocketAddr::from((of_b.0, 8080));
    let refused = run_in(&in_a, || {
        TcpStream::connect_timeout(&target, Duration::from_secs(5)).map(drop)
    });
    let error = refused.expect("entered").expect_err("nobody is there");
    assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable);
    drop(tunnels);
}

#[test]
fn pods_reach_pods_of_another_node_by_vxlan() {
    pods_reach_pods_of_another_node(Backend::Vxlan, 1450);
}

#[test]
fn pods_reach_pods_of_another_node_by_plain_routes() {
    pods_reach_pods_of_another_node(Backend::HostGw, 1500);
}

#[test]
fn pods_reach_pods_of_another_node_by_udp() {
    pods_reach_pods_of_another_node(Backend::Udp, 1472);
}

#[test]
fn a_node_changes_its_back_end() {
    let (mut a, b) = (one_node(1, Backend::Vxlan), one_node(2, Backend::Vxlan));
    connect(&a, &b);
    a.run(async || a.settle(&[a.object(), b.object()]).await);
    a.own.backend = Backend::HostGw;
    let mut b = b;
    b.own.backend = Backend::HostGw;
    let nodes = [a.object(), b.object()];
    a.run(async || a.settle(&nodes).await);
    let devices = run_in(&a.namespace, || {
        std::fs::read_to_string("/proc/thread-self/net/dev")
    });
    let devices = devices.expect("entered").expect("devices");
    assert!(!devices.contains("flannel"), "{devices}");
}
