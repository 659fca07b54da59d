//! Packets in UDP: what the tunnel device is given goes to the node that has the address, what nodes send goes to the
//! device. The framing is flannel's: a datagram is a packet.
//!
//! Both directions take as many packets as have arrived, up to a bound, with one call into the network each.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use ipnet::Ipv4Net;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use overlay::{Backend, Own, Peers, UDP_PORT, destination};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::Error;

/// Packets handled together.
const BATCH: usize = 64;
/// Larger than any packet the device carries.
const PACKET_BYTES: usize = 9216;

/// Opens device and socket; the future carries packets until it is dropped.
pub(crate) fn run(
    own: &Own,
    ways: watch::Receiver<Arc<Ways>>,
) -> Result<impl Future<Output = Result<(), Error>> + Send + use<>, Error> {
    let device = linux::tun::open(Backend::Udp.device().unwrap_or_default())?;
    let address = SocketAddrV4::new(own.public_ip, UDP_PORT);
    let failed = move |source| Error::Tunnel { address, source };
    let socket = std::net::UdpSocket::bind(address).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let socket = UdpSocket::from_std(socket).map_err(failed)?;
    let device = watched(device).map_err(failed)?;
    let tunnel = Arc::new(Tunnel {
        device,
        socket,
        ways,
    });
    let (out, inward) = (tunnel.clone(), tunnel);
    // Side by side: a node that sends and receives uses two processors.
    let mut both = tokio::task::JoinSet::new();
    both.spawn(async move { out.outward().await });
    both.spawn(async move { inward.inward().await });
    Ok(async move {
        match both.join_next().await {
            Some(Ok(Err(source))) => Err(failed(source)),
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    })
}

#[expect(
    deprecated,
    reason = "the way without `unsafe`; the descriptor is owned and stays open as long as it is watched"
)]
fn watched(device: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(device)
}

struct Tunnel {
    device: AsyncFd<OwnedFd>,
    socket: UdpSocket,
    ways: watch::Receiver<Arc<Ways>>,
}

/// What the tunnel must know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    /// Addresses of this node's pods: nothing else is taken from other nodes.
    pub(crate) pods: Ipv4Net,
    pub(crate) peers: Peers,
}

/// Room for a batch.
struct Buffers {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl Buffers {
    fn new() -> Self {
        Self {
            bytes: vec![0; BATCH * PACKET_BYTES],
            lengths: Vec::with_capacity(BATCH),
        }
    }

    fn slot(&mut self, number: usize) -> &mut [u8] {
        &mut self.bytes[number * PACKET_BYTES..][..PACKET_BYTES]
    }

    fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let slots = self.bytes.chunks_exact(PACKET_BYTES);
        slots
            .zip(&self.lengths)
            .map(|(slot, length)| &slot[..*length])
    }
}

impl Tunnel {
    /// From the device to other nodes.
    async fn outward(&self) -> std::io::Result<()> {
        let mut buffers = Buffers::new();
        loop {
            let mut ready = self.device.readable().await?;
            let read = ready.try_io(|device| read_batch(device.get_ref(), &mut buffers));
            match read {
                Ok(read) => read?,
                Err(_would_block) => continue,
            }
            let ways = self.ways.borrow().clone();
            let to_send = |packet| Some((packet, ways.peers.node_of(destination(packet)?)?));
            let batch: Vec<(&[u8], Ipv4Addr)> = buffers.packets().filter_map(to_send).collect();
            let mut sent = 0;
            while sent < batch.len() {
                let send = || send_batch(&self.socket, &batch[sent..]);
                let written = self.socket.async_io(Interest::WRITABLE, send).await;
                // Nobody listens there, or there is no way: like any network, drop that packet.
                sent += written.unwrap_or(1);
            }
        }
    }

    /// From other nodes to the device.
    async fn inward(&self) -> std::io::Result<()> {
        let mut buffers = Buffers::new();
        loop {
            let mut from = Vec::with_capacity(BATCH);
            let receive = || receive_batch(&self.socket, &mut buffers, &mut from);
            self.socket.async_io(Interest::READABLE, receive).await?;
            let ways = self.ways.borrow().clone();
            for (packet, from) in buffers.packets().zip(&from) {
                let to = destination(packet).filter(|to| ways.pods.contains(to));
                if to.is_some() && ways.peers.has_node(*from) {
                    // A device that is full or down drops packets, as any does.
                    let _ = write_packet(self.device.get_ref(), packet);
                }
            }
        }
    }
}

fn write_packet(device: &OwnedFd, packet: &[u8]) -> nix::Result<usize> {
    nix::unistd::write(device, packet)
}

/// Reads until there is nothing more or the batch is full; nothing at all is "would block".
fn read_batch(device: &OwnedFd, into: &mut Buffers) -> std::io::Result<()> {
    into.lengths.clear();
    while into.lengths.len() < BATCH {
        let slot = into.slot(into.lengths.len());
        match nix::unistd::read(device, slot) {
            Ok(length) => into.lengths.push(length),
            Err(nix::Error::EAGAIN) if !into.lengths.is_empty() => break,
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn send_batch(socket: &UdpSocket, batch: &[(&[u8], Ipv4Addr)]) -> std::io::Result<usize> {
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(batch.len(), None);
    let packets: Vec<[IoSlice<'_>; 1]> = batch
        .iter()
        .map(|(packet, _)| [IoSlice::new(packet)])
        .collect();
    let address = |node: &Ipv4Addr| Some(SocketAddrV4::new(*node, UDP_PORT).into());
    let addresses: Vec<Option<SockaddrIn>> = batch.iter().map(|(_, node)| address(node)).collect();
    let (socket, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let sent = sendmmsg(socket, &mut headers, &packets, &addresses, [], flags)?;
    match sent.count() {
        0 => Err(ErrorKind::WriteZero.into()),
        sent => Ok(sent),
    }
}

fn receive_batch(
    socket: &UdpSocket,
    into: &mut Buffers,
    from: &mut Vec<Ipv4Addr>,
) -> std::io::Result<()> {
    into.lengths.clear();
    from.clear();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let slots = into.bytes.chunks_exact_mut(PACKET_BYTES);
    let mut slots: Vec<[IoSliceMut<'_>; 1]> = slots.map(|slot| [IoSliceMut::new(slot)]).collect();
    let (socket, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let received = recvmmsg(socket, &mut headers, slots.iter_mut(), flags, None)?;
    for message in received {
        into.lengths.push(message.bytes);
        let address = message.address.map(|address| address.ip());
        from.push(address.unwrap_or(Ipv4Addr::UNSPECIFIED));
    }
    Ok(())
}
