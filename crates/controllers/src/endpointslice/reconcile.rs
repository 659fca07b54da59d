//! The slices of one Service.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use control::plan::reference;
use control::{Action, Key, Plan, Report};
use k8s_openapi::api::core::v1::ServiceSpec;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoint::{Group, groups, port_key};
use super::pack::{Packed, pack};
use super::{MANAGED_BY, Observed, SERVICE_NAME};
use crate::ownership::{controller_of, controller_reference};
use crate::services::{self, Family};

const HEADLESS: &str = "service.kubernetes.io/headless";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Decides about all slices of one Service.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let Some(spec) = o
        .service
        .spec
        .as_ref()
        .filter(|_| services::selector(&o.service).is_some())
    else {
        return Plan::idle("the service has no selector");
    };
    if o.service.metadata.deletion_timestamp.is_some() {
        return Plan::idle("the service is being deleted");
    }
    let families = services::families(spec);
    let mut actions = Vec::new();
    let mut names = Vec::new();
    for family in &families {
        by_family(o, spec, *family, &mut actions, &mut names);
    }
    let supported = |s: &EndpointSlice| families.iter().any(|f| f.as_str() == s.address_type);
    let foreign = o.slices.iter().filter(|s| !supported(s));
    actions.extend(foreign.map(|s| Action::delete(s.as_ref(), None)));
    let count = o.pods.len();
    Plan {
        because: if actions.is_empty() {
            format!("the slices show the {count} selected pods")
        } else {
            format!("{count} pods are selected")
        },
        actions,
        ..Plan::default()
    }
}

/// The slices of one family: deletions come last, so that no end point is missing in between.
fn by_family(
    o: &Observed,
    spec: &ServiceSpec,
    family: Family,
    actions: &mut Vec<Action>,
    taken: &mut Vec<String>,
) {
    let mut packed = pack_all(o, spec, family);
    let mut empty: Vec<Arc<EndpointSlice>> = Vec::new();
    packed.retain(|p| {
        let keep = !p.endpoints.is_empty();
        empty.extend(p.old.iter().filter(|_| !keep).cloned());
        keep
    });
    if packed.is_empty() {
        packed.push(placeholder(&mut empty));
    }
    for mut slice in packed {
        if slice.old.is_none() {
            // A slice that would go can as well carry the new end points.
            slice.old = empty.pop();
            slice.changed = true;
        }
        actions.extend(write(o, spec, family, &slice, taken));
    }
    actions.extend(empty.iter().map(|s| Action::delete(s.as_ref(), None)));
}

fn pack_all(o: &Observed, spec: &ServiceSpec, family: Family) -> Vec<Packed> {
    let mut by_ports: BTreeMap<String, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in &o.slices {
        if slice.address_type == family.as_str() {
            let key = port_key(slice.ports.as_deref().unwrap_or_default());
            by_ports.entry(key).or_default().push(Arc::clone(slice));
        }
    }
    let mut packed = Vec::new();
    for group in groups(o, spec, family) {
        let slices = by_ports.remove(&port_key(&group.ports));
        packed.extend(pack(group, slices.unwrap_or_default()));
    }
    for slices in by_ports.into_values() {
        let ports = slices[0].ports.clone().unwrap_or_default();
        let nothing = Group {
            ports,
            endpoints: Vec::new(),
        };
        packed.extend(pack(nothing, slices));
    }
    packed
}

/// The one slice of a service without end points: it has no ports either.
fn placeholder(empty: &mut Vec<Arc<EndpointSlice>>) -> Packed {
    let bare = |s: &Arc<EndpointSlice>| {
        s.endpoints.as_ref().is_none_or(Vec::is_empty) && s.ports.as_ref().is_none_or(Vec::is_empty)
    };
    let old = empty.iter().position(bare).map(|at| empty.remove(at));
    Packed {
        changed: old.is_none(),
        old,
        ports: Vec::new(),
        endpoints: Vec::new(),
        triggered: None,
    }
}

/// Creates or updates one slice, if it differs.
fn write(
    o: &Observed,
    spec: &ServiceSpec,
    family: Family,
    packed: &Packed,
    taken: &mut Vec<String>,
) -> Option<Action> {
    let labels = labels(o, spec);
    let mut slice = match &packed.old {
        Some(old) => {
            let owned = controller_of(&old.metadata).map(|c| &c.uid);
            let relabel = old.metadata.labels.as_ref() != Some(&labels);
            let reown = owned != o.service.metadata.uid.as_ref();
            if !packed.changed && !relabel && !reown {
                return None;
            }
            let mut slice = old.as_ref().clone();
            if reown {
                slice.metadata.owner_references =
                    Some(vec![controller_reference(o.service.as_ref())]);
            }
            slice
        }
        None => fresh(o, family, taken),
    };
    slice.metadata.labels = Some(labels);
    slice.ports = Some(packed.ports.clone());
    slice.endpoints = Some(packed.endpoints.clone());
    set_trigger_time(o, packed, &mut slice);
    let key = Key::of(o.service.as_ref());
    let report = Some(Report {
        about: reference(o.service.as_ref()),
        success: None,
        failure: Some((
            "FailedToUpdateEndpointSlices",
            format!("Error updating Endpoint Slices for Service {key}: "),
        )),
    });
    Some(if packed.old.is_some() {
        Action::update(&slice, report)
    } else {
        Action::create(&slice, report)
    })
}

/// A slice under a name that no other one of this service has.
fn fresh(o: &Observed, family: Family, taken: &mut Vec<String>) -> EndpointSlice {
    let service = o.service.as_ref();
    let base = format!("{}-", service.metadata.name.as_deref().unwrap_or_default());
    let used: HashSet<&str> = o
        .slices
        .iter()
        .filter_map(|s| s.metadata.name.as_deref())
        .chain(taken.iter().map(String::as_str))
        .collect();
    let name = o.names.unused(&base, |name| used.contains(name)).next();
    taken.extend(name.clone());
    EndpointSlice {
        address_type: family.as_str().to_owned(),
        endpoints: None,
        ports: None,
        metadata: ObjectMeta {
            name,
            generate_name: Some(base),
            namespace: service.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
    }
}

/// The service's labels and our own.
fn labels(o: &Observed, spec: &ServiceSpec) -> BTreeMap<String, String> {
    let service = &o.service.metadata;
    let mut labels = service.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if services::is_headless(spec) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let name = service.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    labels
}

/// When what led to the newest content happened; the creation of the service for its first slice.
fn set_trigger_time(o: &Observed, packed: &Packed, slice: &mut EndpointSlice) {
    let first = o.slices.is_empty();
    let created = o.service.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let times = packed.triggered.into_iter();
    let time = times.chain(created.filter(|_| first)).min();
    let annotations = slice.metadata.annotations.get_or_insert_default();
    match time {
        Some(time) => annotations.insert(TRIGGER_TIME.to_owned(), time.to_string()),
        None => annotations.remove(TRIGGER_TIME),
    };
    if annotations.is_empty() {
        slice.metadata.annotations = None;
    }
}
