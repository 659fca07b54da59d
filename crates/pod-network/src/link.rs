//! Links, addresses and routes over netlink.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use futures::TryStreamExt;
use linux::namespace::{Kind, Namespace, run_in};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use netlink_packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::Error;

/// The pod's side of the pair.
const POD_INTERFACE: &str = "eth0";
/// `ENODEV`, `EEXIST`, `ESRCH`.
pub(crate) const NO_DEVICE: i32 = -19;
const EXISTS: i32 = -17;

/// The node's side of a sandbox's pair: `oxi` and 12 characters of the sandbox's id, 15 being the kernel's limit.
pub(crate) fn host_interface(id: &str) -> String {
    let tail: String = id
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(12)
        .collect();
    format!("oxi{tail}")
}

/// Runs netlink requests on a connection of the calling thread's network namespace.
pub(crate) async fn with_handle<T, F>(work: impl FnOnce(Handle) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|source| Error::Setting {
        path: "a netlink socket".into(),
        source,
    })?;
    let connection = tokio::spawn(connection);
    let result = work(handle).await;
    connection.abort();
    result
}

pub(crate) fn link_error(what: &'static str) -> impl Fn(rtnetlink::Error) -> Error {
    move |source| Error::Link { what, source }
}

pub(crate) fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            message.code.is_some_and(|code| code.get() == errno)
        }
        _ => false,
    }
}

pub(crate) async fn index_of(handle: &Handle, name: &str) -> Result<Option<u32>, rtnetlink::Error> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(error) if is_errno(&error, NO_DEVICE) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn set_up(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    handle
        .link()
        .set(
            LinkMessageBuilder::<LinkUnspec>::new()
                .index(index)
                .up()
                .build(),
        )
        .execute()
        .await
}

pub(crate) async fn add_address(
    handle: &Handle,
    index: u32,
    address: Ipv4Addr,
) -> Result<(), rtnetlink::Error> {
    match handle
        .address()
        .add(index, address.into(), 32)
        .execute()
        .await
    {
        Err(error) if is_errno(&error, EXISTS) => Ok(()),
        result => result,
    }
}

/// Makes the node a router for its pods, with its own address in the pod CIDR on `lo`.
pub(crate) async fn prepare_node(gateway: Ipv4Addr) -> Result<(), Error> {
    let path = "/proc/sys/net/ipv4/ip_forward";
    std::fs::write(path, "1").map_err(|source| Error::Setting {
        path: path.into(),
        source,
    })?;
    with_handle(async |handle| {
        let failed = link_error("give the node its address in the pod CIDR");
        let lo = index_of(&handle, "lo").await.map_err(&failed)?.unwrap_or(1);
        set_up(&handle, lo).await.map_err(&failed)?;
        add_address(&handle, lo, gateway).await.map_err(&failed)
    })
    .await
}

/// Makes the pair and both sides' addresses and routes.
pub(crate) async fn attach(
    id: &str,
    namespace: &Namespace,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
    mtu: u32,
) -> Result<(), Error> {
    let outer = host_interface(id);
    let node = Namespace::current(Kind::Network)?;
    let pod = namespace.try_clone()?;
    let name = outer.clone();
    // The pod's side is set up by a thread that is in the pod's namespace for a moment.
    let inside = tokio::task::spawn_blocking(move || {
        run_in(&pod, || {
            block_on(attach_inside(&name, &node, address, gateway, mtu))
        })
    });
    inside.await.expect("the thread does not panic")??;
    with_handle(async |handle| {
        let failed = link_error("route to the pod");
        let gone = || failed(rtnetlink::Error::RequestFailed);
        let index = index_of(&handle, &outer)
            .await
            .map_err(&failed)?
            .ok_or_else(gone)?;
        set_up(&handle, index).await.map_err(&failed)?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .pref_source(gateway)
            .build();
        handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(&failed)
    })
    .await
}

/// Runs a future to its end on this thread alone.
fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let runtime = runtime.map_err(|source| Error::Setting {
        path: "an event loop".into(),
        source,
    })?;
    runtime.block_on(future)
}

async fn attach_inside(
    outer: &str,
    node: &Namespace,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
    mtu: u32,
) -> Result<(), Error> {
    with_handle(async |handle| {
        let failed = link_error("make the pod's eth0");
        if index_of(&handle, POD_INTERFACE)
            .await
            .map_err(&failed)?
            .is_none()
        {
            handle
                .link()
                .add(pair(outer, node, mtu))
                .execute()
                .await
                .map_err(&failed)?;
        }
        set_up(&handle, 1).await.map_err(&failed)?;
        let gone = || failed(rtnetlink::Error::RequestFailed);
        let index = index_of(&handle, POD_INTERFACE)
            .await
            .map_err(&failed)?
            .ok_or_else(gone)?;
        add_address(&handle, index, address)
            .await
            .map_err(&failed)?;
        set_up(&handle, index).await.map_err(&failed)?;
        let failed = link_error("give the pod its routes");
        let neighbour = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(gateway, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        handle
            .route()
            .add(neighbour)
            .replace()
            .execute()
            .await
            .map_err(&failed)?;
        let default = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .output_interface(index)
            .pref_source(address)
            .build();
        handle
            .route()
            .add(default)
            .replace()
            .execute()
            .await
            .map_err(&failed)
    })
    .await
}

/// `eth0` here, its peer `outer` in the node's namespace.
fn pair(outer: &str, node: &Namespace, mtu: u32) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes
        .push(LinkAttribute::IfName(outer.to_owned()));
    peer.attributes.push(LinkAttribute::Mtu(mtu));
    peer.attributes
        .push(LinkAttribute::NetNsFd(node.as_fd().as_raw_fd()));
    LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(POD_INTERFACE.to_owned())
        .mtu(mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build()
}

/// Removes the pair (and with it the routes); a pair that is gone is fine.
pub(crate) async fn detach(id: &str) -> Result<(), Error> {
    let outer = host_interface(id);
    with_handle(async |handle| {
        let failed = link_error("remove the pod's link");
        let Some(index) = index_of(&handle, &outer).await.map_err(&failed)? else {
            return Ok(());
        };
        match handle.link().del(index).execute().await {
            Err(error) if !is_errno(&error, NO_DEVICE) => Err(failed(error)),
            _ => Ok(()),
        }
    })
    .await
}
