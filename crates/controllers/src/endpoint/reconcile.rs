//! Which addresses and ports stand behind a Service, in one object.

use std::collections::BTreeMap;

use control::plan::reference;
use control::{Action, Plan, Report};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
    ServiceSpec,
};

use super::{MANAGED_BY, Observed};
use crate::{pods, services};

const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Most addresses in one object.
const CAPACITY: usize = 1000;

/// Decides about the Endpoints of one Service.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let Some(service) = &o.service else {
        let gone = o.endpoints.iter().map(|e| Action::delete(e.as_ref(), None));
        return Plan {
            actions: gone.collect(),
            because: "the service is gone".to_owned(),
            ..Plan::default()
        };
    };
    let Some(spec) = service
        .spec
        .as_ref()
        .filter(|_| services::selector(service).is_some())
    else {
        return Plan::idle("the service has no selector");
    };
    let old = o.endpoints.as_deref();
    let mut subsets = subsets(service, spec, &o.pods);
    let truncated = truncate(&mut subsets);
    let labels = labels(service, spec);
    let mut new = old.cloned().unwrap_or_default();
    let annotations = new.metadata.annotations.get_or_insert_default();
    let unchanged = old.is_some_and(|old| {
        old.metadata.labels.as_ref() == Some(&labels)
            && same_subsets(old.subsets.as_deref().unwrap_or_default(), &subsets)
            && annotations.contains_key(OVER_CAPACITY) == truncated
    });
    if unchanged {
        return Plan::idle("the addresses are as they should be");
    }
    match trigger_time(o, old, annotations.get(TRIGGER_TIME)) {
        Some(time) => annotations.insert(TRIGGER_TIME.to_owned(), time.to_string()),
        None => annotations.remove(TRIGGER_TIME),
    };
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    let count: usize = subsets.iter().map(|s| count(&s.addresses)).sum();
    new.metadata.name.clone_from(&service.metadata.name);
    new.metadata
        .namespace
        .clone_from(&service.metadata.namespace);
    new.metadata.labels = Some(labels);
    new.subsets = (!subsets.is_empty()).then_some(subsets);
    Plan {
        actions: vec![write(service, old.is_none(), &new)],
        because: format!("{count} addresses are ready"),
        ..Plan::default()
    }
}

fn write(service: &Service, create: bool, new: &Endpoints) -> Action {
    let key = control::Key::of(service);
    let (reason, prefix) = if create {
        (
            "FailedToCreateEndpoint",
            format!("Failed to create endpoint for service {key}: "),
        )
    } else {
        (
            "FailedToUpdateEndpoint",
            format!("Failed to update endpoint {key}: "),
        )
    };
    let report = Some(Report {
        about: reference(new),
        success: None,
        failure: Some((reason, prefix)),
    });
    if create {
        Action::create(new, report)
    } else {
        Action::update(new, report)
    }
}

/// The service's labels and our own.
fn labels(service: &Service, spec: &ServiceSpec) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if services::is_headless(spec) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

/// Addresses that share all their ports stand together.
fn subsets(
    service: &Service,
    spec: &ServiceSpec,
    pods: &[std::sync::Arc<Pod>],
) -> Vec<EndpointSubset> {
    let all = services::publishes_not_ready(spec);
    let Some(family) = services::families(spec).first().copied() else {
        return Vec::new();
    };
    let mut groups: Vec<EndpointSubset> = Vec::new();
    for pod in pods.iter().filter(|p| services::takes(p, all)) {
        let Some(ip) = services::addresses(pod, family).into_iter().next() else {
            continue;
        };
        let ports = ports(spec, pod);
        if ports.is_empty() && !is_portless(spec) {
            continue;
        }
        let found = groups
            .iter()
            .position(|g| g.ports.as_deref().unwrap_or_default() == ports);
        let at = found.unwrap_or_else(|| {
            groups.push(EndpointSubset {
                ports: (!ports.is_empty()).then_some(ports),
                ..EndpointSubset::default()
            });
            groups.len() - 1
        });
        let group = &mut groups[at];
        let list = if all || pods::is_ready(pod) {
            &mut group.addresses
        } else {
            &mut group.not_ready_addresses
        };
        list.get_or_insert_default().push(address(pod, service, ip));
    }
    for group in &mut groups {
        for list in [&mut group.addresses, &mut group.not_ready_addresses] {
            list.iter_mut().for_each(|l| l.sort_by_key(sort_key));
        }
    }
    groups
}

