//! The cluster's DNS server: answers for services and pods, forwards everything else.
//!
//! Services and end points are followed by watches that keep the zone (`dns-answers`) right; queries over UDP and TCP are
//! answered from it without waiting for anything. Names outside the cluster go to the machine's own name servers
//! ([`Upstreams`]), a bounded number at a time.
//! Not here: what the answers are (`dns-answers`).

mod forward;
mod serve;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use dns_answers::{Zone, compile};
use parking_lot::RwLock;
use tokio::sync::watch;

pub use forward::Upstreams;
pub use serve::Listeners;

/// Serves until the future is dropped. `domain` is the cluster's, for example `cluster.local`; `ready` turns true once all
/// services that existed at the start are known.
pub async fn run(
    client: kube::Client,
    domain: &str,
    upstreams: Upstreams,
    listeners: Listeners,
    ready: watch::Sender<bool>,
) {
    let zone = Arc::new(RwLock::new(Zone::new(domain)));
    let serving = serve::serve(listeners, zone.clone(), Arc::new(upstreams));
    let following =
        client::services::follow(client, futures::stream::pending(), |services, changed| {
            let mut zone = zone.write();
            for key in changed {
                let records = services
                    .get(&key)
                    .and_then(|s| compile(s, services.slices(&key)));
                zone.set(&key, records);
            }
            drop(zone);
            ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        });
    tokio::join!(serving, following);
}
