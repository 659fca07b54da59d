//! Telling the neighbours on a link that an address is here now.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::{Context, Error, Result};

const BROADCAST: [u8; 6] = [0xff; 6];

/// Sends a gratuitous ARP request for `address` from the interface `index`, whose hardware address is `hardware`.
pub fn announce(index: u32, hardware: [u8; 6], address: Ipv4Addr) -> Result<()> {
    let what = || format!("announce {address}");
    let socket = rustix::net::socket_with(
        AddressFamily::PACKET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context(what)?;
    // SAFETY: all bytes zero is a valid `sockaddr_ll`.
    let mut target: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    target.sll_family = libc::AF_PACKET as u16;
    target.sll_protocol = (libc::ETH_P_ARP as u16).to_be();
    target.sll_ifindex =
        i32::try_from(index).map_err(|e| Error::new(what(), std::io::Error::other(e)))?;
    target.sll_halen = 6;
    target.sll_addr[..6].copy_from_slice(&BROADCAST);
    let packet = request(hardware, address);
    // SAFETY: the packet and the address live through the call and have the lengths that are given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const target).cast(),
            std::mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    match sent {
        0.. => Ok(()),
        _ => Err(Error::new(what(), std::io::Error::last_os_error())),
    }
}

/// Who asks and who is asked for is the same: RFC 5227 calls it an announcement.
fn request(hardware: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    // Ethernet, IPv4, lengths of both kinds of address, a request.
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(hardware);
    packet.extend(address.octets());
    packet.extend([0; 6]);
    packet.extend(address.octets());
    packet
}
