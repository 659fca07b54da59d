//! Ingress: HTTP from outside to services, by host and path. What serves it is not part of the cluster.
//!
//! Upstream: `pkg/registry/networking/ingress`, `ValidateIngress*` in `pkg/apis/networking/validation`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress as Typed, IngressBackend, IngressLoadBalancerIngress, IngressRule,
    IngressServiceBackend, IngressSpec, IngressTLS,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};
use serde_json::json;

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty};
use crate::warn;

/// The annotation that named the class before there was a field for it.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const HOSTS_SHOWN: usize = 3;
const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
const BAD_SEQUENCES: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: &[&str] = &["/..", "/."];

/// The kind `Ingress`.
pub struct Ingress;

impl Kind for Ingress {
    type Object = Typed;
    const NAMES: Names =
        Names::new("networking.k8s.io", "v1", "Ingress", "ingresses", "ingress").short(&["ing"]);
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Class",
            "The name of the IngressClass resource that should be used for additional configuration",
        ),
        columns::text(
            "Hosts",
            "Hosts that incoming requests are matched against before the ingress rule",
        ),
        columns::text(
            "Address",
            "Address is a list containing ingress points for the load-balancer",
        ),
        columns::text("Ports", "Ports of TLS configurations that open"),
        columns::AGE,
    ];
    const HAS_GENERATION: bool = true;

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert("status".into(), json!({"loadBalancer": {}}));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let own = new.spec.clone().unwrap_or_default();
        spec(&mut errors, &own, None);
        let annotation = annotation(new);
        if let (Some(class), Some(annotation)) = (&own.ingress_class_name, annotation)
            && class != annotation
        {
            let at = Path::new("annotations").child(CLASS_ANNOTATION);
            let detail = "must match `ingressClassName` when both are specified";
            errors.invalid(&at, annotation.as_str(), detail);
        }
        errors
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if part == Part::Status {
            balancer(&mut errors, points(new), points(old));
        } else {
            let own = new.spec.clone().unwrap_or_default();
            spec(&mut errors, &own, old.spec.as_ref());
        }
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let class = new
            .spec
            .as_ref()
            .and_then(|s| s.ingress_class_name.as_ref());
        if annotation(new).is_none() || class.is_some() {
            return Vec::new();
        }
        vec![format!(
            "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
        )]
    }

    const WARNS_ON: &'static [Part] = &[Part::Status];
    fn update_warnings(_part: Part, new: &Typed, _old: &Typed) -> Vec<String> {
        let mut warnings = Vec::new();
        let path = Path::new("status").child("loadBalancer").child("ingress");
        for (i, point) in points(new).iter().enumerate() {
            warn::ip(&mut warnings, &path.index(i), point.ip.text());
        }
        warnings
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.clone().unwrap_or_default();
        let addresses: BTreeSet<&str> = points(object)
            .iter()
            .map(|point| match point.ip.text() {
                "" => point.hostname.text(),
                ip => ip,
            })
            .filter(|address| !address.is_empty())
            .collect();
        let addresses: Vec<&str> = addresses.into_iter().collect();
        let ports = if spec.tls.items().is_empty() {
            "80"
        } else {
            "80, 443"
        };
        Row::from(vec![
            tree.name().into(),
            spec.ingress_class_name
                .as_deref()
                .unwrap_or("<none>")
                .into(),
            hosts(spec.rules.items()).into(),
            addresses.join(",").into(),
            ports.into(),
            kind::age(tree, now).into(),
        ])
    }
}

fn annotation(ingress: &Typed) -> Option<&String> {
    let annotations = ingress.metadata.annotations.as_ref();
    annotations.and_then(|a| a.get(CLASS_ANNOTATION))
}

fn points(ingress: &Typed) -> &[IngressLoadBalancerIngress] {
    let balancer = ingress
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.as_ref());
    balancer.map_or(&[], |b| b.ingress.items())
}

/// The hosts of the column: the first three, and how many rules more.
fn hosts(rules: &[IngressRule]) -> String {
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more = more || shown.len() == HOSTS_SHOWN;
        if !more && !rule.host.text().is_empty() {
            shown.push(rule.host.text());
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, false) => shown.join(","),
        (false, true) => {
            let rest = rules.len() - HOSTS_SHOWN;
            format!("{} + {rest} more...", shown.join(","))
        }
    }
}

fn spec(errors: &mut ErrorList, spec: &IngressSpec, old: Option<&IngressSpec>) {
    let path = Path::new("spec");
    if spec.rules.items().is_empty() && spec.default_backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&path, check::json(&spec.rules), detail);
    }
    if let Some(default) = &spec.default_backend {
        backend(errors, &path.child("defaultBackend"), default);
    }
    let lenient = old.is_some_and(has_bad_wildcard_rule);
    for (i, given) in spec.rules.items().iter().enumerate() {
        rule(errors, &path.child("rules").index(i), given, lenient);
    }
    let lenient = old.is_some_and(|old| old.tls.items().iter().any(|t| !secret_name(t).is_empty()));
    for (i, given) in spec.tls.items().iter().enumerate() {
        tls(errors, &path.child("tls").index(i), given, lenient);
    }
    if let Some(class) = &spec.ingress_class_name {
        let messages = names::dns1123_subdomain(class);
        errors.invalid_each(&path.child("ingressClassName"), class, messages);
    }
}

