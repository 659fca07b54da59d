//! The cluster's network on this machine: a bridge, a cable into each node's namespace, one nftables table.
//!
//! Everything put on the machine is named after the cluster and goes away with [`remove`]; making it again first
//! removes what an earlier crash may have left.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use futures::TryStreamExt;
use linux::namespace::{self, Kind, Namespace};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute};
use nft::{Batch, Chain, Change, Expr, Hook, Rule};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
};

use crate::cluster::{Config, INTERFACES};
use crate::member::NodeConfig;

const NODE_INTERFACE: &str = "eth0";
const ENODEV: i32 = -19;
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// There while the machine forwards only because a cluster asked for it.
const FORWARDING_MARK: &str = "/run/oxikube-ip-forward";

/// Runs netlink requests in the calling thread's network namespace; no thread is left behind.
fn with_netlink<T>(work: impl AsyncFnOnce(&Handle) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("no netlink socket")?;
        let connection = tokio::spawn(connection);
        let result = work(&handle).await;
        connection.abort();
        result
    })
}

async fn index_of(handle: &Handle, name: &str) -> anyhow::Result<Option<u32>> {
    match handle
        .link()
        .get()
        .match_name(name.to_owned())
        .execute()
        .try_next()
        .await
    {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(rtnetlink::Error::NetlinkError(message))
            if message.code.is_some_and(|code| code.get() == ENODEV) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn must_find(handle: &Handle, name: &str) -> anyhow::Result<u32> {
    index_of(handle, name)
        .await?
        .ok_or_else(|| anyhow!("the interface {name} is gone"))
}

async fn delete_link(handle: &Handle, name: &str) -> anyhow::Result<()> {
    let Some(index) = index_of(handle, name).await? else {
        return Ok(());
    };
    match handle.link().del(index).execute().await {
        // A pair goes with the namespace of its other end, at a time of the kernel's choice.
        Err(_) if index_of(handle, name).await?.is_none() => Ok(()),
        result => result.with_context(|| format!("cannot remove {name}")),
    }
}

async fn set_up(handle: &Handle, index: u32) -> anyhow::Result<()> {
    let up = LinkMessageBuilder::<LinkUnspec>::new()
        .index(index)
        .up()
        .build();
    Ok(handle.link().set(up).execute().await?)
}

/// Makes a bridge, a veth pair and a table, to see whether the kernel can.
pub(crate) fn try_devices() -> anyhow::Result<()> {
    with_netlink(async |handle| {
        let bridge = handle
            .link()
            .add(LinkBridge::new("try0").build())
            .execute()
            .await;
        bridge.context("this kernel makes no bridges: load the module `bridge`")?;
        let veth = handle
            .link()
            .add(LinkVeth::new("try1", "try2").build())
            .execute()
            .await;
        veth.context("this kernel makes no veth pairs: load the module `veth`")
    })?;
    let config = Config::new("try", 1, 1);
    nft::commit(&table(&config)).context(
        "this kernel has no nftables with NAT: load the modules `nf_tables` and `nft_masq`",
    )
}

/// Makes a VXLAN device, to see whether the kernel can.
pub(crate) fn try_vxlan() -> anyhow::Result<()> {
    with_netlink(async |handle| {
        let device = LinkVxlan::new("try0", 1).port(overlay::VXLAN_PORT).build();
        let made = handle.link().add(device).execute().await;
        made.context(
            "this kernel makes no VXLAN devices: load the module `vxlan`, or choose another way with \
             --network-backend host-gw",
        )
    })
}

/// The third numbers of subnets that something on this machine already uses.
pub(crate) fn taken_subnets() -> anyhow::Result<Vec<u8>> {
    with_netlink(async |handle| {
        let mut taken = Vec::new();
        let mut routes = handle
            .route()
            .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
            .execute();
        while let Some(route) = routes.try_next().await? {
            let prefix = route.header.destination_prefix_length;
            for attribute in route.attributes {
                if let RouteAttribute::Destination(RouteAddress::Inet(to)) = attribute {
                    taken.extend(overlapping(to, prefix));
                }
            }
        }
        Ok(taken)
    })
}

/// Which of the networks 172.30.N.0/24 a route overlaps; the default route overlaps none.
fn overlapping(to: Ipv4Addr, prefix: u8) -> Vec<u8> {
    if prefix == 0 {
        return Vec::new();
    }
    let mask = |prefix: u8| u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let wider = mask(prefix.min(24));
    let ours = |n: u8| u32::from(Ipv4Addr::new(172, 30, n, 0));
    (1..=254)
        .filter(|n| ours(*n) & wider == u32::from(to) & wider)
        .collect()
}

/// Makes what all nodes share: the bridge and the table.
pub(crate) fn create(config: &Config) -> anyhow::Result<()> {
    remove(config)?;
    let made = build(config);
    if made.is_err() {
        // The first error is the one to tell.
        let _ = remove(config);
    }
    made.context("cannot make the cluster's network on this machine")
}

fn build(config: &Config) -> anyhow::Result<()> {
    start_forwarding()?;
    with_netlink(async |handle| {
        let bridge = config.bridge();
        handle
            .link()
            .add(LinkBridge::new(&bridge).up().build())
            .execute()
            .await?;
        let index = must_find(handle, &bridge).await?;
        // No IPv6 on the bridge: nobody on it may advertise himself as a router (CVE-2020-10749).
        let no_ipv6 = format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6");
        if Path::new(&no_ipv6).exists() {
            std::fs::write(&no_ipv6, "1").with_context(|| format!("cannot write {no_ipv6}"))?;
        }
        let address = config.host_address().into();
        Ok(handle.address().add(index, address, 24).execute().await?)
    })?;
    Ok(nft::commit(&table(config))?)
}

/// Makes a node's network namespace, with a cable to the bridge.
pub(crate) fn plug(node: &NodeConfig) -> anyhow::Result<Namespace> {
    unplug(node)?;
    let plugged = (|| {
        let namespace = new_namespace()?;
        with_netlink(async |handle| {
            let bridge = must_find(handle, &node.cluster.bridge()).await?;
            handle.link().add(cable(node, &namespace)).execute().await?;
            let cable = must_find(handle, &node.cable()).await?;
            let plug = LinkMessageBuilder::<LinkUnspec>::new();
            let plug = plug.index(cable).controller(bridge).up().build();
            Ok(handle.link().set(plug).execute().await?)
        })?;
        namespace::run_in(&namespace, || prepare_inside(node))??;
        anyhow::Ok(namespace)
    })();
    if plugged.is_err() {
        // The first error is the one to tell.
        let _ = unplug(node);
    }
    plugged.with_context(|| format!("cannot connect the node {} to its cluster", node.name()))
}

/// Removes a node's cable; one that is not there is fine.
pub(crate) fn unplug(node: &NodeConfig) -> anyhow::Result<()> {
    with_netlink(async |handle| delete_link(handle, &node.cable()).await)
}

fn new_namespace() -> anyhow::Result<Namespace> {
    let made = std::thread::spawn(|| {
        namespace::unshare(&[Kind::Network])?;
        Namespace::current(Kind::Network)
    });
    match made.join() {
        Ok(made) => Ok(made?),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A veth pair: one end here, the other one is the node's `eth0`.
fn cable(config: &NodeConfig, node: &Namespace) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes
        .push(LinkAttribute::IfName(NODE_INTERFACE.to_owned()));
    peer.attributes
        .push(LinkAttribute::NetNsFd(node.as_fd().as_raw_fd()));
    LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(config.cable())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build()
}

fn prepare_inside(node: &NodeConfig) -> anyhow::Result<()> {
    with_netlink(async |handle| {
        let loopback = must_find(handle, "lo").await?;
        set_up(handle, loopback).await?;
        let index = must_find(handle, NODE_INTERFACE).await?;
        let address = node.address().into();
        handle.address().add(index, address, 24).execute().await?;
        set_up(handle, index).await?;
        let default = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(node.cluster.host_address())
            .build();
        Ok(handle.route().add(default).execute().await?)
    })
}

/// What comes from a node and goes elsewhere does so under the machine's address.
fn table(config: &Config) -> Batch {
    let mut batch = Batch::new(&config.table());
    let mask = || vec![255, 255, 255, 0];
    let network = || config.network().octets().to_vec();
    let masquerade = Rule(vec![
        Expr::Network {
            offset: 12,
            len: 4,
            to: 0,
        },
        Expr::Bitwise(0, mask(), vec![0; 4]),
        Expr::Equal(0, network()),
        Expr::Network {
            offset: 16,
            len: 4,
            to: 0,
        },
        Expr::Bitwise(0, mask(), vec![0; 4]),
        Expr::NotEqual(0, network()),
        Expr::Masquerade,
    ]);
    let base = Some(("nat", Hook::Postrouting, 100));
    batch.changes.extend([
        Change::AddTable,
        Change::DeleteTable,
        Change::AddTable,
        Change::AddChain(Chain {
            name: "postrouting".into(),
            base,
        }),
        Change::AddRule("postrouting".into(), masquerade),
    ]);
    batch
}

/// Removes what all nodes share, when their cables are gone; what is not there is fine.
pub(crate) fn remove(config: &Config) -> anyhow::Result<()> {
    with_netlink(async |handle| {
        delete_link(handle, &config.bridge()).await?;
        match has_clusters(handle).await? {
            true => Ok(()),
            false => stop_forwarding(),
        }
    })?;
    Ok(nft::delete_table(&config.table())?)
}

/// Another cluster's bridge is still there.
async fn has_clusters(handle: &Handle) -> anyhow::Result<bool> {
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let is_bridge =
            |a: &LinkAttribute| matches!(a, LinkAttribute::IfName(n) if n.starts_with(INTERFACES));
        if link.attributes.iter().any(is_bridge) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn start_forwarding() -> anyhow::Result<()> {
    let now = std::fs::read_to_string(FORWARDING).context("cannot read the forwarding switch")?;
    if now.trim() != "1" {
        std::fs::write(FORWARDING_MARK, "").context("cannot note the forwarding switch")?;
        std::fs::write(FORWARDING, "1").context("cannot switch forwarding on")?;
    }
    Ok(())
}

fn stop_forwarding() -> anyhow::Result<()> {
    if Path::new(FORWARDING_MARK).exists() {
        std::fs::write(FORWARDING, "0").context("cannot switch forwarding off again")?;
        std::fs::remove_file(FORWARDING_MARK)?;
    }
    Ok(())
}

/// A subnet that nothing on this machine uses.
pub(crate) fn free_subnet(used_by_clusters: &[u8]) -> anyhow::Result<u8> {
    let taken = taken_subnets()?;
    let free = (1..=254).find(|n| !taken.contains(n) && !used_by_clusters.contains(n));
    match free {
        Some(subnet) => Ok(subnet),
        None => bail!("no network 172.30.N.0/24 is free on this machine"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_take_the_subnets_they_overlap() {
        let at = |a, b, c, d, prefix| overlapping(Ipv4Addr::new(a, b, c, d), prefix);
        assert!(at(0, 0, 0, 0, 0).is_empty());
        assert!(at(192, 0, 2, 0, 24).is_empty());
        assert_eq!(at(172, 30, 5, 0, 24), [5]);
        assert_eq!(at(172, 30, 5, 9, 32), [5]);
        assert_eq!(at(172, 30, 4, 0, 23), [4, 5]);
        assert_eq!(at(172, 16, 0, 0, 12).len(), 254);
    }

    #[test]
    fn a_network_comes_and_goes() {
        let subnet = free_subnet(&[]).expect("a subnet");
        let config = Config::new("network-test", subnet, 1);
        create(&config).expect("made");
        let first = NodeConfig::first(&config);
        let node = plug(&first).expect("connected");
        assert!(taken_subnets().expect("routes").contains(&subnet));
        let server = namespace::run_in(&node, || {
            std::net::TcpListener::bind((first.address(), 7000)).expect("the node's address")
        })
        .expect("inside");
        let address = (first.address(), 7000);
        std::net::TcpStream::connect(address).expect("the node is reached from the machine");
        drop(server);
        unplug(&first).expect("removed");
        remove(&config).expect("removed");
        remove(&config).expect("removed twice");
        assert!(!taken_subnets().expect("routes").contains(&subnet));
    }
}
