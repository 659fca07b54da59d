//! Keeps services, IPAddresses and keys of node ports in step where something else than a service's own write has moved them apart: somebody
//! changed or removed an IPAddress, another server died between two writes, or a cluster is older than its IPAddresses.
//!
//! Contract: every cluster address of a service that lies in a ServiceCIDR has an IPAddress that says so; an IPAddress of
//! the allocator that belongs to no service goes, once the write that may have made it is surely over. Woken by changes
//! alone; a service that is as it should be costs one look into memory.
//!
//! Behaviour and words: `pkg/registry/core/service/ipallocator/controller/repairip.go`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use access::Lookup;
use api::core::service::allocation;
use api::networking::ipaddress;
use api::networking::servicecidr::{Range, ranges};
use futures::StreamExt;
use http::Method;
use machinery::{ApiError, Object, names, time};
use serde_json::{Value, json};
use store::{Compare, EventKind, Txn};
use tokio::sync::mpsc;

use super::addresses::{ADDRESSES, GROUP, RANGES, complete, key_of, make};
use super::{Books, ports};
use crate::bootstrap::Own;
use crate::cache::{Change, Follower};
use crate::server::{Server, StartError, store_error};
use crate::write::Along;

const COMPONENT: &str = "ipallocator-repair-controller";
/// A write that is older than this is over.
const WRITE_SECONDS: i64 = 60;
/// How many services are put right side by side.
const AT_ONCE: usize = 64;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Item {
    Service { namespace: String, name: String },
    Address(String),
    Port(u16),
}

/// Where changes are told.
pub(crate) type Changes = mpsc::UnboundedSender<Item>;

/// Keeps the books of node ports, and tells of the changes of a resource that may need something to be put right.
pub(crate) fn follower(
    group: &str,
    resource: &str,
    tell: &Changes,
    books: &Arc<Books>,
) -> Option<Follower> {
    let (tell, books) = (tell.clone(), books.clone());
    match (group, resource) {
        ("", "services") => Some(Box::new(move |change: &Change| {
            for port in books.ports.follow(change) {
                let _ = tell.send(Item::Port(port));
            }
            if change.kind == EventKind::Put
                && let Some((namespace, name)) = change.object.key.split_once('/')
            {
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                // Nobody listens when the server ends.
                let _ = tell.send(Item::Service { namespace, name });
            }
        })),
        (GROUP, ADDRESSES) => Some(Box::new(move |change: &Change| {
            let _ = tell.send(Item::Address(change.object.key.to_string()));
            let gone = change.kind == EventKind::Delete;
            if let Some(object) = change.object.tree().filter(|_| gone)
                && let Some((namespace, name)) = ipaddress::service(&object)
            {
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                let _ = tell.send(Item::Service { namespace, name });
            }
        })),
        _ => None,
    }
}

