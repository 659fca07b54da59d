//! Services: how many, and how many ports of nodes and balancers they ask for.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{Amounts, whole};
use crate::view::{Items, OrEmpty};

pub(super) const MEASURED: &[&str] = &["services", "services.nodeports", "services.loadbalancers"];

pub(super) fn usage(service: &Service) -> Amounts {
    let spec = service.spec.clone().unwrap_or_default();
    let balanced = spec.type_.text() == "LoadBalancer";
    let ports = match spec.type_.text() {
        "NodePort" => spec.ports.items().len(),
        "LoadBalancer" => balancer_ports(&spec),
        _ => 0,
    };
    Amounts::from([
        ("services".to_owned(), whole(1)),
        ("services.nodeports".to_owned(), whole(ports)),
        ("services.loadbalancers".to_owned(), whole(balanced.into())),
    ])
}

/// Every port gets one of the nodes', unless the service wants none but those it names.
fn balancer_ports(spec: &ServiceSpec) -> usize {
    let ports = spec.ports.items();
    match spec.allocate_load_balancer_node_ports {
        Some(false) => ports
            .iter()
            .filter(|p| p.node_port.unwrap_or(0) != 0)
            .count(),
        _ => ports.len(),
    }
}
