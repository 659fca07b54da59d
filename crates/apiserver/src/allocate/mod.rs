//! What services are given: cluster addresses and node ports.
//!
//! Contract: a write claims what it needs before it is validated; the claim ends with the write, stored or not.
//! Addresses are objects of the API, see [`addresses`]; node ports have keys in the store, see [`ports`]. Both are taken for
//! good by the transaction that writes the service, so that several servers on one store give nothing out twice.
//! Which of them a service needs is decided in `api::core::service::allocation`.

mod addresses;
mod ports;
pub(crate) mod repair;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::core::service::allocation::{self, Family, Needs, NodePort};
use machinery::{ApiError, ErrorList, Object};

use crate::call::Call;
use crate::resource::Resource;
use crate::server::Server;
use crate::write::Along;
use addresses::Promises;
pub(crate) use addresses::{RANGES, usage};
use ports::Ports;

/// What is given out.
pub(crate) struct Books {
    families: [Family; 1],
    ports: Ports,
    promises: Promises,
}

impl Books {
    /// Empty books of a cluster whose services have addresses of this family.
    pub(crate) fn new(family: Family, ports: RangeInclusive<u16>) -> Self {
        Self {
            families: [family],
            ports: Ports::new(ports),
            promises: Promises::default(),
        }
    }

    /// How many node ports are given out, and how many are free.
    pub(crate) fn ports(&self) -> (usize, usize) {
        let all = self.ports.range().len();
        let held = self.ports.held();
        (held, all.saturating_sub(held))
    }

    async fn take_port(
        &self,
        server: &Server,
        needs: &Needs,
        need: &NodePort,
    ) -> Result<u16, Refused> {
        let Some(wanted) = need.requested else {
            return self.ports.take_any().ok_or(Refused::NoPort);
        };
        let refused = |why: &str| Refused::Invalid(needs.port_refused(need, why));
        let range = self.ports.range();
        if !range.contains(&wanted) {
            let (low, high) = (range.start(), range.end());
            return Err(refused(&format!(
                "provided port is not in the valid range. The range of valid ports is {low}-{high}"
            )));
        }
        if self.ports.is_held(wanted)
            && let Some(services) = server.resources().storage("", "services")
        {
            // Who knows that another server's client has given it back, may be faster than this cache.
            services.cache.wait_fresh().await.map_err(Refused::Failed)?;
        }
        match self.ports.take(wanted) {
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

/// What was taken for a write that is not stored yet. Once it is over, what it wrote is known from what is stored.
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
        let mut along = addresses::along(call, service, &self.addresses, &self.released_addresses);
        let services = call.server.resources().storage("", "services");
        if let (Some(books), Some(services)) = (&self.books, services) {
            let (taken, released) = (&self.ports, &self.released_ports);
            (books.ports).along(&mut along, services, service, taken, released);
        }
        along
    }

    /// Something that was taken belongs to somebody that this server does not know, or to nobody.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn look_again(&self, call: &Call) -> Result<(), ApiError> {
        if let Some(books) = &self.books {
            for port in &self.ports {
                ports::put_right(&call.server, &books.ports, *port).await?;
            }
        }
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(books) = self.books.take() {
            books.ports.end(&self.ports);
            books.promises.end(&self.addresses);
        }
    }
}

/// Counts an address that was given or refused, by its network.
fn count(call: &Call, wanted: Option<&str>, given: Option<&IpAddr>, took: Duration, dry_run: bool) {
    if dry_run {
        return;
    }
    let address = given.copied().or_else(|| wanted?.parse().ok());
    if let Some(network) = addresses::network_of(&call.server, address) {
        let measures = &call.server.metrics().measures;
        let (asked_for, given) = (wanted.is_some(), given.is_some());
        measures.gave_address(&network, asked_for, given, took);
    }
}

/// Whether writes of a resource are given addresses and ports, which somebody else may have taken meanwhile.
pub(crate) fn concerns(resource: &Resource) -> bool {
    resource.names().group.is_empty() && resource.names().plural == "services"
}

/// What goes with the removal of an object: the addresses of a service.
pub(crate) fn for_delete(call: &Call, resource: &Resource, object: &Object) -> Along {
    if !concerns(resource) {
        return Along::default();
    }
    let held = allocation::held(object);
    let mut along = addresses::along(call, object, &[], &held.cluster_ips);
    if let Some(services) = call.server.resources().storage("", "services") {
        let ports = &call.server.books().ports;
        ports.along(&mut along, services, object, &[], &held.node_ports);
    }
    along
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
    if !concerns(resource) || !matches!(call.info.subresource.as_str(), "" | "scale") {
        return Ok(Claim::default());
    }
    let books = call.server.books();
    let name = object.name().to_owned();
    let needs = allocation::plan(object, old, &books.families)
        .map_err(|errors| Refused::Invalid(errors).told(&name))?;
    let mut claim = Claim::default();
    claim.books = Some(books.clone());
    for need in &needs.cluster_ips {
        let began = Instant::now();
        let taken = addresses::take(&call.server, &books.promises, &needs, need, dry_run).await;
        let wanted = need.requested.as_deref();
        count(call, wanted, taken.as_ref().ok(), began.elapsed(), dry_run);
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
                let taken = books.take_port(&call.server, &needs, need).await;
                let measures = &call.server.metrics().measures;
                measures.gave_port(need.requested.is_some(), taken.is_ok());
                let number = taken.map_err(|r| r.told(&name))?;
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
