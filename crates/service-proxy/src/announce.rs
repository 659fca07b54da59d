//! Makes this node answer for addresses of load balancers.
//!
//! An address gets a `local` route and nothing else: the kernel answers ARP for it on every interface, it is never chosen
//! as the source of a packet, and it shows on no interface. The neighbours are told at once, in case another node
//! answered for it before. Routes carry a protocol number of their own, by which those of an earlier process are found.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::sync::watch;

use service_rules::Cidr;

/// Who made the route: a number that nobody has registered.
const OURS: RouteProtocol = RouteProtocol::Other(0x6f);
/// `RT_TABLE_LOCAL`.
const LOCAL_TABLE: u32 = 255;

/// Answers for the addresses as they come and go, until dropped. The first set counts only once it has been sent.
pub(crate) async fn answer_for(mut wanted: watch::Receiver<BTreeSet<Ipv4Addr>>) {
    while wanted.changed().await.is_ok() {
        let wanted = wanted.borrow_and_update().clone();
        if let Err(error) = settle(&wanted).await {
            tracing::warn!(%error, "this node cannot answer for all addresses of load balancers");
        }
    }
    std::future::pending().await
}

pub(crate) async fn settle(
    wanted: &BTreeSet<Ipv4Addr>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let settled = settle_with(&handle, wanted).await;
    connection.abort();
    settled.map_err(Into::into)
}

async fn settle_with(handle: &Handle, wanted: &BTreeSet<Ipv4Addr>) -> Result<(), rtnetlink::Error> {
    let present = routes(handle).await?;
    for gone in present.difference(wanted) {
        handle.route().del(route(*gone)).execute().await?;
    }
    for come in wanted.difference(&present) {
        handle.route().add(route(*come)).execute().await?;
        for link in links_of(handle, *come).await? {
            // A neighbour that misses it asks again when the old node does not answer.
            let _ = linux::arp::announce(link.0, link.1, *come);
        }
    }
    Ok(())
}

fn route(address: Ipv4Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        // The loopback is the first interface of every network namespace.
        .output_interface(1)
        .table_id(LOCAL_TABLE)
        .scope(RouteScope::Host)
        .kind(RouteType::Local)
        .protocol(OURS)
        .build()
}

/// The addresses for which there are routes of ours.
async fn routes(handle: &Handle) -> Result<BTreeSet<Ipv4Addr>, rtnetlink::Error> {
    let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut routes = handle.route().get(all).execute();
    let mut found = BTreeSet::new();
    while let Some(route) = routes.try_next().await? {
        let is_ours = route.header.protocol == OURS && route.header.kind == RouteType::Local;
        for attribute in route.attributes {
            if let RouteAttribute::Destination(RouteAddress::Inet(to)) = attribute
                && is_ours
            {
                found.insert(to);
            }
        }
    }
    Ok(found)
}

/// The interfaces on whose network the address is, with their hardware addresses.
async fn links_of(
    handle: &Handle,
    address: Ipv4Addr,
) -> Result<Vec<(u32, [u8; 6])>, rtnetlink::Error> {
    let mut indexes = BTreeSet::new();
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        let prefix = message.header.prefix_len;
        for attribute in message.attributes {
            if let AddressAttribute::Address(IpAddr::V4(own)) = attribute
                && prefix < 32
                && (Cidr {
                    address: own,
                    prefix,
                })
                .contains(address)
            {
                indexes.insert(message.header.index);
            }
        }
    }
    let mut found = Vec::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let hardware = link.attributes.iter().find_map(|a| match a {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
        if let Some(hardware) = hardware.filter(|_| indexes.contains(&link.header.index)) {
            found.push((link.header.index, hardware));
        }
    }
    Ok(found)
}