/// Rules of wildcard hosts were not looked at once; an object that has a bad one may keep it.
fn has_bad_wildcard_rule(spec: &IngressSpec) -> bool {
    let mut wildcards = spec
        .rules
        .items()
        .iter()
        .filter(|r| r.host.text().contains('*'));
    wildcards.any(|given| {
        let mut errors = ErrorList::new();
        paths(&mut errors, &Path::default(), given);
        !errors.is_empty()
    })
}

fn host(errors: &mut ErrorList, path: &Path, host: &str) {
    let messages = if host.contains('*') {
        names::wildcard_dns1123_subdomain(host)
    } else {
        names::dns1123_subdomain(host)
    };
    errors.invalid_each(path, host, messages);
}

fn secret_name(tls: &IngressTLS) -> Vec<String> {
    match tls.secret_name.text() {
        "" => Vec::new(),
        name => names::dns1123_subdomain(name),
    }
}

fn tls(errors: &mut ErrorList, path: &Path, tls: &IngressTLS, lenient: bool) {
    for (i, given) in tls.hosts.items().iter().enumerate() {
        host(errors, &path.child("hosts").index(i), given);
    }
    if !lenient {
        let at = path.child("secretName");
        errors.invalid_each(&at, tls.secret_name.text(), secret_name(tls));
    }
}

fn rule(errors: &mut ErrorList, path: &Path, rule: &IngressRule, lenient: bool) {
    let given = rule.host.text();
    if !given.is_empty() {
        let at = path.child("host");
        if names::parse_ip_sloppy(given).is_some() {
            errors.invalid(&at, given, "must be a DNS name, not an IP address");
        }
        host(errors, &at, given);
    }
    if !(lenient && given.contains('*')) {
        paths(errors, path, rule);
    }
}

fn paths(errors: &mut ErrorList, path: &Path, rule: &IngressRule) {
    let Some(http) = &rule.http else { return };
    let path = path.child("http").child("paths");
    if http.paths.is_empty() {
        errors.required(&path, "");
    }
    for (i, given) in http.paths.iter().enumerate() {
        one_path(errors, &path.index(i), given);
    }
}

fn one_path(errors: &mut ErrorList, path: &Path, given: &HTTPIngressPath) {
    let (at, text) = (path.child("path"), given.path.text());
    let relative = !text.starts_with('/');
    match given.path_type.as_str() {
        // The typed view has no way to be absent.
        "" => return errors.required(&path.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if relative {
                errors.invalid(&at, text, "must be an absolute path");
            }
            for bad in BAD_SEQUENCES.iter().filter(|bad| text.contains(**bad)) {
                errors.invalid(&at, text, format!("must not contain '{bad}'"));
            }
            for bad in BAD_ENDS.iter().filter(|bad| text.ends_with(**bad)) {
                errors.invalid(&at, text, format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if relative && !text.is_empty() {
                errors.invalid(&at, text, "must be an absolute path");
            }
        }
        other => errors.not_supported(&path.child("pathType"), other, PATH_TYPES),
    }
    backend(errors, &path.child("backend"), &given.backend);
}

fn backend(errors: &mut ErrorList, path: &Path, backend: &IngressBackend) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            errors.invalid(path, "", "cannot set both resource and service backends");
        }
        (Some(given), None) => resource(errors, &path.child("resource"), given),
        (None, Some(given)) => service(errors, path, given),
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn resource(errors: &mut ErrorList, path: &Path, reference: &TypedLocalObjectReference) {
    if let Some(group) = &reference.api_group {
        let messages = names::dns1123_subdomain(group);
        errors.invalid_each(&path.child("apiGroup"), group, messages);
    }
    check::required_path_segment(errors, &path.child("kind"), &reference.kind);
    check::required_path_segment(errors, &path.child("name"), &reference.name);
}

fn service(errors: &mut ErrorList, path: &Path, service: &IngressServiceBackend) {
    let at = path.child("service");
    let name = service.name.as_str();
    if errors.required_text(&at.child("name"), name, "") {
        errors.invalid_each(&at.child("name"), name, names::dns1123_label(name));
    }
    let at = at.child("port");
    let port = service.port.clone().unwrap_or_default();
    match (port.name.text(), port.number.unwrap_or(0)) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", number) => check::port(errors, &at.child("number"), number),
        (name, 0) => errors.invalid_each(&at.child("name"), name, names::port_name(name)),
        _ => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

fn balancer(
    errors: &mut ErrorList,
    points: &[IngressLoadBalancerIngress],
    old: &[IngressLoadBalancerIngress],
) {
    let path = Path::new("status").child("loadBalancer").child("ingress");
    for (i, point) in points.iter().enumerate() {
        let path = path.index(i);
        if let Some(ip) = point.ip.as_ref().filter(|ip| !ip.is_empty()) {
            let known = old.iter().any(|o| o.ip.as_ref() == Some(ip));
            errors.invalid_each(&path.child("ip"), ip, names::legacy_ip(ip, !known));
        }
        let (at, hostname) = (path.child("hostname"), point.hostname.text());
        if !hostname.is_empty() {
            errors.invalid_each(&at, hostname, names::dns1123_subdomain(hostname));
            if names::parse_ip_sloppy(hostname).is_some() {
                errors.invalid(&at, hostname, "must be a DNS name, not an IP address");
            }
        }
    }
}
