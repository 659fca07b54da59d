//! The service proxy of a node: keeps the kernel's nftables rules as `Service`s and `EndpointSlice`s want them.
//!
//! Every change recompiles the services that it touches (`service-rules`); what follows from all of them goes to the kernel
//! in one transaction. At the start the table is made anew with all services in it, also in one transaction, so
//! connections never see a half-made table.
//! Not here: the rules themselves (`service-rules`), addresses of pods (`pod-network`).

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use client::services::{Key, Services, follow};
use nft::{Batch, Change};
use service_rules::{Rules, TABLE, compile, skeleton};
use tokio::sync::watch;

pub use service_rules::{Cidr, Settings};

/// Keeps the rules right until the future is dropped. `ready` turns true once all services that existed at the start are
/// in the kernel.
///
/// # Errors
/// The kernel refused a whole new table, or the client was closed (`Ok`).
pub async fn run(
    client: kube::Client,
    settings: Settings,
    ready: watch::Sender<bool>,
) -> Result<(), nft::Error> {
    let mut proxy = Proxy {
        settings,
        rules: None,
    };
    let (failed, mut failure) = watch::channel(None);
    let following = follow(client, |services, changed| {
        match proxy.update(services, changed) {
            Ok(()) => {
                ready.send_if_modified(|ready| !std::mem::replace(ready, true));
            }
            Err(error) => drop(failed.send_replace(Some(error))),
        }
    });
    tokio::select! {
        () = following => Ok(()),
        _ = failure.wait_for(Option::is_some) => match failed.send_replace(None) {
            Some(error) => Err(error),
            None => Ok(()),
        },
    }
}

struct Proxy {
    settings: Settings,
    /// `None` until the table is made.
    rules: Option<Rules>,
}

impl Proxy {
    fn update(&mut self, services: &Services, changed: BTreeSet<Key>) -> Result<(), nft::Error> {
        let Some(rules) = &mut self.rules else {
            return self.rebuild(services);
        };
        match apply(compile_all(rules, services, changed)) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "an update of the rules failed; the table is made anew");
                self.rebuild(services)
            }
        }
    }

    fn rebuild(&mut self, services: &Services) -> Result<(), nft::Error> {
        let rules = self.rules.insert(Rules::new());
        let mut changes = skeleton(&self.settings);
        changes.extend(compile_all(
            rules,
            services,
            services.keys().cloned().collect(),
        ));
        apply(changes)
    }
}

/// The changes that these services ask for. Removals stand before additions, so that a node port or an address that
/// moves from one service to another is free when it is taken.
fn compile_all(rules: &mut Rules, services: &Services, changed: BTreeSet<Key>) -> Vec<Change> {
    let mut changes = Vec::new();
    for key in changed {
        let fragment = services
            .get(&key)
            .map(|service| compile(service, services.slices(&key)));
        changes.extend(rules.set(
            &format!("{}/{}", key.0, key.1),
            fragment.unwrap_or_default(),
        ));
    }
    changes.sort_by_key(|change| match change {
        Change::AddChain(_) | Change::AddRule(..) => 0,
        Change::DeleteElements(..) => 1,
        _ => 2,
    });
    changes
}

fn apply(changes: Vec<Change>) -> Result<(), nft::Error> {
    nft::commit(&Batch {
        table: TABLE.to_owned(),
        changes,
    })
}
