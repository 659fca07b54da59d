//! The interface by which other nodes reach this one.

use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::LinkAttribute;

use crate::Error;
use crate::link::{link_error, with_handle};

/// What tunnels stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Underlay {
    pub(crate) index: u32,
    pub(crate) mtu: u32,
    /// The network of the link.
    pub(crate) network: Ipv4Net,
}

/// No pod's interface takes more; the loopback interface does.
const LARGEST_PACKET: u32 = 65_535;

/// Finds the interface with an address.
pub(crate) async fn find(address: Ipv4Addr) -> Result<Underlay, Error> {
    with_handle(async |handle| {
        let failed = link_error("find the interface of the node's address");
        let mut addresses = handle.address().get().execute();
        let mut found = None;
        while let Some(message) = addresses.try_next().await.map_err(&failed)? {
            let is_it = |a: &AddressAttribute| *a == AddressAttribute::Local(IpAddr::V4(address));
            if message.attributes.iter().any(is_it) {
                found = Some((message.header.index, message.header.prefix_len));
            }
        }
        let (index, prefix) = found.ok_or(Error::NoInterface(address))?;
        let mut links = handle.link().get().match_index(index).execute();
        let link = links.try_next().await.map_err(&failed)?;
        let attributes = link.map(|link| link.attributes).unwrap_or_default();
        let mtu = attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        let network = Ipv4Net::new(address, prefix).map_err(|_| Error::NoInterface(address))?;
        Ok(Underlay {
            index,
            mtu: mtu.ok_or(Error::NoInterface(address))?.min(LARGEST_PACKET),
            network: network.trunc(),
        })
    })
    .await
}