/// Gives every address of a stored service its IPAddress and every node port its key, as a cluster needs that was made
/// before there were any.
///
/// # Errors
/// The store does not take it.
pub(crate) async fn adopt(server: &Arc<Server>) -> Result<(), StartError> {
    let mended = ports::put_all_right(server, &server.books().ports).await;
    mended.map_err(|source| StartError::Bootstrap {
        what: "the node ports".to_owned(),
        source,
    })?;
    let services = server.list("", "services", "");
    let lacking = services.iter().flat_map(|service| {
        let held = allocation::held(service).cluster_ips.into_iter();
        held.map(move |ip| (service.clone(), ip))
    });
    let lacking: Vec<_> = lacking
        .filter(|(_, ip)| key_of(ip).is_some_and(|key| address(server, &key).is_none()))
        .collect();
    let adopting = lacking.into_iter().map(|(service, ip)| async move {
        let ip = names::parse_ip_sloppy(&ip);
        match ip {
            Some(ip) => put_right(server, &service, ip, None).await.map(drop),
            None => Ok(()),
        }
    });
    let mut adopting = futures::stream::iter(adopting).buffer_unordered(AT_ONCE);
    while let Some(adopted) = adopting.next().await {
        adopted.map_err(|source| StartError::Bootstrap {
            what: "an IPAddress".to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// Puts right what changes have moved apart, until the server ends.
pub(crate) async fn keep(server: Weak<Server>, mut changes: mpsc::UnboundedReceiver<Item>) {
    let Some(shutdown) = server.upgrade().map(|s| s.shutdown_token()) else {
        return;
    };
    let mut later = tokio_util::time::DelayQueue::new();
    loop {
        let item = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(item) = changes.recv() => item,
            Some(due) = later.next(), if !later.is_empty() => due.into_inner(),
            else => return,
        };
        let Some(server) = server.upgrade() else {
            return;
        };
        match look(&server, &item).await {
            Ok(None) => {}
            Ok(Some(seconds)) => drop(later.insert(item, Duration::from_secs(seconds))),
            Err(error) => tracing::warn!(%error, ?item, "an address cannot be put right"),
        }
    }
}

/// Looks at one item; gives the seconds after which to look again.
async fn look(server: &Arc<Server>, item: &Item) -> Result<Option<u64>, ApiError> {
    match item {
        Item::Service { namespace, name } => {
            let Some(service) = server.get("", "services", namespace, name) else {
                return Ok(None);
            };
            let held = allocation::held(&service).cluster_ips;
            let ips = held.iter().filter_map(|ip| names::parse_ip_sloppy(ip));
            for ip in ips.collect::<BTreeSet<IpAddr>>() {
                if !fits(server, &service, ip) {
                    check(server, &service, ip).await?;
                }
            }
            Ok(None)
        }
        Item::Port(port) => {
            let books = server.books();
            ports::put_right(server, &books.ports, *port).await?;
            Ok(None)
        }
        Item::Address(key) => match address(server, key) {
            Some(object) if ipaddress::is_allocated(&object) => orphan(server, &object).await,
            _ => Ok(None),
        },
    }
}

fn address(server: &Server, key: &str) -> Option<Arc<Object>> {
    server.get(GROUP, ADDRESSES, "", key)
}

/// Whether an address has the IPAddress that it should.
fn fits(server: &Server, service: &Object, ip: IpAddr) -> bool {
    address(server, &ip.to_string()).is_some_and(|object| {
        let owner = (service.namespace(), service.name());
        ipaddress::service(&object) == Some(owner)
            && ipaddress::is_allocated(&object)
            && object.label(ipaddress::FAMILY) == Some(ipaddress::family(ip))
    })
}

/// An address of a service that seems to have no right IPAddress.
async fn check(server: &Arc<Server>, service: &Object, ip: IpAddr) -> Result<(), ApiError> {
    let Some(storage) = server.resources().storage(GROUP, ADDRESSES) else {
        return Ok(());
    };
    // The caches of two resources do not move together.
    storage.cache.wait_fresh().await?;
    if fits(server, service, ip) {
        return Ok(());
    }
    let family = ipaddress::family(ip);
    let networks = server.list(GROUP, RANGES, "");
    let networks: Vec<Range> = networks.iter().flat_map(|object| ranges(object)).collect();
    if !networks.iter().any(|range| range.contains(ip)) {
        let note = format!(
            "Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service"
        );
        return tell(
            server,
            service,
            "ClusterIPOutOfRange",
            "ClusterIPAllocation",
            &note,
        )
        .await;
    }
    let Some(held) = address(server, &ip.to_string()) else {
        if put_right(server, service, ip, None).await? {
            let note = format!("Cluster IP [{family}]: {ip} is not allocated; repairing");
            tell(
                server,
                service,
                "ClusterIPNotAllocated",
                "ClusterIPAllocation",
                &note,
            )
            .await?;
        }
        return Ok(());
    };
    let other = ipaddress::service(&held).filter(|o| *o != (service.namespace(), service.name()));
    let other = other.and_then(|(namespace, name)| server.get("", "services", namespace, name));
    if other.is_some() {
        let note = format!(
            "Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service"
        );
        return tell(
            server,
            service,
            "ClusterIPAlreadyAllocated",
            "ClusterIPAllocation",
            &note,
        )
        .await;
    }
    replace(server, service, ip, &held).await
}

/// An IPAddress that says something wrong of an address.
async fn replace(
    server: &Arc<Server>,
    service: &Object,
    ip: IpAddr,
    held: &Object,
) -> Result<(), ApiError> {
    let family = ipaddress::family(ip);
    let is_own = ipaddress::service(held) == Some((service.namespace(), service.name()));
    if put_right(server, service, ip, Some(held)).await? && !is_own {
        let note = format!(
            "the ClusterIP [{family}]: {ip} for Service {}/{} has a wrong reference; repairing",
            service.namespace(),
            service.name()
        );
        tell(
            server,
            service,
            "ClusterIPNotAllocated",
            "ClusterIPAllocation",
            &note,
        )
        .await?;
    }
    Ok(())
}

/// Makes the IPAddress of a service's address, in the place of a wrong one; false when service or address have changed
/// meanwhile, which brings us back.
async fn put_right(
    server: &Arc<Server>,
    service: &Object,
    ip: IpAddr,
    wrong: Option<&Object>,
) -> Result<bool, ApiError> {
    let resources = server.resources();
    let (Some(storage), Some(services)) = (
        resources.storage(GROUP, ADDRESSES),
        resources.storage("", "services"),
    ) else {
        return Ok(false);
    };
    if let Some(wrong) = wrong {
        let path = format!("/apis/{GROUP}/v1/{ADDRESSES}/{}", wrong.name());
        match Own::of(server).send(Method::DELETE, &path, None).await {
            Err(error) if error.code != 404 => return Err(error),
            _ => {}
        }
    }
    let mut object = ipaddress::of_service(ip, service.namespace(), service.name());
    complete(&mut object, crate::call::now());
    let mut along = Along::with(storage);
    make(&mut along, storage, &object);
    let key = format!("{}/{}", service.namespace(), service.name());
    along.compare.push(Compare::ModRevision {
        key: services.full_key(&key),
        equals: service.resource_version().parse().unwrap_or(0),
    });
    let txn = Txn {
        compare: along.compare,
        success: along.ops,
        failure_read: Vec::new(),
    };
    match server.store().txn(txn).await.map_err(store_error)? {
        store::TxnResult::Failed { .. } => Ok(false),
        store::TxnResult::Committed { revision, .. } => {
            storage.cache.wait_for(revision).await.map(|()| true)
        }
    }
}

/// An IPAddress of the allocator: whether it still belongs to a service.
async fn orphan(server: &Arc<Server>, object: &Object) -> Result<Option<u64>, ApiError> {
    let Some((namespace, name)) = ipaddress::service(object) else {
        let note = format!(
            "IPAddress {} appears to have been modified, not referencing a Service: cleaning up",
            object.name()
        );
        return drop_address(server, object, "IPAddressNotAllocated", &note).await;
    };
    let service = server.get("", "services", namespace, name);
    let held = service.map(|service| allocation::held(&service).cluster_ips);
    let holds = |ips: &Vec<String>| {
        ips.iter()
            .any(|ip| key_of(ip).as_deref() == Some(object.name()))
    };
    if held.as_ref().is_some_and(holds) {
        return Ok(None);
    }
    let made = object
        .meta_str("creationTimestamp")
        .parse::<jiff::Timestamp>();
    let age = made.map_or(WRITE_SECONDS, |made| {
        crate::call::now().duration_since(made).as_secs()
    });
    if age < WRITE_SECONDS {
        return Ok(u64::try_from(WRITE_SECONDS - age).ok());
    }
    let (reason, note) = match held {
        None => (
            "IPAddressNotAllocated",
            format!(
                "IPAddress: {} for Service {namespace}/{name} appears to have leaked: cleaning up",
                object.name()
            ),
        ),
        Some(_) => (
            "IPAddressWrongReference",
            format!(
                "IPAddress: {} for Service {namespace}/{name} has a wrong reference; cleaning up",
                object.name()
            ),
        ),
    };
    drop_address(server, object, reason, &note).await
}

async fn drop_address(
    server: &Arc<Server>,
    object: &Object,
    reason: &str,
    note: &str,
) -> Result<Option<u64>, ApiError> {
    if object.deletion_timestamp().is_some() {
        return Ok(None);
    }
    tell(server, object, reason, "IPAddressAllocation", note).await?;
    let path = format!("/apis/{GROUP}/v1/{ADDRESSES}/{}", object.name());
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": object.uid()}});
    let options = Object::from_value(options).ok();
    match Own::of(server)
        .send(Method::DELETE, &path, options.as_ref())
        .await
    {
        Err(error) if !matches!(error.code, 404 | 409) => Err(error),
        _ => Ok(None),
    }
}

/// Says in an event what was found.
async fn tell(
    server: &Arc<Server>,
    about: &Object,
    reason: &str,
    action: &str,
    note: &str,
) -> Result<(), ApiError> {
    let namespace = match about.namespace() {
        "" => "default",
        namespace => namespace,
    };
    let now = crate::call::now();
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"generateName": format!("{}.", about.name()), "namespace": namespace},
        "eventTime": time::micro(now), "type": "Warning", "reason": reason, "action": action, "note": note,
        "reportingController": COMPONENT, "reportingInstance": COMPONENT,
        "regarding": {
            "apiVersion": about.api_version(), "kind": about.kind(), "namespace": about.namespace(),
            "name": about.name(), "uid": about.uid(), "resourceVersion": about.resource_version(),
        },
    });
    let Value::Object(event) = event else {
        return Ok(());
    };
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let sent = Own::of(server)
        .send(Method::POST, &path, Some(&Object(event)))
        .await;
    sent.map(drop)
}
