//! Service: a stable address for pods.
//!
//! The addresses and ports that the server hands out are decided in [`allocation`], which is pure; who keeps the books of
//! what is taken is the API server.
//!
//! Upstream: `pkg/registry/core/service`, `ValidateService*` in `pkg/apis/core/validation`, `printService`.

pub mod allocation;
mod changes;
mod families;
mod strategy;
mod validation;

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service as Typed, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object};

use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty, fill, fill_with, format_labels};

/// The `clusterIP` of a Service that wants none.
pub const HEADLESS: &str = "None";
/// Three hours, how long a client stays with its end point when nothing else is said.
pub const AFFINITY_SECONDS: i32 = 10_800;

/// The kind `Service`.
pub struct Service;

impl Kind for Service {
    type Object = Typed;
    const NAMES: Names = Names::new("", "v1", "Service", "services", "service")
        .short(&["svc"])
        .in_all();
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] =
        &[Subresource::Proxy, Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Type",
            "type determines how the Service is exposed. Defaults to ClusterIP. \
                               Valid options are ExternalName, ClusterIP, NodePort, and \
                               LoadBalancer. \"ClusterIP\" allocates a cluster-internal IP address \
                               for load-balancing to endpoints. Endpoints are determined by the \
                               selector or if that is not specified, by manual construction of an \
                               Endpoints object or EndpointSlice objects. If clusterIP is \"None\", \
                               no virtual IP is allocated and the endpoints are published as a set \
                               of endpoints rather than a virtual IP. \"NodePort\" builds on \
                               ClusterIP and allocates a port on every node which routes to the \
                               same endpoints as the clusterIP. \"LoadBalancer\" builds on NodePort \
                               and creates an external load-balancer (if supported in the current \
                               cloud) which routes to the same endpoints as the clusterIP. \
                               \"ExternalName\" aliases this service to the specified externalName. \
                               Several other fields do not apply to ExternalName services. More \
                               info: \
                               https://kubernetes.io/docs/concepts/services-networking/service/#publishing-services-service-types",
        ),
        columns::text(
            "Cluster-IP",
            "clusterIP is the IP address of the service and is usually assigned randomly. If an \
             address is specified manually, is in-range (as per system configuration), and is not \
             in use, it will be allocated to the service; otherwise creation of the service will \
             fail. This field may not be changed through updates unless the type field is also \
             being changed to ExternalName (which requires this field to be blank) or the type \
             field is being changed from ExternalName (in which case this field may optionally be \
             specified, as describe above).  Valid values are \"None\", empty string (\"\"), or a \
             valid IP address. Setting this to \"None\" makes a \"headless service\" (no virtual \
             IP), which is useful when direct endpoint connections are preferred and proxying is \
             not required.  Only applies to types ClusterIP, NodePort, and LoadBalancer. If this \
             field is specified when creating a Service of type ExternalName, creation will fail. \
             This field will be wiped when updating a Service to type ExternalName. More info: \
             https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
        ),
        columns::text(
            "External-IP",
            "externalIPs is a list of IP addresses for which nodes in the cluster will also accept \
             traffic for this service.  These IPs are not managed by Kubernetes.  The user is \
             responsible for ensuring that traffic arrives at a node with this IP.  A common \
             example is external load-balancers that are not part of the Kubernetes system.",
        ),
        columns::text(
            "Port(s)",
            "The list of ports that are exposed by this service. More info: \
             https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
        ),
        columns::AGE,
        columns::wide(
            "Selector",
            "Route service traffic to pods with label keys and values \
                                   matching this selector. If empty or not present, the service is \
                                   assumed to have an external process managing its endpoints, \
                                   which Kubernetes will not modify. Only applies to types \
                                   ClusterIP, NodePort, and LoadBalancer. Ignored if type is \
                                   ExternalName. More info: \
                                   https://kubernetes.io/docs/concepts/services-networking/service/",
        ),
    ];
    const CREATE_ON_UPDATE: bool = true;
    const RETURNS_DELETED: bool = true;
    const SELECTABLE: &'static [&'static str] = &["spec.clusterIP", "spec.type"];

    fn default(object: &mut Typed) {
        let spec = object.spec.get_or_insert_default();
        default_spec(spec);
        if spec.type_.text() == "LoadBalancer" {
            let balancer = object
                .status
                .as_mut()
                .and_then(|s| s.load_balancer.as_mut());
            for ingress in balancer
                .into_iter()
                .flat_map(|b| b.ingress.iter_mut().flatten())
            {
                if !ingress.ip.text().is_empty() {
                    fill_with(&mut ingress.ip_mode, "VIP".to_owned());
                }
            }
        }
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        strategy::prepare_create(new);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        if part == Part::Main {
            strategy::prepare_update(new, old);
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        validation::service(&mut errors, new, None);
        errors
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        match part {
            Part::Status => validation::status(new, old),
            _ => changes::update(new, old),
        }
    }

    fn warnings(new: &Typed) -> Vec<String> {
        validation::warnings(new)
    }

    const WARNS_ON: &'static [Part] = &[Part::Main, Part::Status];
    fn update_warnings(part: Part, new: &Typed, _old: &Typed) -> Vec<String> {
        match part {
            Part::Status => validation::status_warnings(new),
            _ => Self::warnings(new),
        }
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        kind::dns_label(name, prefix)
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        vec![
            (
                "spec.clusterIP",
                object.str_at(&["spec", "clusterIP"]).to_owned(),
            ),
            ("spec.type", object.str_at(&["spec", "type"]).to_owned()),
        ]
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let empty = ServiceSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let or_none = |text: String| {
            if text.is_empty() {
                "<none>".to_owned()
            } else {
                text
            }
        };
        Row::from(vec![
            tree.name().into(),
            spec.type_.text().into(),
            spec.cluster_ips
                .items()
                .first()
                .map_or("<none>", String::as_str)
                .into(),
            external_ips(object, spec).into(),
            or_none(port_list(spec.ports.items())).into(),
            kind::age(tree, now).into(),
            format_labels(spec.selector.iter().flatten()).into(),
        ])
    }
}

