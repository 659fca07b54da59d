//! Endpoints: the addresses behind a Service, the old form. EndpointSlice is the new one.
//!
//! Upstream: `pkg/registry/core/endpoint`, `ValidateEndpoints*` in `pkg/apis/core/validation`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints as Typed,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{Items, OrEmpty, fill};
use crate::warn;

const SHOWN: usize = 3;

/// The kind `Endpoints`.
pub struct Endpoints;

impl Kind for Endpoints {
    type Object = Typed;
    const NAMES: Names = Names::new("", "v1", "Endpoints", "endpoints", "endpoints").short(&["ep"]);
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Endpoints",
            "The set of all endpoints is the union of all subsets. Addresses are placed into \
             subsets according to the IPs they share. A single address with multiple ports, some of \
             which are ready and some of which are not (because they come from different \
             containers) will result in the address being displayed in different subsets for the \
             different ports. No address will appear in both Addresses and NotReadyAddresses in the \
             same subset. Sets of addresses and ports that comprise a service.",
        ),
        columns::AGE,
    ];
    const CREATE_ON_UPDATE: bool = true;
    const DEPRECATION: Option<&'static str> =
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");

    fn default(object: &mut Typed) {
        for subset in object.subsets.iter_mut().flatten() {
            for port in subset.ports.iter_mut().flatten() {
                fill(&mut port.protocol, "TCP");
            }
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("subsets");
        for (i, subset) in new.subsets.items().iter().enumerate() {
            validate_subset(&mut errors, &path.index(i), subset);
        }
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
        let labels = new.metadata.labels.as_ref();
        let manager = labels.and_then(|labels| labels.get(MANAGED_BY));
        // The controller mends what it takes over from services.
        if manager.is_some_and(|manager| manager == "endpoint-controller") {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        for (i, subset) in new.subsets.items().iter().enumerate() {
            let path = Path::new("subsets").index(i);
            for (key, addresses) in [
                ("addresses", subset.addresses.items()),
                ("notReadyAddresses", subset.not_ready_addresses.items()),
            ] {
                for (j, address) in addresses.iter().enumerate() {
                    let at = path.child(key).index(j).child("ip");
                    warn::ip(&mut warnings, &at, &address.ip);
                }
            }
        }
        warnings
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        // What was stored once may stay as it is.
        if new.subsets == old.subsets {
            return ErrorList::new();
        }
        Self::validate_create(context, new)
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let endpoints = format(object.subsets.items());
        Row::from(vec![
            tree.name().into(),
            endpoints.into(),
            kind::age(tree, now).into(),
        ])
    }
}

fn validate_subset(errors: &mut ErrorList, path: &Path, subset: &EndpointSubset) {
    let (ready, not_ready) = (subset.addresses.items(), subset.not_ready_addresses.items());
    if ready.is_empty() && not_ready.is_empty() {
        errors.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for (key, list) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
        for (i, address) in list.iter().enumerate() {
            validate_address(errors, &path.child(key).index(i), address);
        }
    }
    let ports = subset.ports.items();
    for (i, port) in ports.iter().enumerate() {
        validate_port(errors, &path.child("ports").index(i), port, ports.len() > 1);
    }
}

fn validate_address(errors: &mut ErrorList, path: &Path, address: &EndpointAddress) {
    let at = path.child("ip");
    errors.invalid_each(&at, &address.ip, names::legacy_ip(&address.ip, true));
    let hostname = address.hostname.text();
    if !hostname.is_empty() {
        errors.invalid_each(
            &path.child("hostname"),
            hostname,
            names::dns1123_label(hostname),
        );
    }
    if let Some(node) = &address.node_name {
        errors.invalid_each(
            &path.child("nodeName"),
            node,
            names::dns1123_subdomain(node),
        );
    }
    check::non_special_ip(errors, &at, &address.ip);
}

fn validate_port(errors: &mut ErrorList, path: &Path, port: &EndpointPort, need_name: bool) {
    let name = port.name.text();
    if !name.is_empty() {
        errors.invalid_each(&path.child("name"), name, names::dns1123_label(name));
    } else if need_name {
        errors.required(&path.child("name"), "");
    }
    check::port(errors, &path.child("port"), port.port);
    let protocol = port.protocol.text();
    if errors.required_text(&path.child("protocol"), protocol, "") {
        errors.one_of(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    }
    if let Some(app) = &port.app_protocol {
        errors.invalid_each(&path.child("appProtocol"), app, names::qualified_name(app));
    }
}

/// `10.0.0.1:80,10.0.0.2:80 + 3 more...`, as `get` shows all subsets together.
fn format(subsets: &[EndpointSubset]) -> String {
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = subset.addresses.items();
        if subset.ports.items().is_empty() {
            all.extend(addresses.iter().map(|a| a.ip.clone()));
        }
        for port in subset.ports.items() {
            all.extend(addresses.iter().map(|a| host_port(&a.ip, port.port)));
        }
    }
    let shown = all[..all.len().min(SHOWN)].join(",");
    if all.len() > SHOWN {
        return format!("{shown} + {} more...", all.len() - SHOWN);
    }
    shown
}

fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
