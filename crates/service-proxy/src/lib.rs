//! The service proxy of a node: keeps the kernel's nftables rules as `Service`s and `EndpointSlice`s want them.
//!
//! Every change recompiles the services that it touches (`service-rules`); what follows from all of them goes to the kernel
//! in one transaction. At the start the table is made anew with all services in it, also in one transaction, so
//! connections never see a half-made table. UDP flows to end points that have gone are forgotten afterwards.
//!
//! Beside the rules: [`health`] answers load balancers that ask whether a service has end points here, [`announce`] makes
//! this node answer for the addresses of load balancers that it has been given.
//! Not here: the rules themselves (`service-rules`), addresses of pods (`pod-network`), who gets which address
//! (`controllers::loadbalancer`). Start with [`run`].

mod announce;
mod health;
mod here;
mod networks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use client::services::{Key, Services, follow};
use nft::{Batch, Change};
use parking_lot::Mutex;
use service_rules::{Here, Rules, TABLE, Udp, compile, load_balancer_addresses, skeleton};
use tokio::sync::watch;

pub use service_rules::{Cidr, Settings};

/// The annotation of a service that says which node answers for its load balancer's addresses.
pub const ANNOUNCED_BY: &str = "oxikube.io/announced-by";

/// What the proxy of one node must be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Networks and node ports.
    pub settings: Settings,
    /// The node's name.
    pub node: String,
    /// Where `/healthz` and `/livez` are answered, if anywhere (upstream's `--healthz-bind-address`).
    pub healthz: Option<SocketAddr>,
}

/// Keeps the rules right until the future is dropped. `ready` turns true once all services that existed at the start are
/// in the kernel.
///
/// # Errors
/// The kernel refused a whole new table, or the client was closed (`Ok`).
pub async fn run(
    client: kube::Client,
    config: Config,
    ready: watch::Sender<bool>,
) -> Result<(), nft::Error> {
    let here = Arc::new(Mutex::new(Here {
        node: config.node.clone(),
        ..Here::default()
    }));
    let networks = networks::Networks::default();
    let again = futures::stream::select(
        here::follow(client.clone(), here.clone()),
        networks::follow(client.clone(), networks.clone()),
    );
    let (announced, to_announce) = watch::channel(BTreeSet::new());
    let mut proxy = Proxy {
        settings: config.settings,
        here,
        networks,
        health: health::Server::new(),
        given: BTreeMap::new(),
        announced,
        rules: None,
    };
    let healthz = health::serve_own(config.healthz, ready.subscribe());
    let (failed, mut failure) = watch::channel(None);
    let following = follow(client, again, |services, changed| {
        match proxy.update(services, changed) {
            Ok(()) => {
                ready.send_if_modified(|ready| !std::mem::replace(ready, true));
            }
            Err(error) => drop(failed.send_replace(Some(error))),
        }
    });
    tokio::select! {
        () = following => Ok(()),
        () = announce::answer_for(to_announce) => Ok(()),
        () = healthz => Ok(()),
        _ = failure.wait_for(Option::is_some) => match failed.send_replace(None) {
            Some(error) => Err(error),
            None => Ok(()),
        },
    }
}

/// Takes away all that a service proxy leaves in the kernel when it ends: its rules, and that this node answers for the
/// addresses of load balancers. What is not there is fine.
///
/// # Errors
/// The kernel refused.
pub async fn clean_up() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    announce::settle(&BTreeSet::new()).await?;
    nft::delete_table(TABLE)?;
    Ok(())
}

struct Proxy {
    settings: Settings,
    here: Arc<Mutex<Here>>,
    networks: networks::Networks,
    health: health::Server,
    /// The addresses that this node has been given, by service.
    given: BTreeMap<Key, Vec<Ipv4Addr>>,
    announced: watch::Sender<BTreeSet<Ipv4Addr>>,
    /// `None` until the table is made.
    rules: Option<Rules>,
}

impl Proxy {
    fn update(&mut self, services: &Services, changed: BTreeSet<Key>) -> Result<(), nft::Error> {
        let udp = match self.rules.take() {
            None => self.rebuild(services)?,
            Some(rules) => self.follow_up(rules, services, changed)?,
        };
        // Only now that there are rules for them do packets come here.
        let announced: BTreeSet<Ipv4Addr> = self.given.values().flatten().copied().collect();
        self.announced
            .send_if_modified(|now| std::mem::replace(now, announced.clone()) != announced);
        forget(&udp);
        Ok(())
    }

    fn follow_up(
        &mut self,
        mut rules: Rules,
        services: &Services,
        changed: BTreeSet<Key>,
    ) -> Result<Udp, nft::Error> {
        let (changes, udp) = self.compile_all(&mut rules, services, changed);
        match apply(changes) {
            Ok(()) => {
                self.rules = Some(rules);
                Ok(udp)
            }
            Err(error) => {
                tracing::warn!(%error, "an update of the rules failed; the table is made anew");
                self.rebuild(services)
            }
        }
    }

    fn rebuild(&mut self, services: &Services) -> Result<Udp, nft::Error> {
        let mut rules = Rules::new(self.settings.cluster_cidr);
        let mut changes = skeleton(&self.settings);
        let all = services.keys().cloned().collect();
        let (more, udp) = self.compile_all(&mut rules, services, all);
        changes.extend(more);
        apply(changes)?;
        self.rules = Some(rules);
        Ok(udp)
    }

    /// The changes that these services ask for, and what they mean for UDP.
    fn compile_all(
        &mut self,
        rules: &mut Rules,
        services: &Services,
        changed: BTreeSet<Key>,
    ) -> (Vec<Change>, Udp) {
        let here = self.here.lock().clone();
        let mut udp = Udp::default();
        let mut fragments = Vec::new();
        for key in changed {
            let service = services.get(&key);
            let fragment = service.map(|s| compile(s, services.slices(&key), &here));
            let fragment = fragment.unwrap_or_default();
            let name = format!("{}/{}", key.0, key.1);
            udp.note(rules.fragment(&name), &fragment);
            self.health.set(&key, fragment.health_check);
            let given = service.filter(|s| is_announced_by(s, &here.node));
            match given.map(load_balancer_addresses) {
                Some(addresses) => self.given.insert(key, addresses),
                None => self.given.remove(&key),
            };
            fragments.push((name, fragment));
        }
        let mut changes = rules.set_all(fragments);
        let given = self.given.values().flatten().copied();
        changes.extend(rules.announce(given.collect()));
        let told = self.networks.lock().clone();
        let networks = told.unwrap_or_else(|| self.settings.service_cidr.into_iter().collect());
        changes.extend(rules.serve(networks));
        (changes, udp)
    }
}

fn is_announced_by(service: &k8s_openapi::api::core::v1::Service, node: &str) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    annotations.is_some_and(|a| a.get(ANNOUNCED_BY).is_some_and(|by| by == node))
}

fn apply(changes: Vec<Change>) -> Result<(), nft::Error> {
    nft::commit(&Batch {
        table: TABLE.to_owned(),
        changes,
    })
}

/// Forgets the flows that the change has left behind. What cannot be forgotten ends by itself when it falls silent.
fn forget(changed: &Udp) {
    if changed.is_empty() {
        return;
    }
    let forgotten = nft::conntrack::udp_flows()
        .and_then(|flows| nft::conntrack::forget(&service_rules::stale(flows, changed)));
    if let Err(error) = forgotten {
        tracing::warn!(%error, "flows of UDP to end points that are gone may live on");
    }
}
