//! The two fields of an IPv4 packet that decide where it goes.

use std::net::Ipv4Addr;

/// The shortest header.
const HEADER_BYTES: usize = 20;

/// Where a packet comes from; `None` for what is no IPv4 packet.
pub fn source(packet: &[u8]) -> Option<Ipv4Addr> {
    address(packet, 12)
}

/// Where a packet goes.
pub fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    address(packet, 16)
}

fn address(packet: &[u8], at: usize) -> Option<Ipv4Addr> {
    let is_ipv4 = packet.len() >= HEADER_BYTES && packet[0] >> 4 == 4;
    let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
    is_ipv4.then(|| octets.into())
}