/// Headless services may go without ports.
fn is_portless(spec: &ServiceSpec) -> bool {
    spec.ports.as_ref().is_none_or(Vec::is_empty) && services::is_declared_headless(spec)
}

fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(EndpointPort {
            name: port.name.clone().filter(|name| !name.is_empty()),
            port: services::target_port(pod, port)?,
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    let mut ports: Vec<EndpointPort> = ports.collect();
    ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    ports.dedup();
    ports
}

fn address(pod: &Pod, service: &Service, ip: String) -> EndpointAddress {
    let meta = &pod.metadata;
    EndpointAddress {
        ip,
        hostname: services::hostname(pod, service),
        node_name: Some(pods::node_name(pod).to_owned()).filter(|n| !n.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        }),
    }
}

fn sort_key(address: &EndpointAddress) -> (String, Option<String>) {
    let uid = address.target_ref.as_ref().and_then(|r| r.uid.clone());
    (address.ip.clone(), uid)
}

/// Whether both say the same, in whatever order.
fn same_subsets(old: &[EndpointSubset], new: &[EndpointSubset]) -> bool {
    let normal = |subsets: &[EndpointSubset]| {
        let mut subsets = subsets.to_vec();
        for subset in &mut subsets {
            subset.ports.iter_mut().for_each(|ports| {
                ports.sort_by(|a, b| (&a.name, a.port).cmp(&(&b.name, b.port)));
            });
            for list in [&mut subset.addresses, &mut subset.not_ready_addresses] {
                for address in list.iter_mut().flatten() {
                    if let Some(target) = &mut address.target_ref {
                        target.resource_version = None;
                    }
                }
                list.iter_mut().for_each(|l| l.sort_by_key(sort_key));
            }
        }
        subsets.sort_by_key(|s| format!("{:?}", s.ports));
        subsets
    };
    normal(old) == normal(new)
}

fn count(list: &Option<Vec<EndpointAddress>>) -> usize {
    list.as_ref().map_or(0, Vec::len)
}

/// Cuts down to the capacity, in proportion, those that are not ready first. Says whether it had to.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let ready: usize = subsets.iter().map(|s| count(&s.addresses)).sum();
    let not_ready: usize = subsets.iter().map(|s| count(&s.not_ready_addresses)).sum();
    if ready + not_ready <= CAPACITY {
        return false;
    }
    let cut_ready = ready > CAPACITY;
    let (room, total) = if cut_ready {
        (CAPACITY, ready)
    } else {
        (CAPACITY - ready, not_ready)
    };
    let mut left = room;
    for subset in subsets {
        if cut_ready {
            subset.not_ready_addresses = None;
        }
        let list = if cut_ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        if let Some(list) = list {
            let share = (list.len() * room).div_ceil(total).min(left);
            list.truncate(share);
            left -= list.len();
        }
    }
    true
}

/// When what led to this change happened: the creation of the service, or the latest known turn of a pod.
fn trigger_time(o: &Observed, old: Option<&Endpoints>, last: Option<&String>) -> Option<Timestamp> {
    let turned = o
        .pods
        .iter()
        .filter_map(|p| pods::condition(p, "Ready"))
        .filter_map(|c| c.last_transition_time.as_ref())
        .map(|t| t.0);
    if old.is_none() {
        let service = o.service.as_ref()?;
        let created = service.metadata.creation_timestamp.as_ref().map(|t| t.0);
        return turned.chain(created).min();
    }
    let last: Option<Timestamp> = last.and_then(|text| text.parse().ok());
    turned.filter(|t| last.is_none_or(|last| *t > last)).min()
}
