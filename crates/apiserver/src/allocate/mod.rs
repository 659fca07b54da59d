//! The books of cluster IPs and node ports: what services hold, and what is free.
//!
//! Contract: a write claims what it needs before it is validated; the claim is given back unless the write is stored.
//! The books are rebuilt from the services at start. Which numbers a service needs is decided in
//! `api::core::service::allocation`.

mod bitmap;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::core::service::allocation::{self, ClusterIp, Family, Needs, NodePort};
use ipnet::IpNet;
use machinery::{ApiError, ErrorList, Object};
use parking_lot::Mutex;

use crate::call::Call;
use crate::resource::Resource;
use bitmap::Bitmap;

/// More addresses than this are not kept books of.
const MAX_ADDRESSES: usize = 1 << 16;

/// What is given out.
pub(crate) struct Books {
    cidr: IpNet,
    ports: RangeInclusive<u16>,
    given: Mutex<Given>,
}

struct Given {
    addresses: Bitmap,
    ports: Bitmap,
}

impl Books {
    /// Empty books.
    pub(crate) fn new(cidr: IpNet, ports: RangeInclusive<u16>) -> Self {
        let host_bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
        let all = 1_usize
            .checked_shl(host_bits.min(16))
            .unwrap_or(MAX_ADDRESSES)
            .min(MAX_ADDRESSES);
        let mut addresses = Bitmap::new(all, (all / 16).clamp(16, 256));
        // The network's own address, and the broadcast address.
        addresses.take(0);
        if cidr.addr().is_ipv4() {
            addresses.take(all - 1);
        }
        let count = usize::from(*ports.end()).saturating_sub(usize::from(*ports.start())) + 1;
        let ports_free = Bitmap::new(count, (count / 32).clamp(16, 128));
        Self {
            cidr,
            ports,
            given: Mutex::new(Given {
                addresses,
                ports: ports_free,
            }),
        }
    }

    /// The IP families of the cluster.
    fn families(&self) -> [Family; 1] {
        [if self.cidr.addr().is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }]
    }

    /// The address at a place in the range.
    pub(crate) fn address(&self, place: usize) -> IpAddr {
        match self.cidr.network() {
            IpAddr::V4(base) => {
                let place = u32::try_from(place).unwrap_or(0);
                IpAddr::V4((u32::from(base) + place).into())
            }
            IpAddr::V6(base) => IpAddr::V6((u128::from(base) + place as u128).into()),
        }
    }

    fn place_of(&self, address: &str) -> Option<usize> {
        let address: IpAddr = address.parse().ok()?;
        if !self.cidr.contains(&address) {
            return None;
        }
        let offset = match (self.cidr.network(), address) {
            (IpAddr::V4(base), IpAddr::V4(own)) => u128::from(u32::from(own) - u32::from(base)),
            (IpAddr::V6(base), IpAddr::V6(own)) => u128::from(own) - u128::from(base),
            _ => return None,
        };
        usize::try_from(offset).ok()
    }

    /// Books what a stored service holds.
    pub(crate) fn book(&self, service: &Object) {
        let held = allocation::held(service);
        let mut given = self.given.lock();
        for place in held.cluster_ips.iter().filter_map(|ip| self.place_of(ip)) {
            given.addresses.take(place);
        }
        for place in held
            .node_ports
            .iter()
            .filter_map(|port| self.place_of_port(*port))
        {
            given.ports.take(place);
        }
    }

    /// Gives back what a removed service held. Called while the removal is being made known, so that whoever knows of it
    /// finds the numbers free.
    pub(crate) fn give_back(&self, service: &Object) {
        let held = allocation::held(service);
        self.release(&held.cluster_ips, &held.node_ports);
    }

    fn release(&self, addresses: &[String], ports: &[u16]) {
        let mut given = self.given.lock();
        for place in addresses.iter().filter_map(|ip| self.place_of(ip)) {
            given.addresses.release(place);
        }
        for place in ports.iter().filter_map(|port| self.place_of_port(*port)) {
            given.ports.release(place);
        }
    }

    fn place_of_port(&self, port: u16) -> Option<usize> {
        self.ports
            .contains(&port)
            .then(|| usize::from(port - self.ports.start()))
    }

    fn take_address(&self, needs: &Needs, need: &ClusterIp) -> Result<String, Refused> {
        let Some(wanted) = &need.requested else {
            let place = self.given.lock().addresses.take_any();
            let place = place.ok_or(Refused::Full(
                "failed to allocate a serviceIP: range is full",
            ))?;
            return Ok(self.address(place).to_string());
        };
        let refused = |why: &str| Refused::Invalid(needs.ip_refused(need, why));
        let outside = || {
            let range = self.cidr.trunc();
            refused(&format!(
                "the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {range}"
            ))
        };
        let place = self.place_of(wanted).ok_or_else(outside)?;
        match self.given.lock().addresses.take(place) {
            true => Ok(wanted.clone()),
            false => Err(refused("provided IP is already allocated")),
        }
    }

    fn take_port(&self, needs: &Needs, need: &NodePort) -> Result<u16, Refused> {
        let Some(wanted) = need.requested else {
            let place = self.given.lock().ports.take_any();
            let place = place.ok_or(Refused::Full(
                "failed to allocate a nodePort: range is full",
            ))?;
            return Ok(self.ports.start() + u16::try_from(place).unwrap_or(0));
        };
        let refused = |why: &str| Refused::Invalid(needs.port_refused(need, why));
        let outside = || {
            let (low, high) = (self.ports.start(), self.ports.end());
            refused(&format!(
                "provided port is not in the valid range. The range of valid ports is {low}-{high}"
            ))
        };
        let place = self.place_of_port(wanted).ok_or_else(outside)?;
        match self.given.lock().ports.take(place) {
            true => Ok(wanted),
            false => Err(refused("provided port is already allocated")),
        }
    }
}

