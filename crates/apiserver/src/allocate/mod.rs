//! What services are given: cluster addresses and node ports.
//!
//! Contract: a write claims what it needs before it is validated; the claim is given back unless the write is stored.
//! Addresses are objects of the API, see [`addresses`]; the books of node ports are rebuilt from the services at start.
//! Which of them a service needs is decided in `api::core::service::allocation`.

mod addresses;
mod bitmap;
pub(crate) mod repair;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::core::service::allocation::{self, Family, Needs, NodePort};
use machinery::{ApiError, ErrorList, Object};
use parking_lot::Mutex;

use crate::call::Call;
use crate::resource::Resource;
use crate::write::Along;
use addresses::Promises;
pub(crate) use addresses::RANGES;
use bitmap::Bitmap;

/// What is given out.
pub(crate) struct Books {
    families: [Family; 1],
    ports: RangeInclusive<u16>,
    given: Mutex<Bitmap>,
    promises: Promises,
}

impl Books {
    /// Empty books of a cluster whose services have addresses of this family.
    pub(crate) fn new(family: Family, ports: RangeInclusive<u16>) -> Self {
        let count = usize::from(*ports.end()).saturating_sub(usize::from(*ports.start())) + 1;
        Self {
            families: [family],
            ports,
            given: Mutex::new(Bitmap::new(count, (count / 32).clamp(16, 128))),
            promises: Promises::default(),
        }
    }

    /// Books the ports that a stored service holds.
    pub(crate) fn book(&self, service: &Object) {
        let held = allocation::held(service);
        let mut given = self.given.lock();
        let ports = held.node_ports.iter();
        for place in ports.filter_map(|port| self.place_of_port(*port)) {
            given.take(place);
        }
    }

    /// Gives back the ports that a removed service held. Called while the removal is being made known, so that whoever
    /// knows of it finds the numbers free.
    pub(crate) fn give_back(&self, service: &Object) {
        self.release(&allocation::held(service).node_ports);
    }

    fn release(&self, ports: &[u16]) {
        let mut given = self.given.lock();
        for place in ports.iter().filter_map(|port| self.place_of_port(*port)) {
            given.release(place);
        }
    }

    fn place_of_port(&self, port: u16) -> Option<usize> {
        self.ports
            .contains(&port)
            .then(|| usize::from(port - self.ports.start()))
    }

    fn take_port(&self, needs: &Needs, need: &NodePort) -> Result<u16, Refused> {
        let Some(wanted) = need.requested else {
            let place = self.given.lock().take_any();
            let place = place.ok_or(Refused::NoPort)?;
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
        match self.given.lock().take(place) {
            true => Ok(wanted),
            false => Err(refused("provided port is already allocated")),
        }
    }
}

enum Refused {
    Invalid(ErrorList),
    NoAddress,
    NoPort,
    Failed(ApiError),
}

impl Refused {
    fn told(self, name: &str) -> ApiError {
        match self {
            Self::Invalid(errors) => ApiError::invalid("", "Service", name, &errors),
            Self::NoAddress => ApiError::internal(format!(
                "failed to allocate a serviceIP for Service {name:?}: range is full"
            )),
            Self::Failed(error) => error,
            Self::NoPort => ApiError::internal("failed to allocate a nodePort: range is full"),
        }
    }
}

/// What was taken for a write that is not stored yet; given back unless it is.
#[derive(Default)]
pub(crate) struct Claim {
    books: Option<Arc<Books>>,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
    released_addresses: Vec<String>,
    released_ports: Vec<u16>,
}

impl Claim {
    /// What goes with the write of the service.
    pub(crate) fn along(&self, call: &Call, service: &Object) -> Along {
        addresses::along(call, service, &self.addresses, &self.released_addresses)
    }

    /// The write is stored: what it took stays taken, what it let go is free.
    pub(crate) fn keep(mut self) {
        if let Some(books) = self.books.take() {
            books.release(&self.released_ports);
            books.promises.end(&self.addresses);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(books) = self.books.take() {
            books.release(&self.ports);
            books.promises.end(&self.addresses);
        }
    }
}

fn is_service(resource: &Resource) -> bool {
    resource.names().group.is_empty() && resource.names().plural == "services"
}

/// What goes with the removal of an object: the addresses of a service.
pub(crate) fn for_delete(call: &Call, resource: &Resource, object: &Object) -> Along {
    if !is_service(resource) {
        return Along::default();
    }
    let held = allocation::held(object).cluster_ips;
    addresses::along(call, object, &[], &held)
}

/// Takes what a new or changed service needs and writes it into the object; other kinds need nothing.
///
/// # Errors
/// 422 for what was asked for and cannot be had.
pub(crate) async fn for_write(
    call: &Call,
    resource: &Resource,
    object: &mut Object,
    old: Option<&Object>,
    dry_run: bool,
) -> Result<Claim, ApiError> {
    if !is_service(resource) || !matches!(call.info.subresource.as_str(), "" | "scale") {
        return Ok(Claim::default());
    }
    let books = call.server.books();
    let name = object.name().to_owned();
    let needs = allocation::plan(object, old, &books.families)
        .map_err(|errors| Refused::Invalid(errors).told(&name))?;
    let mut claim = Claim::default();
    claim.books = Some(books.clone());
    for need in &needs.cluster_ips {
        let taken = addresses::take(&call.server, &books.promises, &needs, need, dry_run).await;
        claim.addresses.push(taken.map_err(|r| r.told(&name))?);
    }
    let mut numbers: Vec<u16> = Vec::new();
    for (i, need) in needs.node_ports.iter().enumerate() {
        let sibling = needs.node_ports[..i]
            .iter()
            .position(|n| n.share == need.share);
        let number = match sibling {
            Some(sibling) => numbers[sibling],
            None => {
                let number = books.take_port(&needs, need).map_err(|r| r.told(&name))?;
                claim.ports.push(number);
                number
            }
        };
        numbers.push(number);
    }
    claim.released_addresses.clone_from(&needs.released_ips);
    claim.released_ports.clone_from(&needs.released_ports);
    // An address that was asked for stays as it was spelled.
    let spelled = needs.cluster_ips.iter().zip(&claim.addresses);
    let spelled: Vec<String> = spelled
        .map(|(need, taken)| need.requested.clone().unwrap_or_else(|| taken.to_string()))
        .collect();
    needs.fill(object, &spelled, &numbers);
    Ok(claim)
}
