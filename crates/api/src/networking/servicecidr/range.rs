//! A network of cluster addresses: which of its addresses Services may have, and in which order they are tried.
//!
//! Upstream: `pkg/registry/core/service/ipallocator`, `pkg/api/servicecidr`.

use std::fmt;
use std::net::IpAddr;

use machinery::names;

/// The addresses below are given out unasked only when all others are gone: they are for those who ask for one.
const BAND_LEAST: u128 = 16;
const BAND_MOST: u128 = 256;
const BAND_PART: u128 = 16;

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    base: u128,
    length: u8,
    is_v4: bool,
}

impl Range {
    /// The network of this notation.
    pub fn parse(cidr: &str) -> Option<Self> {
        let (address, length) = names::parse_cidr_sloppy(cidr)?;
        let range = Self {
            base: number(address),
            length,
            is_v4: address.is_ipv4(),
        };
        Some(Self {
            base: range.base & !range.host_mask(),
            ..range
        })
    }

    /// Whether its addresses have four bytes.
    pub fn is_v4(&self) -> bool {
        self.is_v4
    }

    fn host_mask(&self) -> u128 {
        let bits = if self.is_v4 { 32 } else { 128 } - u32::from(self.length);
        1_u128.checked_shl(bits).map_or(u128::MAX, |size| size - 1)
    }

    fn address(&self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(small) if self.is_v4 => IpAddr::V4(small.into()),
            _ => IpAddr::V6(number.into()),
        }
    }

    /// The network's own address, which nobody gets.
    pub fn network(&self) -> IpAddr {
        self.address(self.base)
    }

    /// The first and the last address that somebody may get; the first is greater than the last where there is none.
    fn ends(&self) -> (u128, u128) {
        let last = self.base + self.host_mask();
        let last = if self.is_v4 {
            last.saturating_sub(1)
        } else {
            last
        };
        (self.base.saturating_add(1), last)
    }

    /// How many addresses somebody may get.
    pub fn size(&self) -> u128 {
        let (first, last) = self.ends();
        (last + 1).saturating_sub(first)
    }

    /// The first address that somebody may get.
    pub fn first(&self) -> Option<IpAddr> {
        let (first, last) = self.ends();
        (first <= last).then(|| self.address(first))
    }

    /// Whether an address belongs to it: neither the network's own nor that for all of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = self.ends();
        self.is_v4 == address.is_ipv4() && (first..=last).contains(&number(address))
    }

    /// Whether everything in `other` is in this one too.
    pub fn covers(&self, other: &Self) -> bool {
        self.is_v4 == other.is_v4
            && self.length <= other.length
            && other.base & !self.host_mask() == self.base
    }

    /// Every address that may be had, those for askers last; `place` (any number) says where to begin.
    pub fn walk(&self, place: u64) -> impl Iterator<Item = IpAddr> {
        let (first, last) = self.ends();
        let size = self.host_mask().saturating_add(1);
        let band = match size {
            0..=BAND_LEAST => 0,
            _ => (size / BAND_PART).clamp(BAND_LEAST, BAND_MOST),
        };
        let turn = move |from: u128, to: u128| {
            let count = (to + 1).saturating_sub(from);
            let skip = u128::from(place).checked_rem(count).unwrap_or(0);
            (0..count).map(move |i| from + (skip + i) % count)
        };
        let range = *self;
        turn(first + band, last)
            .chain(turn(first, (first + band).saturating_sub(1).min(last)))
            .map(move |number| range.address(number))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.length)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => v6.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn range(cidr: &str) -> Range {
        Range::parse(cidr).expect("a network")
    }

    #[test]
    fn every_address_comes_once_and_those_for_askers_last() {
        let walked: Vec<IpAddr> = range("10.0.0.0/24").walk(1000).collect();
        assert_eq!(walked.len(), 254);
        assert_eq!(walked.iter().collect::<BTreeSet<_>>().len(), 254);
        let early: Vec<u8> = walked[..238]
            .iter()
            .map(|ip| match ip {
                IpAddr::V4(v4) => v4.octets()[3],
                IpAddr::V6(_) => 0,
            })
            .collect();
        assert!(early.iter().all(|last| (17..=254).contains(last)));
        assert!(walked.iter().all(|ip| range("10.0.0.0/24").contains(*ip)));
    }

    #[test]
    fn small_networks_have_few_addresses() {
        let count = |cidr: &str| range(cidr).walk(3).count();
        assert_eq!(
            [
                "10.0.0.0/28",
                "10.0.0.0/30",
                "10.0.0.0/31",
                "10.0.0.0/32",
                "fd00::/126",
                "fd00::/128"
            ]
            .map(count),
            [14, 2, 0, 0, 3, 0]
        );
        assert_eq!(range("fd00::/64").walk(u64::MAX).take(3).count(), 3);
    }

    #[test]
    fn a_network_knows_what_is_in_it() {
        let net = range("10.0.0.7/24");
        assert_eq!(net.to_string(), "10.0.0.0/24");
        let inside = |ip: &str| net.contains(ip.parse().expect("an address"));
        assert!(inside("10.0.0.1") && inside("10.0.0.254"));
        assert!(!inside("10.0.0.0") && !inside("10.0.0.255") && !inside("10.0.1.1"));
        assert!(!inside("::a00:1"));
        assert!(net.covers(&range("10.0.0.0/25")) && net.covers(&net));
        assert!(!net.covers(&range("10.0.0.0/16")) && !net.covers(&range("::/128")));
    }
}
