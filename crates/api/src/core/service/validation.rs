//! What a Service must look like, and what may change with its type.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use machinery::{ErrorList, Path, names};

use super::{HEADLESS, is_externally_accessible, is_headless, needs_health_check};
use crate::check::{self, ErrorListExt};
use crate::view::{Items, OrEmpty};
use crate::warn;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const ONLY_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";
const ONE_PER_FAMILY: &str = "may specify no more than one IP for each IP family";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const AFFINITY_MAX: i32 = 86_400;

pub(super) fn service(errors: &mut ErrorList, service: &Service, old: Option<&Service>) {
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let before = old.and_then(|o| o.spec.as_ref());
    let path = Path::new("spec");
    topology_annotations(errors, service);
    let kind = spec.type_.text();
    if spec.ports.items().is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    by_type(errors, &path, spec);
    let mut seen = BTreeSet::new();
    let ports = spec.ports.items();
    for (i, p) in ports.iter().enumerate() {
        port(
            errors,
            &path.child("ports").index(i),
            p,
            ports.len() > 1,
            &mut seen,
        );
    }
    check::labels(errors, &path.child("selector"), spec.selector.as_ref());
    affinity(errors, &path, spec);
    cluster_ips(errors, service, old);
    external_ips(errors, &path.child("externalIPs"), spec, before);
    if errors.required_text(&path.child("type"), kind, "") {
        errors.one_of(&path.child("type"), kind, TYPES);
    }
    unique_ports(errors, &path.child("ports"), spec);
    source_ranges(errors, &path, service, old);
    balancer(errors, &path, spec);
    traffic(errors, &path, spec);
}

fn topology_annotations(errors: &mut ErrorList, service: &Service) {
    let get = |key: &str| {
        service
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(key))
    };
    if let (Some(hints), Some(mode)) = (get(HINTS), get(MODE))
        && hints != mode
    {
        let path = Path::new("metadata").child("annotations").key(MODE);
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.invalid(&path, mode.as_str(), detail);
    }
}

fn by_type(errors: &mut ErrorList, path: &Path, spec: &ServiceSpec) {
    match spec.type_.text() {
        kind @ ("LoadBalancer" | "NodePort") if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path.child("clusterIPs").index(0), HEADLESS, detail);
        }
        "ExternalName" => {
            let unwanted = [
                ("clusterIPs", !spec.cluster_ips.items().is_empty()),
                ("ipFamilies", !spec.ip_families.items().is_empty()),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ];
            for (key, _) in unwanted.into_iter().filter(|(_, set)| *set) {
                errors.forbidden(&path.child(key), "may not be set for ExternalName services");
            }
            let name = spec.external_name.text();
            let name = name.strip_suffix('.').unwrap_or(name);
            let at = path.child("externalName");
            if errors.required_text(&at, name, "") {
                errors.invalid_each(&at, name, names::dns1123_subdomain(name));
            }
        }
        _ => {}
    }
}

