//! What the slices of some Endpoints are.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use control::plan::reference;
use control::{Action, Event, EventType, Plan};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{MANAGER, MAX_ADDRESSES, Observed};
use crate::endpointslice::{MANAGED_BY, SERVICE_NAME, port_key};
use crate::ownership::controller_reference;
use crate::services::Family;

/// Annotations that stay with the Endpoints.
const NOT_COPIED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// Family and ports, and what a slice of them has.
type Wanted = BTreeMap<(Family, String), (Vec<EndpointPort>, Vec<Endpoint>)>;

/// Decides about the slices of one Endpoints object.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let Some(endpoints) = o.endpoints.as_deref() else {
        let gone = o.slices.iter().map(|s| Action::delete(s.as_ref(), None));
        return Plan {
            actions: gone.collect(),
            because: "there is nothing to mirror".to_owned(),
            ..Plan::default()
        };
    };
    let (mut wanted, invalid, skipped) = wanted(endpoints);
    let mut actions = Vec::new();
    for slice in &o.slices {
        let ports = port_key(slice.ports.as_deref().unwrap_or_default());
        let family = [Family::V4, Family::V6]
            .into_iter()
            .find(|f| f.as_str() == slice.address_type);
        match family.and_then(|family| wanted.remove(&(family, ports))) {
            Some((_, list)) => actions.extend(update(endpoints, slice, list)),
            None => actions.push(Action::delete(slice.as_ref(), None)),
        }
    }
    let used: HashSet<&str> = o
        .slices
        .iter()
        .filter_map(|s| s.metadata.name.as_deref())
        .collect();
    let base = format!(
        "{}-",
        endpoints.metadata.name.as_deref().unwrap_or_default()
    );
    let names = o.names.unused(&base, |name| used.contains(name));
    for (((family, _), (ports, list)), name) in wanted.into_iter().zip(names) {
        let slice = fresh(endpoints, family, ports, list, (&base, name));
        // New slices come before others go, so that no address is missing in between.
        actions.insert(0, Action::create(&slice, None));
    }
    if !actions.is_empty() {
        actions.extend(complain(endpoints, invalid, skipped));
    }
    Plan {
        because: if actions.is_empty() {
            "the slices mirror the endpoints".to_owned()
        } else {
            "the endpoints have changed".to_owned()
        },
        actions,
        ..Plan::default()
    }
}

/// The slices there should be, and how many addresses are not valid or too many.
fn wanted(endpoints: &Endpoints) -> (Wanted, usize, usize) {
    let mut wanted = Wanted::new();
    let (mut invalid, mut skipped) = (0, 0);
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let not_ready = subset.not_ready_addresses.iter().flatten();
        for (address, ready) in ready.chain(not_ready.map(|a| (a, false))) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                invalid += 1;
                continue;
            };
            let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
            let slot = wanted
                .entry((family, port_key(&ports)))
                .or_insert_with(|| (ports.clone(), Vec::new()));
            // Subsets with the same ports are one.
            if slot.1.len() >= MAX_ADDRESSES {
                skipped += 1;
                continue;
            }
            slot.1.push(endpoint(address, ip, ready));
        }
    }
    (wanted, invalid, skipped)
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let ports = subset.ports.iter().flatten().map(|p| EndpointPort {
        name: Some(p.name.clone().unwrap_or_default()),
        port: Some(p.port),
        protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: p.app_protocol.clone(),
    });
    ports.collect()
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn labels(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.0.to_owned(), MANAGER.to_owned());
    labels
}

fn annotations(endpoints: &Endpoints) -> Option<BTreeMap<String, String>> {
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
    (!annotations.is_empty()).then_some(annotations)
}

/// Replaces a slice that differs.
fn update(endpoints: &Endpoints, old: &Arc<EndpointSlice>, list: Vec<Endpoint>) -> Option<Action> {
    let mut slice = old.as_ref().clone();
    slice.endpoints = Some(list);
    slice.metadata.labels = Some(labels(endpoints));
    slice.metadata.annotations = annotations(endpoints);
    let owner = controller_reference(endpoints);
    slice.metadata.owner_references = Some(vec![owner]);
    (slice != **old).then(|| Action::update(&slice, None))
}

fn fresh(
    endpoints: &Endpoints,
    family: Family,
    ports: Vec<EndpointPort>,
    list: Vec<Endpoint>,
    (base, name): (&str, String),
) -> EndpointSlice {
    EndpointSlice {
        address_type: family.as_str().to_owned(),
        endpoints: Some(list),
        ports: Some(ports),
        metadata: ObjectMeta {
            name: Some(name),
            generate_name: Some(base.to_owned()),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels(endpoints)),
            annotations: annotations(endpoints),
            owner_references: Some(vec![controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
    }
}

fn complain(endpoints: &Endpoints, invalid: usize, skipped: usize) -> Vec<Action> {
    let warn = |reason: &str, message: String| {
        Action::Event(Event {
            about: reference(endpoints),
            event_type: EventType::Warning,
            reason: reason.to_owned(),
            message,
        })
    };
    let mut events = Vec::new();
    if invalid > 0 {
        let text =
            format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        events.push(warn("InvalidIPAddress", text));
    }
    if skipped > 0 {
        let count = skipped + invalid;
        let text = format!(
            "A max of {MAX_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints \
             subset. {count} addresses were skipped"
        );
        events.push(warn("TooManyAddressesToMirror", text));
    }
    events
}