enum Refused {
    Invalid(ErrorList),
    Full(&'static str),
}

/// What was taken for a write that is not stored yet; given back unless it is.
#[derive(Default)]
pub(crate) struct Claim {
    books: Option<Arc<Books>>,
    addresses: Vec<String>,
    ports: Vec<u16>,
    released_addresses: Vec<String>,
    released_ports: Vec<u16>,
}

impl Claim {
    /// The write is stored: what it took stays taken, what it let go is free.
    pub(crate) fn keep(mut self) {
        if let Some(books) = self.books.take() {
            books.release(&self.released_addresses, &self.released_ports);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(books) = self.books.take() {
            books.release(&self.addresses, &self.ports);
        }
    }
}

fn is_service(resource: &Resource) -> bool {
    resource.names().group.is_empty() && resource.names().plural == "services"
}

/// Takes what a new or changed service needs and writes it into the object; other kinds need nothing.
///
/// # Errors
/// 422 for what was asked for and cannot be had.
pub(crate) fn for_write(
    call: &Call,
    resource: &Resource,
    object: &mut Object,
    old: Option<&Object>,
) -> Result<Claim, ApiError> {
    if !is_service(resource) || !matches!(call.info.subresource.as_str(), "" | "scale") {
        return Ok(Claim::default());
    }
    let books = call.server.books();
    let invalid = |errors: &ErrorList| ApiError::invalid("", "Service", object.name(), errors);
    let needs = allocation::plan(object, old, &books.families()).map_err(|e| invalid(&e))?;
    let mut claim = Claim::default();
    claim.books = Some(books.clone());
    let refused = |refused| match refused {
        Refused::Invalid(errors) => invalid(&errors),
        Refused::Full(why) => ApiError::internal(why),
    };
    for need in &needs.cluster_ips {
        claim
            .addresses
            .push(books.take_address(&needs, need).map_err(refused)?);
    }
    let mut numbers: Vec<u16> = Vec::new();
    for (i, need) in needs.node_ports.iter().enumerate() {
        let sibling = needs.node_ports[..i]
            .iter()
            .position(|n| n.share == need.share);
        let number = match sibling {
            Some(sibling) => numbers[sibling],
            None => {
                let number = books.take_port(&needs, need).map_err(refused)?;
                claim.ports.push(number);
                number
            }
        };
        numbers.push(number);
    }
    claim.released_addresses.clone_from(&needs.released_ips);
    claim.released_ports.clone_from(&needs.released_ports);
    needs.fill(object, &claim.addresses, &numbers);
    Ok(claim)
}