fn port<'a>(
    errors: &mut ErrorList,
    path: &Path,
    port: &'a ServicePort,
    need_name: bool,
    seen: &mut BTreeSet<&'a str>,
) {
    let name = port.name.text();
    let at = path.child("name");
    if !name.is_empty() {
        errors.invalid_each(&at, name, names::dns1123_label(name));
        if !seen.insert(name) {
            errors.duplicate(&at, name);
        }
    } else if need_name {
        errors.required(&at, "");
    }
    check::port(errors, &path.child("port"), port.port);
    let protocol = port.protocol.text();
    if errors.required_text(&path.child("protocol"), protocol, "") {
        errors.one_of(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    }
    if let Some(target) = &port.target_port {
        check::port_number_or_name(errors, &path.child("targetPort"), target);
    }
    if let Some(app) = &port.app_protocol {
        errors.invalid_each(&path.child("appProtocol"), app, names::qualified_name(app));
    }
}

fn affinity(errors: &mut ErrorList, path: &Path, spec: &ServiceSpec) {
    let affinity = spec.session_affinity.text();
    let at = path.child("sessionAffinity");
    if errors.required_text(&at, affinity, "") {
        errors.one_of(&at, affinity, &["ClientIP", "None"]);
    }
    let path = path.child("sessionAffinityConfig");
    let config = spec.session_affinity_config.as_ref();
    match affinity {
        "ClientIP" => {
            let detail = "when session affinity type is ClientIP";
            let client = config.map(|c| c.client_ip.as_ref());
            match client.map(|c| c.map(|c| c.timeout_seconds)) {
                None => errors.required(&path, detail),
                Some(None) => errors.required(&path.child("clientIP"), detail),
                Some(Some(None)) => {
                    errors.required(&path.child("clientIP").child("timeoutSeconds"), detail);
                }
                Some(Some(Some(seconds))) if !(1..=AFFINITY_MAX).contains(&seconds) => {
                    let detail = format!("must be greater than 0 and less than {AFFINITY_MAX}");
                    let at = path.child("clientIP").child("timeoutSeconds");
                    errors.invalid(&at, seconds, detail);
                }
                Some(Some(Some(_))) => {}
            }
        }
        "None" if config.is_some() => {
            errors.forbidden(&path, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// Addresses, families and the policy, each for itself and against each other.
///
/// Upstream: `ValidateServiceClusterIPsRelatedFields`.
pub(super) fn cluster_ips(errors: &mut ErrorList, service: &Service, old: Option<&Service>) {
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    if spec.type_.text() == "ExternalName" {
        return;
    }
    let path = Path::new("spec");
    let (at, ips) = (path.child("clusterIPs"), spec.cluster_ips.items());
    let shown = ips.to_vec();
    match (spec.cluster_ip.text(), ips.first()) {
        ("", Some(_)) => {
            errors.invalid(
                &at,
                shown.clone(),
                "must be empty when `clusterIP` is not specified",
            );
        }
        ("", None) => {}
        (_, None) => errors.required(&at, ""),
        (ip, Some(first)) if ip != first => {
            errors.invalid(&at, shown.clone(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    families(errors, &path, spec);
    let known = old
        .and_then(|o| o.spec.as_ref())
        .map_or(&[][..], |s| s.cluster_ips.items());
    let before = errors.0.len();
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && ip == HEADLESS {
            if ips.len() > 1 {
                errors.invalid(
                    &at,
                    shown.clone(),
                    "'None' must be the first and only value",
                );
            }
            continue;
        }
        errors.invalid_each(&at.index(i), ip, names::legacy_ip(ip, !known.contains(ip)));
    }
    let malformed = errors.0.len() > before;
    if ips.len() > 2 {
        errors.invalid(&at, shown.clone(), "may only hold up to 2 values");
    }
    if malformed {
        return;
    }
    if ips.len() > 1 {
        let sixes = ips.iter().filter(|ip| ip.contains(':')).count();
        if sixes == 0 || sixes == ips.len() {
            errors.invalid(&at, shown, ONE_PER_FAMILY);
        }
    }
    if is_headless(spec) {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(spec.ip_families.items()).enumerate() {
        let six = ip.contains(':');
        if (family == "IPv4" && six) || (family == "IPv6" && !six) {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.invalid(&at.index(i), ip.as_str(), detail);
        }
    }
}

fn families(errors: &mut ErrorList, path: &Path, spec: &ServiceSpec) {
    let families = spec.ip_families.items();
    for (i, family) in families.iter().enumerate() {
        let at = path.child("ipFamilies").index(i);
        errors.one_of(&at, family, &["IPv4", "IPv6"]);
        if families[..i].contains(family) {
            errors.duplicate(&at, family.as_str());
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.one_of(&path.child("ipFamilyPolicy"), policy, &known);
    }
}

fn external_ips(
    errors: &mut ErrorList,
    path: &Path,
    spec: &ServiceSpec,
    before: Option<&ServiceSpec>,
) {
    let known = before.map_or(&[][..], |b| b.external_ips.items());
    for (i, ip) in spec.external_ips.items().iter().enumerate() {
        let at = path.index(i);
        let messages = names::legacy_ip(ip, !known.contains(ip));
        if messages.is_empty() {
            check::non_special_ip(errors, &at, ip);
        }
        errors.invalid_each(&at, ip, messages);
    }
}

fn unique_ports(errors: &mut ErrorList, path: &Path, spec: &ServiceSpec) {
    let ports = spec.ports.items();
    let node = |p: &ServicePort| p.node_port.filter(|n| *n != 0);
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i).child("nodePort");
        if spec.type_.text() == "ClusterIP" && node(port).is_some() {
            errors.forbidden(&at, "may not be used when `type` is 'ClusterIP'");
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let same = |p: &ServicePort| p.protocol == port.protocol && node(p) == node(port);
        if let Some(number) = node(port).filter(|_| ports[..i].iter().any(same)) {
            errors.duplicate(&path.index(i).child("nodePort"), number);
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let same = |p: &ServicePort| p.protocol == port.protocol && p.port == port.port;
        if ports[..i].iter().any(same) {
            let shown = serde_json::json!({"port": port.port, "protocol": port.protocol.text()});
            errors.duplicate(&path.index(i), shown);
        }
    }
}

fn source_ranges(errors: &mut ErrorList, path: &Path, service: &Service, old: Option<&Service>) {
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let balances = spec.type_.text() == "LoadBalancer";
    let ranges = spec.load_balancer_source_ranges.items();
    if !ranges.is_empty() {
        let at = path.child("LoadBalancerSourceRanges");
        if !balances {
            errors.forbidden(&at, ONLY_BALANCERS);
        }
        let before = old.and_then(|o| o.spec.as_ref());
        let known = before.map_or(&[][..], |b| b.load_balancer_source_ranges.items());
        for (i, range) in ranges.iter().enumerate() {
            let range = range.trim();
            let strict = !known.iter().any(|k| k.trim() == range);
            errors.invalid_each(&at.index(i), range, names::legacy_cidr(range, strict));
        }
        return;
    }
    let annotation = |s: &Service| s.metadata.annotations.as_ref()?.get(SOURCE_RANGES).cloned();
    let Some(value) = annotation(service) else {
        return;
    };
    let at = Path::new("metadata")
        .child("annotations")
        .key(SOURCE_RANGES);
    if !balances {
        errors.forbidden(&at, ONLY_BALANCERS);
    }
    if old.and_then(annotation).as_ref() != Some(&value) && !value.trim().is_empty() {
        for range in value.trim().split(',').map(str::trim) {
            errors.invalid_each(&at, range, names::legacy_cidr(range, true));
        }
    }
}

fn balancer(errors: &mut ErrorList, path: &Path, spec: &ServiceSpec) {
    let balances = spec.type_.text() == "LoadBalancer";
    match spec.allocate_load_balancer_node_ports {
        Some(_) if !balances => {
            errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), ONLY_BALANCERS);
        }
        None if balances => errors.required(&Path::new("allocateLoadBalancerNodePorts"), ""),
        _ => {}
    }
    if let Some(class) = &spec.load_balancer_class {
        let at = path.child("loadBalancerClass");
        if balances {
            errors.invalid_each(&at, class, names::qualified_name(class));
        } else {
            errors.forbidden(&at, ONLY_BALANCERS);
        }
    }
}

fn traffic(errors: &mut ErrorList, path: &Path, spec: &ServiceSpec) {
    let policy = spec.external_traffic_policy.text();
    let at = path.child("externalTrafficPolicy");
    if is_externally_accessible(spec) {
        if errors.required_text(&at, policy, "") {
            errors.one_of(&at, policy, &["Cluster", "Local"]);
        }
    } else if !policy.is_empty() {
        errors.invalid(
            &at,
            policy,
            "may only be set for externally-accessible services",
        );
    }
    let at = path.child("healthCheckNodePort");
    match (
        needs_health_check(spec),
        spec.health_check_node_port.unwrap_or(0),
    ) {
        (true, 0) => errors.required(&at, ""),
        (true, number) => check::port(errors, &at, number),
        (false, 0) => {}
        (false, number) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&at, number, detail);
        }
    }
    let at = path.child("internalTrafficPolicy");
    match &spec.internal_traffic_policy {
        None if matches!(spec.type_.text(), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            errors.required(&at, "");
        }
        None => {}
        Some(policy) => errors.one_of(&at, policy, &["Cluster", "Local"]),
    }
    if let Some(distribution) = &spec.traffic_distribution {
        let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        errors.one_of(&path.child("trafficDistribution"), distribution, &known);
    }
}

/// A write to the status.
pub(super) fn status(new: &Service, old: &Service) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let ingress = |service: &Service| {
        let balancer = service
            .status
            .as_ref()
            .and_then(|s| s.load_balancer.clone());
        balancer.and_then(|b| b.ingress).unwrap_or_default()
    };
    let (list, known) = (ingress(new), ingress(old));
    let kind = new.spec.as_ref().map_or("", |s| s.type_.text());
    if kind != "LoadBalancer" && !list.is_empty() {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return errors;
    }
    for (i, ingress) in list.iter().enumerate() {
        let at = path.index(i);
        let ip = ingress.ip.text();
        if !ip.is_empty() {
            let strict = !known.iter().any(|k| k.ip.text() == ip);
            errors.invalid_each(&at.child("ip"), ip, names::legacy_ip(ip, strict));
        }
        match &ingress.ip_mode {
            None if !ip.is_empty() => {
                errors.required(&at.child("ipMode"), "must be specified when `ip` is set");
            }
            None => {}
            Some(_) if ip.is_empty() => {
                errors.forbidden(
                    &at.child("ipMode"),
                    "may not be specified when `ip` is not set",
                );
            }
            Some(mode) => errors.one_of(&at.child("ipMode"), mode, &["Proxy", "VIP"]),
        }
        let hostname = ingress.hostname.text();
        if !hostname.is_empty() {
            let at = at.child("hostname");
            errors.invalid_each(&at, hostname, names::dns1123_subdomain(hostname));
            if names::parse_ip_sloppy(hostname).is_some() {
                errors.invalid(&at, hostname, "must be a DNS name, not an IP address");
            }
        }
    }
    errors
}

/// What is allowed and yet probably not meant.
pub(super) fn warnings(service: &Service) -> Vec<String> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let annotations = service.metadata.annotations.as_ref();
    let headless = spec.type_.text() == "ClusterIP" && spec.cluster_ip.text() == HEADLESS;
    let external_name = spec.type_.text() == "ExternalName";
    let external_ips = spec.external_ips.items();
    let path = Path::new("spec");
    let mut warnings = Vec::new();
    if annotations.is_some_and(|a| a.contains_key(HINTS)) {
        warnings.push(format!(
            "annotation {HINTS} is deprecated, please use {MODE} instead"
        ));
    }
    if !["", HEADLESS].contains(&spec.cluster_ip.text()) {
        for (i, ip) in spec.cluster_ips.items().iter().enumerate() {
            warn::ip(&mut warnings, &path.child("clusterIPs").index(i), ip);
        }
    }
    let mut ignored = |holds: bool, field: &str| {
        if headless && holds {
            warnings.push(format!("spec.{field} is ignored for headless services"));
        }
    };
    ignored(!spec.load_balancer_ip.text().is_empty(), "loadBalancerIP");
    ignored(!external_ips.is_empty(), "externalIPs");
    ignored(spec.session_affinity.text() != "None", "SessionAffinity");
    for (i, ip) in external_ips.iter().enumerate() {
        warn::ip(&mut warnings, &path.child("externalIPs").index(i), ip);
    }
    if !external_ips.is_empty() && !headless && !external_name {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                .to_owned(),
        );
    }
    let address = spec.load_balancer_ip.text();
    warn::ip(&mut warnings, &path.child("loadBalancerIP"), address);
    for (i, range) in spec.load_balancer_source_ranges.items().iter().enumerate() {
        let path = path.child("loadBalancerSourceRanges").index(i);
        warn::cidr(&mut warnings, &path, range);
    }
    if external_name && !external_ips.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !external_name && !spec.external_name.text().is_empty() {
        warnings
            .push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.traffic_distribution.text() == "PreferClose" {
        warnings.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""
                .to_owned(),
        );
    }
    warnings
}

/// Odd spellings of the load balancer's addresses.
pub(super) fn status_warnings(service: &Service) -> Vec<String> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let mut warnings = Vec::new();
    let points = balancer.map_or(&[][..], |balancer| balancer.ingress.items());
    for (i, point) in points.iter().enumerate() {
        warn::ip(&mut warnings, &path.index(i), point.ip.text());
    }
    warnings
}
