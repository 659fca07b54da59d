//! EndpointSlice: some of the addresses behind a Service, small enough to be sent around often.
//!
//! Upstream: `pkg/registry/discovery/endpointslice`, `pkg/apis/discovery/validation`, `printEndpointSlice`.

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointHints, EndpointPort, EndpointSlice as Typed,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};
use serde_json::Value;

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{Items, OrEmpty, fill_with};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;
const SHOWN: usize = 3;

/// The kind `EndpointSlice`.
pub struct EndpointSlice;

impl Kind for EndpointSlice {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
        "endpointslice",
    );
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "AddressType",
            "The type of address carried by this EndpointSlice.",
        ),
        columns::text("Ports", "The ports exposed by each endpoint in this slice."),
        columns::text("Endpoints", "The list of unique endpoints in this slice."),
        columns::AGE,
    ];
    const HAS_GENERATION: bool = true;

    fn default(object: &mut Typed) {
        for port in object.ports.iter_mut().flatten() {
            fill_with(&mut port.name, String::new());
            fill_with(&mut port.protocol, "TCP".to_owned());
        }
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        drop_topology(new);
    }

    fn prepare_update(_context: &Context, _part: Part, new: &mut Object, old: &Object) {
        if new.0.get("endpoints") != old.0.get("endpoints") {
            drop_topology(new);
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = address_type_and_ports(new);
        endpoints(&mut errors, new);
        errors
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = address_type_and_ports(new);
        // What was stored once may stay as it is.
        if !check::same(&new.endpoints, &old.endpoints) {
            endpoints(&mut errors, new);
        }
        errors.fixed(
            &Path::new("addressType"),
            &new.address_type,
            &old.address_type,
        );
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let deprecated = new.address_type == "FQDN";
        deprecated
            .then(|| "spec.addressType: FQDN endpoints are deprecated".to_owned())
            .into_iter()
            .collect()
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let port = |p: &EndpointPort| match (p.port, &p.name) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => "*".to_owned(),
        };
        let ports: Vec<String> = object.ports.items().iter().map(port).collect();
        let addresses = object
            .endpoints
            .items()
            .iter()
            .flat_map(|e| e.addresses.clone());
        Row::from(vec![
            tree.name().into(),
            object.address_type.as_str().into(),
            shortened(&ports).into(),
            shortened(&addresses.collect::<Vec<_>>()).into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// `a,b,c + 2 more...`
fn shortened(list: &[String]) -> String {
    let shown = list[..list.len().min(SHOWN)].join(",");
    match list.len() {
        count if count > SHOWN => format!("{shown} + {} more...", count - SHOWN),
        _ if shown.is_empty() => "<unset>".to_owned(),
        _ => shown,
    }
}

/// A field of an earlier version that this one does not write.
fn drop_topology(slice: &mut Object) {
    let endpoints = slice.0.get_mut("endpoints").and_then(Value::as_array_mut);
    for endpoint in endpoints
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        endpoint.remove("deprecatedTopology");
    }
}

fn address_type_and_ports(slice: &Typed) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("addressType");
    if errors.required_text(&path, &slice.address_type, "") {
        errors.one_of(&path, &slice.address_type, &["FQDN", "IPv4", "IPv6"]);
    }
    let path = Path::new("ports");
    let ports = slice.ports.items();
    if ports.len() > PORTS_MAX {
        errors.too_many(&path, ports.len(), PORTS_MAX);
        return errors;
    }
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = port.name.text();
        if !name.is_empty() {
            errors.invalid_each(&path.child("name"), name, names::dns1123_label(name));
        }
        if ports[..i].iter().any(|p| p.name.text() == name) {
            errors.duplicate(&path.child("name"), name);
        }
        match &port.protocol {
            None => errors.required(&path.child("protocol"), ""),
            Some(p) => errors.one_of(&path.child("protocol"), p, &["SCTP", "TCP", "UDP"]),
        }
        if let Some(app) = &port.app_protocol {
            errors.invalid_each(&path.child("appProtocol"), app, names::qualified_name(app));
        }
    }
    errors
}

fn endpoints(errors: &mut ErrorList, slice: &Typed) {
    let path = Path::new("endpoints");
    let endpoints = slice.endpoints.items();
    if endpoints.len() > ENDPOINTS_MAX {
        return errors.too_many(&path, endpoints.len(), ENDPOINTS_MAX);
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        one_endpoint(errors, &path.index(i), endpoint, &slice.address_type);
    }
}

fn one_endpoint(errors: &mut ErrorList, path: &Path, endpoint: &Endpoint, address_type: &str) {
    let at = path.child("addresses");
    let addresses = &endpoint.addresses;
    if addresses.is_empty() {
        errors.required(&at, "");
    } else if addresses.len() > ADDRESSES_MAX {
        errors.too_many(&at, addresses.len(), ADDRESSES_MAX);
    }
    for (i, address) in addresses.iter().enumerate() {
        one_address(errors, &at, i, address, address_type);
    }
    if let Some(node) = &endpoint.node_name {
        errors.invalid_each(
            &path.child("nodeName"),
            node,
            names::dns1123_subdomain(node),
        );
    }
    if let Some(hostname) = &endpoint.hostname {
        errors.invalid_each(
            &path.child("hostname"),
            hostname,
            names::dns1123_label(hostname),
        );
    }
    if let Some(hints) = &endpoint.hints {
        self::hints(errors, &path.child("hints"), hints);
    }
}

fn one_address(errors: &mut ErrorList, path: &Path, i: usize, address: &str, address_type: &str) {
    let at = path.index(i);
    let six = address.contains(':');
    let messages = match address_type {
        "IPv4" => names::legacy_ip(address, true),
        "IPv6" => names::ip(address),
        "FQDN" => return domain_name(errors, &at, address),
        _ => return,
    };
    if !messages.is_empty() {
        return errors.invalid_each(&at, address, messages);
    }
    if six != (address_type == "IPv6") {
        errors.invalid(path, address, format!("must be an {address_type} address"));
    }
    check::non_special_ip(errors, &at, address);
}

fn domain_name(errors: &mut ErrorList, path: &Path, name: &str) {
    if !errors.required_text(path, name, "") {
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let messages = names::dns1123_subdomain(name);
    if !messages.is_empty() {
        return errors.invalid(path, name, messages.join(","));
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return errors.invalid(path, name, detail);
    }
    let wrong = name
        .split('.')
        .find(|label| !names::dns1123_label(label).is_empty());
    if let Some(label) = wrong {
        errors.invalid(path, label, names::dns1123_label(label).join(","));
    }
}

fn hints(errors: &mut ErrorList, path: &Path, hints: &EndpointHints) {
    let zones: Vec<&str> = hints
        .for_zones
        .items()
        .iter()
        .map(|z| z.name.as_str())
        .collect();
    let nodes: Vec<&str> = hints
        .for_nodes
        .items()
        .iter()
        .map(|n| n.name.as_str())
        .collect();
    type Rule = fn(&str) -> Vec<String>;
    let lists: [(&str, Vec<&str>, Rule); 2] = [
        ("forZones", zones, names::label_value),
        ("forNodes", nodes, names::dns1123_subdomain),
    ];
    for (key, list, rule) in lists {
        let path = path.child(key);
        if list.len() > HINTS_MAX {
            return errors.too_many(&path, list.len(), HINTS_MAX);
        }
        for (i, name) in list.iter().enumerate() {
            let at = path.index(i).child("name");
            if list[..i].contains(name) {
                errors.duplicate(&at, *name);
            }
            errors.invalid_each(&at, name, rule(name));
        }
    }
}
