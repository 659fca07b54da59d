//! Which servers there are, when several share one store.
//!
//! Each keeps a key that goes away by itself, and writes it anew while it lives. Keys and times are upstream's.
//!
//! Behaviour: `pkg/controlplane/reconcilers/lease.go`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use store::{EventKind, Op, Range, RangeEnd, Store, StoreError, Txn, WatchStream};

const PREFIX: &str = "/registry/masterleases/";
/// A server that has not come back for so long is gone.
const LIVES: Duration = Duration::from_secs(15);
/// So often each says that it is there.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(10);

fn key(address: IpAddr) -> Bytes {
    format!("{PREFIX}{address}").into()
}

async fn write(store: &dyn Store, op: Op) -> Result<(), StoreError> {
    let txn = Txn {
        success: vec![op],
        ..Txn::default()
    };
    store.txn(txn).await.map(drop)
}

/// Says that the server at this address is there.
pub(super) async fn renew(store: &dyn Store, address: IpAddr) -> Result<(), StoreError> {
    let value = json!({
        "kind": "Endpoints", "apiVersion": "v1", "metadata": {},
        "subsets": [{"addresses": [{"ip": address}]}],
    });
    let put = Op::Put {
        key: key(address),
        value: value.to_string().into(),
        ttl: Some(LIVES),
    };
    write(store, put).await
}

/// Says that it is not there any more.
pub(super) async fn remove(store: &dyn Store, address: IpAddr) -> Result<(), StoreError> {
    write(store, Op::Delete { key: key(address) }).await
}

/// The addresses of all, in the order of their text.
pub(super) async fn all(store: &dyn Store) -> Result<Vec<IpAddr>, StoreError> {
    let found = store.range(Range::prefix(PREFIX)).await?;
    let addresses = found.kvs.iter().filter_map(|kv| {
        let key = std::str::from_utf8(&kv.key).ok()?;
        key.strip_prefix(PREFIX)?.parse().ok()
    });
    Ok(addresses.collect())
}

/// Follows who comes and goes.
pub(super) struct Following {
    known: BTreeSet<Bytes>,
    watch: Option<WatchStream>,
}

impl Following {
    /// Sees everything after this moment.
    pub(super) async fn begin(store: &dyn Store) -> Self {
        let mut following = Self {
            known: BTreeSet::new(),
            watch: None,
        };
        if let Ok(found) = store.range(Range::prefix(PREFIX)).await {
            let prefix = Bytes::from_static(PREFIX.as_bytes());
            let watch = store.watch(prefix, RangeEnd::Prefix, found.revision + 1);
            following.watch = watch.await.ok();
            following.known = found.kvs.into_iter().map(|kv| kv.key).collect();
        }
        following
    }

    /// Waits until a server has come or gone; one that only says that it is still there is none of these. When changes
    /// cannot be seen any more it waits for ever.
    pub(super) async fn changed(&mut self) {
        loop {
            let Some(watch) = &mut self.watch else {
                return std::future::pending().await;
            };
            let Some(Ok(batch)) = watch.next().await else {
                self.watch = None;
                continue;
            };
            let before = self.known.len();
            let mut is_new = false;
            for event in batch.events.iter() {
                match event.kind {
                    EventKind::Put => is_new |= self.known.insert(event.kv.key.clone()),
                    EventKind::Delete => drop(self.known.remove(&event.kv.key)),
                }
            }
            if is_new || self.known.len() < before {
                return;
            }
        }
    }

    /// Whether it must begin anew.
    pub(super) fn is_over(&self) -> bool {
        self.watch.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use store::embedded::{Engine, Options};
    use store::sim_disk::SimDisk;

    use super::*;

    #[tokio::test]
    async fn servers_come_and_go() {
        let store = Engine::open_on(Arc::new(SimDisk::new(1)), Options::default()).unwrap();
        let addresses = ["10.0.0.9", "10.0.0.10"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut following = Following::begin(&*store).await;
        for address in addresses {
            renew(&*store, address).await.unwrap();
        }
        following.changed().await;
        following.changed().await;
        // As upstream: the order of the keys.
        let both = all(&*store).await.unwrap();
        assert_eq!(both, [addresses[1], addresses[0]]);
        let found = store.range(Range::prefix(PREFIX)).await.unwrap();
        assert!(found.kvs.iter().all(|kv| kv.lease.is_some()));
        // Nobody comes or goes by this.
        renew(&*store, addresses[0]).await.unwrap();
        remove(&*store, addresses[1]).await.unwrap();
        following.changed().await;
        assert_eq!(following.known.len(), 1);
        assert_eq!(all(&*store).await.unwrap(), [addresses[0]]);
        store.close();
        assert!(following.changed().now_or_never().is_none());
        assert!(following.is_over());
    }
}