fn default_spec(spec: &mut ServiceSpec) {
    fill(&mut spec.session_affinity, "None");
    match spec.session_affinity.text() {
        "None" => spec.session_affinity_config = None,
        "ClientIP" => {
            let config = spec.session_affinity_config.get_or_insert_default();
            let client = config.client_ip.get_or_insert_default();
            fill_with(&mut client.timeout_seconds, AFFINITY_SECONDS);
        }
        _ => {}
    }
    fill(&mut spec.type_, "ClusterIP");
    for port in spec.ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if is_externally_accessible(spec) {
        fill(&mut spec.external_traffic_policy, "Cluster");
    }
    if matches!(spec.type_.text(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        fill_with(&mut spec.internal_traffic_policy, "Cluster".to_owned());
    }
    if spec.type_.text() == "LoadBalancer" {
        fill_with(&mut spec.allocate_load_balancer_node_ports, true);
    }
}

/// Reachable from outside the cluster by what the Service itself says.
pub fn is_externally_accessible(spec: &ServiceSpec) -> bool {
    match spec.type_.text() {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.external_ips.items().is_empty(),
        _ => false,
    }
}

/// Load balancers ask each node whether it has an end point of its own.
pub fn needs_health_check(spec: &ServiceSpec) -> bool {
    spec.type_.text() == "LoadBalancer" && spec.external_traffic_policy.text() == "Local"
}

/// A Service without an address: its name stands for the addresses of its pods.
pub fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ips.items() == [HEADLESS]
}

fn external_ips(service: &Typed, spec: &ServiceSpec) -> String {
    let own = spec.external_ips.items();
    match spec.type_.text() {
        "ClusterIP" | "NodePort" if own.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => own.join(","),
        "LoadBalancer" => {
            let mut all: Vec<String> = balancer_addresses(service).into_iter().collect();
            all.extend(own.iter().cloned());
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => spec.external_name.text().to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn balancer_addresses(service: &Typed) -> BTreeSet<String> {
    let balancer = service
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer.map_or(&[][..], |b| b.ingress.items());
    let address = |ip: &Option<String>, name: &Option<String>| {
        if ip.text().is_empty() {
            name.text().to_owned()
        } else {
            ip.text().to_owned()
        }
    };
    let all = ingress.iter().map(|i| address(&i.ip, &i.hostname));
    all.filter(|address| !address.is_empty()).collect()
}

/// `80:30080/TCP,53/UDP`
fn port_list(ports: &[ServicePort]) -> String {
    let one = |p: &ServicePort| {
        let protocol = p.protocol.text();
        match p.node_port.filter(|n| *n > 0) {
            Some(node) => format!("{}:{node}/{protocol}", p.port),
            None => format!("{}/{protocol}", p.port),
        }
    };
    ports.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
