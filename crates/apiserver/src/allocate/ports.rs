//! Node ports: whose they are, and which are promised to writes under way.
//!
//! Contract: a port is somebody's when there is a key of its number in the store. The key is written and removed in the same
//! transaction as what makes a Service hold the port, so that of several servers on one store only one gets it, and neither
//! is ever there without the other. Who holds what is known from the services themselves; in this process a port
//! that is promised to a write is promised to no other. Should a key and the services not fit each other, as after a
//! release that kept no keys, [`put_right`] mends it.
//!
//! Upstream keeps one bitmap of all ports, `pkg/registry/core/service/portallocator`, and takes what a write needs
//! beforehand; what a server that dies leaves behind is found minutes later.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use access::Lookup;
use api::core::service::allocation;
use bytes::Bytes;
use machinery::{ApiError, Object};
use parking_lot::Mutex;
use rand::RngExt;
use store::{Compare, EventKind, Op, Range, Txn};

use crate::cache::Change;
use crate::resource::Storage;
use crate::server::{Server, store_error};
use crate::write::Along;

const PREFIX: &str = "/registry/ranges/servicenodeports/";

fn key(port: u16) -> Bytes {
    format!("{PREFIX}{port}").into()
}

/// A service: its namespace, a slash, its name.
type Owner = Box<str>;

fn owner(service: &Object) -> Owner {
    format!("{}/{}", service.namespace(), service.name()).into()
}

#[derive(Default)]
struct State {
    holders: HashMap<u16, BTreeSet<Owner>>,
    promised: HashSet<u16>,
}

impl State {
    fn promise(&mut self, port: u16) -> bool {
        !self.holders.contains_key(&port) && self.promised.insert(port)
    }
}

/// See the module's header.
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    /// Ports below are given out unasked only when all others are gone: they are for those who ask for one.
    band: u16,
    state: Mutex<State>,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        let (low, high) = (*range.start(), *range.end());
        let count = high.saturating_sub(low).saturating_add(1);
        Self {
            band: low.saturating_add((count / 32).clamp(16, 128).min(count)),
            range,
            state: Mutex::default(),
        }
    }

    pub(super) fn range(&self) -> &RangeInclusive<u16> {
        &self.range
    }

    /// Whether a service has the port, as far as this server knows.
    pub(super) fn is_held(&self, port: u16) -> bool {
        self.state.lock().holders.contains_key(&port)
    }

    /// Promises one port; false when it is somebody's.
    pub(super) fn take(&self, port: u16) -> bool {
        self.state.lock().promise(port)
    }

    /// Promises any free port.
    pub(super) fn take_any(&self) -> Option<u16> {
        let (low, high) = (*self.range.start(), *self.range.end());
        let mut state = self.state.lock();
        let above = (self.band <= high).then(|| take_between(&mut state, self.band, high));
        let below = |state: &mut State| take_between(state, low, high.min(self.band - 1));
        above.flatten().or_else(|| match low < self.band {
            true => below(&mut state),
            false => None,
        })
    }

    /// A write is over, one way or the other.
    pub(super) fn end(&self, ports: &[u16]) {
        let mut state = self.state.lock();
        for port in ports {
            state.promised.remove(port);
        }
    }

    /// A service was written or removed. Gives the ports that it is about.
    pub(super) fn follow(&self, change: &Change) -> BTreeSet<u16> {
        let before = change.previous.as_ref().and_then(|entry| entry.decode());
        let after = (change.kind == EventKind::Put).then(|| change.object.decode());
        let after = after.flatten();
        let held = |service: &Option<_>| match service {
            Some(service) => allocation::held(service).node_ports,
            None => Vec::new(),
        };
        let (old, new) = (held(&before), held(&after));
        if let Some(service) = after.as_ref().or(before.as_ref()) {
            self.changed(&owner(service), &old, &new);
        }
        old.into_iter().chain(new).collect()
    }

    fn changed(&self, owner: &str, old: &[u16], new: &[u16]) {
        let mut state = self.state.lock();
        for port in old {
            if let Some(holders) = state.holders.get_mut(port) {
                holders.remove(owner);
                if holders.is_empty() {
                    state.holders.remove(port);
                }
            }
        }
        for port in new {
            let holders = state.holders.entry(*port).or_default();
            holders.insert(owner.into());
        }
    }

    /// One of those who hold it.
    fn holder(&self, port: u16) -> Option<Owner> {
        self.state.lock().holders.get(&port)?.first().cloned()
    }

    fn is_of_another(&self, port: u16, owner: &str) -> bool {
        let state = self.state.lock();
        let holders = state.holders.get(&port);
        holders.is_some_and(|holders| holders.iter().any(|other| **other != *owner))
    }

    /// How many ports of the range are somebody's.
    pub(super) fn held(&self) -> usize {
        let range = self.range();
        let held = self.all_held();
        held.iter().filter(|port| range.contains(port)).count()
    }

    fn all_held(&self) -> Vec<u16> {
        self.state.lock().holders.keys().copied().collect()
    }

    /// Adds to a service's write what it changes of the ports.
    pub(super) fn along(
        &self,
        along: &mut Along,
        services: &Arc<Storage>,
        service: &Object,
        taken: &[u16],
        released: &[u16],
    ) {
        if taken.is_empty() && released.is_empty() {
            return;
        }
        along.seen_in(services);
        let owner = owner(service);
        for port in taken {
            let (compare, put) = booking(*port, &owner);
            along.compare.push(compare);
            along.ops.push(put);
        }
        for port in released {
            // Services of a time before the keys may share one.
            if !self.is_of_another(*port, &owner) && !taken.contains(port) {
                along.ops.push(Op::Delete { key: key(*port) });
            }
        }
    }
}

