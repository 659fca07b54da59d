//! IPv4 networks.

use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// Network address.
    pub address: Ipv4Addr,
    /// Length of the prefix in bits, at most 32.
    pub prefix: u8,
}

/// The mask of a prefix.
pub(crate) fn mask(prefix: u8) -> [u8; 4] {
    let bits = u32::MAX.checked_shl(32 - u32::from(prefix.min(32)));
    bits.unwrap_or(0).to_be_bytes()
}

impl Cidr {
    /// The network of one address.
    pub fn host(address: Ipv4Addr) -> Self {
        Self {
            address,
            prefix: 32,
        }
    }

    /// Whether the address is inside.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let inside = Self { address, ..*self };
        inside.network() == self.network()
    }

    pub(crate) fn mask(self) -> [u8; 4] {
        mask(self.prefix)
    }

    /// The address with the bits behind the prefix zero.
    pub(crate) fn network(self) -> Vec<u8> {
        let octets = self.address.octets();
        let masked = octets.iter().zip(self.mask());
        masked.map(|(byte, mask)| byte & mask).collect()
    }
}

/// The text is no IPv4 network.
#[derive(Debug, PartialEq, Eq)]
pub struct NotACidr;

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let (address, prefix) = text.trim().split_once('/').ok_or(NotACidr)?;
        let address = address.parse().map_err(|_| NotACidr)?;
        let prefix = prefix.parse().ok().filter(|p| *p <= 32).ok_or(NotACidr)?;
        Ok(Self { address, prefix })
    }
}
