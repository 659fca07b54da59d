//! Pictures of the network between nodes, read from the kernel and written to it.
//!
//! What is ours is told from the rest: routes by their protocol number, neighbours and forwarding entries by the device
//! that they are on.

use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use overlay::{Backend, Change, Mac, Own, Picture, VNI, VXLAN_PORT, Via};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan, RouteMessageBuilder};

use crate::Error;
use crate::link::{NO_DEVICE, add_address, index_of, is_errno, link_error, set_up};
use crate::underlay::Underlay;

/// Who made a route: a number that no routing program has registered.
const OURS: RouteProtocol = RouteProtocol::Other(111);
/// `ESRCH`, `ENOENT`: what is to be removed is not there.
const NO_ROUTE: i32 = -3;
const NO_ENTRY: i32 = -2;

/// The device for packets to other nodes, and the picture that the kernel has of it.
pub(crate) struct Kernel {
    handle: Handle,
    /// The tunnel device, or the interface itself when there is none.
    device: u32,
}

impl Kernel {
    /// Makes the device, or takes the one of an earlier process over; devices of other back ends go.
    pub(crate) async fn prepare(
        handle: Handle,
        own: &Own,
        underlay: &Underlay,
    ) -> Result<Self, Error> {
        let failed = link_error("make the device for packets to other nodes");
        let others = Backend::ALL.into_iter().filter(|b| *b != own.backend);
        for other in others.filter_map(Backend::device) {
            remove_link(&handle, other).await.map_err(&failed)?;
        }
        let mtu = underlay.mtu - own.backend.overhead_bytes().min(underlay.mtu);
        let device = match own.backend {
            Backend::HostGw => None,
            Backend::Vxlan => Some(vxlan(&handle, own, underlay).await.map_err(&failed)?),
            Backend::Udp => {
                let name = own.backend.device().unwrap_or_default();
                let index = index_of(&handle, name).await.map_err(&failed)?;
                Some(index.ok_or_else(|| failed(rtnetlink::Error::RequestFailed))?)
            }
        };
        if let Some(device) = device {
            set_mtu(&handle, device, mtu).await.map_err(&failed)?;
            keep_address(&handle, device, own.tunnel_address())
                .await
                .map_err(&failed)?;
            set_up(&handle, device).await.map_err(&failed)?;
        }
        Ok(Self {
            handle,
            device: device.unwrap_or(underlay.index),
        })
    }

    /// What the kernel has of ours.
    pub(crate) async fn picture(&self) -> Result<Picture, Error> {
        let failed = link_error("read the routes to other nodes");
        let mut picture = Picture::default();
        let any = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = self.handle.route().get(any).execute();
        while let Some(route) = routes.try_next().await.map_err(&failed)? {
            if route.header.protocol == OURS
                && let Some((net, via)) = self.seen(&route)
            {
                picture.routes.insert(net, via);
            }
        }
        for family in [AddressFamily::Inet, AddressFamily::Bridge] {
            let all = self.handle.neighbours().get().set_address_family(family);
            let mut all = all.execute();
            while let Some(entry) = all.try_next().await.map_err(&failed)? {
                let ours = entry.header.ifindex == self.device
                    && entry.header.state == NeighbourState::Permanent;
                let Some((address, mac)) = addresses(&entry).filter(|_| ours) else {
                    continue;
                };
                match family {
                    AddressFamily::Inet => drop(picture.neighbours.insert(address, mac)),
                    _ => drop(picture.forwarding.insert(mac, address)),
                }
            }
        }
        Ok(picture)
    }

    /// Where a route leads, as far as a plan would say it.
    fn seen(&self, route: &RouteMessage) -> Option<(Ipv4Net, Via)> {
        let (mut to, mut gateway, mut device) = (Ipv4Addr::UNSPECIFIED, None, None);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => to = *address,
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
                RouteAttribute::Oif(index) => device = Some(*index),
                _ => {}
            }
        }
        let net = Ipv4Net::new(to, route.header.destination_prefix_length).ok()?;
        let own = device == Some(self.device);
        let on_link = route
            .header
            .flags
            .contains(netlink_packet_route::route::RouteFlags::Onlink);
        let via = match gateway {
            Some(gateway) if own && on_link => Via::Tunnel(gateway),
            Some(gateway) => Via::Gateway(gateway),
            None if own => Via::Device,
            // Also what leads to a device that is not ours any more: it is replaced.
            None => Via::Nowhere,
        };
        Some((net, via))
    }

    /// Carries one change out. What is to be removed and is gone is fine.
    pub(crate) async fn apply(&self, change: Change) -> Result<(), rtnetlink::Error> {
        let handle = &self.handle;
        let result = match change {
            Change::SetRoute(net, via) => {
                let route = self.route(net, via);
                handle.route().add(route).replace().execute().await
            }
            Change::RemoveRoute(net, _) => {
                let mut route = base(net).build();
                (route.header.kind, route.header.scope) = (RouteType::Unspec, RouteScope::NoWhere);
                handle.route().del(route).execute().await
            }
            Change::SetNeighbour(address, mac) => {
                let add = handle.neighbours().add(self.device, address.into());
                add.link_layer_address(&mac.0).replace().execute().await
            }
            Change::SetForwarding(mac, node) => {
                let add = handle.neighbours().add_bridge(self.device, &mac.0);
                let add = add.flags(NeighbourFlags::Own).destination(node.into());
                add.replace().execute().await
            }
            Change::RemoveNeighbour(address, mac) => {
                let entry = self.entry(AddressFamily::Inet, address, mac);
                handle.neighbours().del(entry).execute().await
            }
            Change::RemoveForwarding(mac, node) => {
                let entry = self.entry(AddressFamily::Bridge, node, mac);
                handle.neighbours().del(entry).execute().await
            }
        };
        let removes = matches!(
            change,
            Change::RemoveRoute(..) | Change::RemoveNeighbour(..) | Change::RemoveForwarding(..)
        );
        let gone = |error: &rtnetlink::Error| {
            [NO_ROUTE, NO_ENTRY]
                .iter()
                .any(|code| is_errno(error, *code))
        };
        match result {
            Err(error) if removes && gone(&error) => Ok(()),
            result => result,
        }
    }

    fn route(&self, net: Ipv4Net, via: Via) -> RouteMessage {
        let base = base(net);
        match via {
            Via::Tunnel(gateway) => base.output_interface(self.device).gateway(gateway).onlink(),
            Via::Device => base.output_interface(self.device).scope(RouteScope::Link),
            Via::Gateway(gateway) => base.output_interface(self.device).gateway(gateway),
            Via::Nowhere => base.kind(RouteType::Unreachable),
        }
        .build()
    }

    fn entry(&self, family: AddressFamily, address: Ipv4Addr, mac: Mac) -> NeighbourMessage {
        let mut entry = NeighbourMessage::default();
        entry.header.family = family;
        entry.header.ifindex = self.device;
        entry.header.state = NeighbourState::Permanent;
        if family == AddressFamily::Bridge {
            entry.header.flags = NeighbourFlags::Own;
        }
        let address = NeighbourAttribute::Destination(NeighbourAddress::Inet(address));
        let mac = NeighbourAttribute::LinkLayerAddress(mac.0.to_vec());
        entry.attributes = vec![address, mac];
        entry
    }
}