fn take_between(state: &mut State, from: u16, to: u16) -> Option<u16> {
    if from > to {
        return None;
    }
    // From a random place on, so that a number that was just given back is not given out at once.
    let start = rand::rng().random_range(from..=to);
    let mut walk = (start..=to).chain(from..start);
    walk.find(|port| state.promise(*port))
}

/// A port becomes somebody's, if it is nobody's.
fn booking(port: u16, owner: &str) -> (Compare, Op) {
    let free = Compare::ModRevision {
        key: key(port),
        equals: 0,
    };
    let put = Op::Put {
        key: key(port),
        value: Bytes::copy_from_slice(owner.as_bytes()),
        ttl: None,
    };
    (free, put)
}

/// Looks at every port that has a key or is held.
pub(super) async fn put_all_right(server: &Server, ports: &Ports) -> Result<(), ApiError> {
    let found = server.store().range(Range::prefix(PREFIX)).await;
    let keys = found.map_err(store_error)?.kvs.into_iter().map(|kv| kv.key);
    let numbers = keys.filter_map(|key| {
        let key = std::str::from_utf8(&key).ok()?;
        key.strip_prefix(PREFIX)?.parse().ok()
    });
    let numbers: BTreeSet<u16> = numbers.chain(ports.all_held()).collect();
    for port in numbers {
        put_right(server, ports, port).await?;
    }
    Ok(())
}

/// Gives a port that a service holds its key, and takes the key of one that none holds. What changes meanwhile brings
/// us back.
pub(super) async fn put_right(server: &Server, ports: &Ports, port: u16) -> Result<(), ApiError> {
    let Some(services) = server.resources().storage("", "services") else {
        return Ok(());
    };
    let found = server.store().range(Range::key(key(port))).await;
    let booked = found.map_err(store_error)?.kvs.pop();
    if booked.is_some() == ports.holder(port).is_some() {
        return Ok(());
    }
    // A key and its service come in one transaction, and this cache is as new as the key from here on.
    services.cache.wait_fresh().await?;
    let txn = match (booked, ports.holder(port)) {
        (Some(booked), None) => Txn {
            compare: vec![Compare::ModRevision {
                key: booked.key.clone(),
                equals: booked.mod_revision,
            }],
            success: vec![Op::Delete { key: booked.key }],
            failure_read: Vec::new(),
        },
        (None, Some(owner)) => {
            let Some((namespace, name)) = owner.split_once('/') else {
                return Ok(());
            };
            let Some(service) = server.get("", "services", namespace, name) else {
                return Ok(());
            };
            let unchanged = Compare::ModRevision {
                key: services.full_key(&owner),
                equals: service.resource_version().parse().unwrap_or(0),
            };
            let (free, put) = booking(port, &owner);
            Txn {
                compare: vec![unchanged, free],
                success: vec![put],
                failure_read: Vec::new(),
            }
        }
        _ => return Ok(()),
    };
    let done = server.store().txn(txn).await.map_err(store_error)?;
    if matches!(done, store::TxnResult::Committed { .. }) {
        tracing::info!(port, "a node port and the services did not fit each other");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Ports;

    #[test]
    fn every_port_is_given_out_once_and_the_band_last() {
        let ports = Ports::new(100..=199);
        assert!(ports.take(199) && !ports.take(199));
        let mut given: Vec<u16> = (0..83).filter_map(|_| ports.take_any()).collect();
        assert!(given.iter().all(|n| (116..199).contains(n)));
        given.extend((0..17).filter_map(|_| ports.take_any()));
        given.sort_unstable();
        assert_eq!(given, (100..199).collect::<Vec<_>>());
        ports.end(&[105]);
        assert_eq!(ports.take_any(), Some(105));
        let few = Ports::new(30000..=30001);
        let mut both = [few.take_any(), few.take_any()];
        both.sort_unstable();
        assert_eq!(both, [Some(30000), Some(30001)]);
        assert_eq!(few.take_any(), None);
    }

    #[test]
    fn a_port_is_free_when_nobody_holds_it() {
        let ports = Ports::new(100..=199);
        ports.changed("a/b", &[], &[150, 151]);
        ports.changed("c/d", &[], &[150]);
        assert!(!ports.take(150) && !ports.take(151));
        assert!(ports.is_of_another(150, "a/b") && !ports.is_of_another(151, "a/b"));
        ports.changed("a/b", &[150, 151], &[151, 152]);
        assert!(!ports.take(150) && !ports.take(152));
        ports.changed("c/d", &[150], &[]);
        assert!(ports.take(150) && !ports.take(150));
    }
}
