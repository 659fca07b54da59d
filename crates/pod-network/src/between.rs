//! Follows the cluster's nodes and keeps the ways to their pods right.
//!
//! Each change of a node makes a new plan; only what differs from the last one goes to the kernel. What an earlier process
//! left there is read once and taken over, so that a restart interrupts nobody. What fails is read and tried again, after
//! a pause.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::watch::store;
use futures::{FutureExt, StreamExt};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use overlay::lease::{Unusable, announcement};
use overlay::{Backend, Own, Picture, diff, plan};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::kernel::Kernel;
use crate::link::with_handle;
use crate::tunnel::{self, Ways};
use crate::underlay::{self, Underlay};
use crate::{Config, Error};

/// Shortest and longest pause before what failed is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Who reads and who writes.
#[derive(Clone)]
pub struct Clients {
    /// Lists and watches all nodes.
    pub nodes: Client,
    /// Changes the annotations of this node, and of no other.
    pub own: Client,
}

/// Keeps the ways right until the future is dropped.
///
/// # Errors
/// The node cannot take part: its address is none of its own, or the kernel refuses the device or the socket.
pub async fn run(clients: Clients, node: String, config: Config) -> Result<(), Error> {
    with_handle(async |handle| {
        let underlay = underlay::find(config.node_address).await?;
        let (ways, ways_known) = watch::channel(Arc::new(Ways::default()));
        let follower = Follower {
            handle,
            node,
            own_client: Api::all(clients.own),
            config,
            underlay,
            ways,
            kernel: None,
            problems: BTreeMap::new(),
            pause: PAUSE.0,
        };
        follower.follow(clients.nodes, ways_known).await
    })
    .await
}

struct Follower {
    handle: rtnetlink::Handle,
    node: String,
    own_client: Api<Node>,
    config: Config,
    underlay: Underlay,
    ways: watch::Sender<Arc<Ways>>,
    /// Since this node has a pod CIDR.
    kernel: Option<Present>,
    /// What was wrong with nodes; each is told once.
    problems: BTreeMap<String, Unusable>,
    pause: Duration,
}

struct Present {
    own: Own,
    kernel: Kernel,
    /// What the kernel has; `None`: it must be read again.
    picture: Option<Picture>,
}

impl Follower {
    async fn follow(
        mut self,
        nodes: Client,
        ways: watch::Receiver<Arc<Ways>>,
    ) -> Result<(), Error> {
        let (reader, changes) = store::<Node>(Api::all(nodes), watcher::Config::default());
        let mut changes = std::pin::pin!(changes);
        let mut tunnel = std::pin::pin!(futures::future::OptionFuture::from(None).fuse());
        let mut retry: Option<Instant> = None;
        loop {
            let waiting = async {
                match retry {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.next() => if change.is_none() {
                    return Ok(());
                },
                () = waiting => {}
                Some(ended) = &mut tunnel => return ended,
            }
            // Whatever has arrived by now is handled together.
            while let Some(Some(_)) = changes.next().now_or_never() {}
            if !reader.is_synced() {
                continue;
            }
            let nodes = reader.list();
            let Some(own) = self.own(&nodes) else {
                continue;
            };
            if own.backend == Backend::Udp && self.kernel.is_none() {
                let running = tunnel::run(&own, ways.clone())?;
                tunnel.set(futures::future::OptionFuture::from(Some(running)).fuse());
            }
            let announced = self.announce(&own, &nodes).await;
            let settled = self.settle(own, &nodes).await?;
            retry = match announced && settled {
                true => {
                    self.pause = PAUSE.0;
                    None
                }
                false => {
                    let at = Instant::now() + self.pause;
                    self.pause = (self.pause * 2).min(PAUSE.1);
                    Some(at)
                }
            };
        }
    }

    /// This node, when it has its pod CIDR.
    fn own(&self, nodes: &[Arc<Node>]) -> Option<Own> {
        let is_own = |node: &&Arc<Node>| node.metadata.name.as_ref() == Some(&self.node);
        let spec = nodes.iter().find(is_own)?.spec.as_ref()?;
        Some(Own {
            node: self.node.clone(),
            pods: spec.pod_cidr.as_deref()?.parse::<Ipv4Net>().ok()?.trunc(),
            cluster: self.config.cluster_cidr.trunc(),
            public_ip: self.config.node_address,
            link: self.underlay.network,
            backend: self.config.backend,
        })
    }

    /// Tells the other nodes about this one, unless they know.
    async fn announce(&self, own: &Own, nodes: &[Arc<Node>]) -> bool {
        let is_own = |node: &&Arc<Node>| node.metadata.name.as_ref() == Some(&self.node);
        let patch = nodes
            .iter()
            .find(is_own)
            .and_then(|node| announcement(node, own));
        let Some(patch) = patch else { return true };
        let parameters = PatchParams::default();
        match self
            .own_client
            .patch(&self.node, &parameters, &Patch::Merge(patch))
            .await
        {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "the other nodes cannot be told how to reach this one's pods");
                false
            }
        }
    }

    /// Brings the kernel in line with the nodes; false when something is left to do.
    async fn settle(&mut self, own: Own, nodes: &[Arc<Node>]) -> Result<bool, Error> {
        let (desired, problems) = plan(&own, nodes.iter().map(Arc::as_ref));
        self.tell(problems);
        let ways = Ways {
            pods: own.pods,
            peers: desired.peers.clone(),
        };
        self.ways.send_if_modified(|known| {
            let is_new = **known != ways;
            if is_new {
                *known = Arc::new(ways);
            }
            is_new
        });
        let mut present = match self.kernel.take().filter(|present| present.own == own) {
            Some(present) => present,
            None => {
                let kernel = Kernel::prepare(self.handle.clone(), &own, &self.underlay).await?;
                Present {
                    own,
                    kernel,
                    picture: None,
                }
            }
        };
        let settled = present.settle(desired).await;
        self.kernel = Some(present);
        settled
    }

    fn tell(&mut self, problems: BTreeMap<String, Unusable>) {
        for (node, problem) in &problems {
            if *problem != Unusable::NotYet && self.problems.get(node) != Some(problem) {
                tracing::warn!(node, %problem, "the pods of a node cannot be reached");
            }
        }
        self.problems = problems;
    }
}

impl Present {
    async fn settle(&mut self, desired: Picture) -> Result<bool, Error> {
        let picture = match self.picture.take() {
            Some(picture) => picture,
            None => self.kernel.picture().await?,
        };
        let mut failed = false;
        for change in diff(&picture, &desired) {
            if let Err(error) = self.kernel.apply(change).await {
                tracing::warn!(?change, %error, "a way to another node's pods cannot be set");
                failed = true;
            }
        }
        self.picture = (!failed).then_some(desired);
        Ok(!failed)
    }
}