fn base(net: Ipv4Net) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(net.network(), net.prefix_len())
        .protocol(OURS)
}

/// The addresses of an entry that has both.
fn addresses(entry: &NeighbourMessage) -> Option<(Ipv4Addr, Mac)> {
    let (mut address, mut mac) = (None, None);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => address = Some(*a),
            // In forwarding entries the address has no family of its own.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                let octets: Option<[u8; 4]> = bytes.as_slice().try_into().ok();
                address = octets.map(Ipv4Addr::from);
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(Mac);
            }
            _ => {}
        }
    }
    Some((address?, mac?))
}

async fn remove_link(handle: &Handle, name: &str) -> Result<(), rtnetlink::Error> {
    let Some(index) = index_of(handle, name).await? else {
        return Ok(());
    };
    match handle.link().del(index).execute().await {
        Err(error) if is_errno(&error, NO_DEVICE) => Ok(()),
        result => result,
    }
}

async fn set_mtu(handle: &Handle, index: u32, mtu: u32) -> Result<(), rtnetlink::Error> {
    let message = LinkMessageBuilder::<LinkUnspec>::new()
        .index(index)
        .mtu(mtu);
    handle.link().set(message.build()).execute().await
}

/// Leaves the device with this address alone.
async fn keep_address(
    handle: &Handle,
    index: u32,
    address: Ipv4Addr,
) -> Result<(), rtnetlink::Error> {
    use netlink_packet_route::address::AddressAttribute;
    let ours = AddressAttribute::Local(IpAddr::V4(address));
    let all = handle.address().get().set_link_index_filter(index);
    let mut all = all.execute();
    let mut stale = Vec::new();
    while let Some(message) = all.try_next().await? {
        let is_ipv4 = message.header.family == AddressFamily::Inet;
        if is_ipv4 && message.header.index == index && !message.attributes.contains(&ours) {
            stale.push(message);
        }
    }
    for message in stale {
        handle.address().del(message).execute().await?;
    }
    add_address(handle, index, address).await
}

/// The VXLAN device, made anew unless it is right.
async fn vxlan(handle: &Handle, own: &Own, underlay: &Underlay) -> Result<u32, rtnetlink::Error> {
    let name = Backend::Vxlan.device().unwrap_or_default();
    if let Some(index) = index_of(handle, name).await? {
        let mut links = handle.link().get().match_index(index).execute();
        if let Some(link) = links.try_next().await?
            && is_right(&link, own, underlay)
        {
            return Ok(index);
        }
        remove_link(handle, name).await?;
    }
    let device = LinkVxlan::new(name, VNI)
        .dev(underlay.index)
        .local(own.public_ip)
        .port(VXLAN_PORT)
        .learning(false)
        .address(own.mac().0.to_vec())
        .build();
    handle.link().add(device).execute().await?;
    let index = index_of(handle, name).await?;
    index.ok_or(rtnetlink::Error::RequestFailed)
}

fn is_right(link: &LinkMessage, own: &Own, underlay: &Underlay) -> bool {
    let mac = LinkAttribute::Address(own.mac().0.to_vec());
    let wanted = [
        InfoVxlan::Id(VNI),
        InfoVxlan::Link(underlay.index),
        InfoVxlan::Local(own.public_ip),
        InfoVxlan::Port(VXLAN_PORT),
        InfoVxlan::Learning(false),
    ];
    let is_right = |info: &LinkInfo| match info {
        LinkInfo::Data(InfoData::Vxlan(has)) => wanted.iter().all(|want| has.contains(want)),
        _ => false,
    };
    let infos = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().any(is_right),
        _ => false,
    };
    link.attributes.contains(&mac) && link.attributes.iter().any(infos)
}
