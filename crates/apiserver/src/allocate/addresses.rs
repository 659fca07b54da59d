//! Cluster addresses: taken from the ServiceCIDRs that are ready, and kept as IPAddresses.
//!
//! Contract: an address is somebody's when there is an IPAddress of its name, whoever made it. That of a Service is written
//! and removed in the same transaction as what makes the Service need it, so neither is ever there without the other;
//! of two servers that choose the same address one finds it taken and chooses again. In this process an address that
//! is promised to a write is promised to no other.
//!
//! Upstream: `pkg/registry/core/service/ipallocator`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use access::Lookup;
use api::core::service::allocation::{ClusterIp, Family, Needs};
use api::networking::ipaddress;
use api::networking::servicecidr::{Range, is_ready, ranges};
use machinery::{Object, names, time};
use parking_lot::Mutex;
use rand::RngExt;
use store::{Compare, Op};

use super::Refused;
use crate::call::Call;
use crate::resource::{Resource, Storage};
use crate::server::Server;
use crate::write::create::new_uid;
use crate::write::{Along, WriteOptions, managed};

pub(super) const GROUP: &str = "networking.k8s.io";
pub(super) const ADDRESSES: &str = "ipaddresses";
pub(crate) const RANGES: &str = "servicecidrs";
/// What the server calls itself where it sets fields.
const MANAGER: &str = "kube-apiserver";

/// Addresses that writes under way count on.
#[derive(Default)]
pub(super) struct Promises(Mutex<HashSet<IpAddr>>);

impl Promises {
    fn make(&self, address: IpAddr) -> bool {
        self.0.lock().insert(address)
    }

    /// A write is over, one way or the other.
    pub(super) fn end(&self, addresses: &[IpAddr]) {
        let mut promised = self.0.lock();
        for address in addresses {
            promised.remove(address);
        }
    }
}

/// The networks out of which addresses are given.
fn ready_ranges(server: &Server) -> Vec<Range> {
    let all = server.list(GROUP, RANGES, "");
    let ready = all.iter().filter(|object| is_ready(object));
    ready.flat_map(|object| ranges(object)).collect()
}

/// Each network that addresses are given from, and how many of its addresses are somebody's.
pub(crate) fn usage(server: &Server) -> Vec<(Range, u64)> {
    let taken = server.list(GROUP, ADDRESSES, "");
    let taken: Vec<IpAddr> = taken.iter().filter_map(|a| a.name().parse().ok()).collect();
    let ranges = ready_ranges(server).into_iter();
    ranges
        .map(|range| {
            let inside = taken.iter().filter(|address| range.contains(**address));
            let count = inside.count() as u64;
            (range, count)
        })
        .collect()
}

/// The network that an address is of; without an address the one that is asked first.
pub(super) fn network_of(server: &Server, address: Option<IpAddr>) -> Option<String> {
    let mut ranges = ready_ranges(server).into_iter();
    let found = ranges.find(|range| address.is_none_or(|address| range.contains(address)))?;
    Some(found.to_string())
}

fn is_taken(server: &Server, address: IpAddr) -> bool {
    let storage = server.resources().storage(GROUP, ADDRESSES);
    storage.is_some_and(|s| s.cache.get(&address.to_string()).is_some())
}

/// Takes one address.
pub(super) async fn take(
    server: &Server,
    promises: &Promises,
    needs: &Needs,
    need: &ClusterIp,
    dry_run: bool,
) -> Result<IpAddr, Refused> {
    match &need.requested {
        Some(wanted) => take_this(server, promises, needs, need, wanted, dry_run).await,
        None => take_any(server, promises, need.family, dry_run).ok_or(Refused::NoAddress),
    }
}

fn take_any(server: &Server, promises: &Promises, family: Family, dry_run: bool) -> Option<IpAddr> {
    let ranges = ready_ranges(server).into_iter();
    let mut ranges = ranges.filter(|r| r.is_v4() == (family == Family::V4));
    if dry_run {
        // As upstream: nobody is to rely on the address of something that is not made.
        return ranges.next().map(|range| range.network());
    }
    ranges.find_map(|range| {
        let mut walk = range.walk(rand::rng().random());
        walk.find(|address| !is_taken(server, *address) && promises.make(*address))
    })
}

async fn take_this(
    server: &Server,
    promises: &Promises,
    needs: &Needs,
    need: &ClusterIp,
    wanted: &str,
    dry_run: bool,
) -> Result<IpAddr, Refused> {
    let refused = |why: &str| Refused::Invalid(needs.ip_refused(need, why));
    let address = names::parse_ip_sloppy(wanted);
    let address = address.ok_or_else(|| refused("it is no address"))?;
    if !ready_ranges(server).iter().any(|r| r.contains(address)) {
        return Err(refused(
            "the provided network does not match the current range",
        ));
    }
    if dry_run {
        return Ok(address);
    }
    if is_taken(server, address)
        && let Some(storage) = server.resources().storage(GROUP, ADDRESSES)
    {
        // Who knows that the service is gone that had it, may be faster than this cache.
        storage.cache.wait_fresh().await.map_err(Refused::Failed)?;
    }
    if is_taken(server, address) || !promises.make(address) {
        return Err(refused("provided IP is already allocated"));
    }
    Ok(address)
}

/// What a Service's write changes of the addresses.
pub(super) fn along(call: &Call, service: &Object, taken: &[IpAddr], released: &[String]) -> Along {
    let resource = call.server.resources().get(GROUP, "v1", ADDRESSES);
    let storage = call.server.resources().storage(GROUP, ADDRESSES);
    let (Some(resource), Some(storage)) = (resource, storage) else {
        return Along::default();
    };
    if taken.is_empty() && released.is_empty() {
        return Along::default();
    }
    let mut along = Along::with(storage);
    for address in taken {
        let object = object(call, &resource, service, *address);
        make(&mut along, storage, &object);
    }
    let (namespace, name) = (service.namespace(), service.name());
    for key in released.iter().filter_map(|ip| key_of(ip)) {
        let Some(held) = storage.cache.tree(&key) else {
            continue;
        };
        // One that somebody else holds on to goes when it is let go.
        let own = ipaddress::service(&held) == Some((namespace, name));
        if own && held.finalizers().next().is_none() {
            along.ops.push(Op::Delete {
                key: storage.full_key(&key),
            });
        }
    }
    along
}

/// The name of the IPAddress of an address, however it is spelled.
pub(super) fn key_of(address: &str) -> Option<String> {
    Some(names::parse_ip_sloppy(address)?.to_string())
}

fn object(call: &Call, resource: &Resource, service: &Object, address: IpAddr) -> Object {
    let mut object = ipaddress::of_service(address, service.namespace(), service.name());
    let options = WriteOptions {
        manager: MANAGER.to_owned(),
        ..WriteOptions::default()
    };
    managed::track_new(call, resource, &options, &mut object);
    complete(&mut object, call.now);
    object
}

/// Sets what the server sets in every new object.
pub(super) fn complete(object: &mut Object, now: jiff::Timestamp) {
    let metadata = object.metadata_mut();
    metadata.insert("uid".into(), new_uid().into());
    metadata.insert("creationTimestamp".into(), time::rfc3339(now).into());
}

/// Writes an object that must not be there yet.
pub(super) fn make(along: &mut Along, storage: &Arc<Storage>, object: &Object) {
    let key = storage.full_key(object.name());
    along.compare.push(Compare::ModRevision {
        key: key.clone(),
        equals: 0,
    });
    along.ops.push(Op::Put {
        key,
        value: object.encode(),
        ttl: None,
    });
}
