//! Where a request goes: a URL, or a Service and what the caches know of it.
//!
//! Behaviour: `k8s.io/apiserver/pkg/util/proxy`, `.../util/webhook/serviceresolver.go`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use access::Lookup;
use http::Uri;
use machinery::Object;
use rand::seq::SliceRandom;
use serde_json::Value;

use super::{Cause, End};
use crate::connect::client::check_proxyable;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The far end of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Scheme, host and port of a URL.
    Url {
        /// As it was given: `https://host:port`.
        origin: Arc<str>,
        /// With TLS.
        tls: bool,
        host: Arc<str>,
        port: u16,
    },
    /// A port of a service, spoken to with TLS.
    Service {
        namespace: Arc<str>,
        name: Arc<str>,
        port: u16,
        /// Addresses that a proxy must not be talked into reaching are left out.
        guarded: bool,
    },
}

/// A URL that no request can be sent to.
#[derive(Debug, thiserror::Error)]
#[error("unusable URL {0:?}")]
pub(crate) struct BadUrl(String);

/// The ends that stand for a place at this moment.
pub(super) struct Candidates {
    pub(super) origin: Arc<str>,
    ends: Vec<End>,
}

impl Candidates {
    pub(super) fn in_random_order(&self) -> impl Iterator<Item = End> {
        let mut ends = self.ends.clone();
        ends.shuffle(&mut rand::rng());
        ends.into_iter()
    }
}

impl Place {
    /// A service's port.
    pub(crate) fn service(namespace: &str, name: &str, port: u16) -> Self {
        Self::Service {
            namespace: namespace.into(),
            name: name.into(),
            port,
            guarded: false,
        }
    }

    /// The same, for requests that come from elsewhere and are passed on: neither this host nor what only it can reach
    /// is ever dialled, whatever the service or a name server says (security lessons 2020-8562, 2022-3294).
    pub(crate) fn guarded_service(namespace: &str, name: &str, port: u16) -> Self {
        Self::Service {
            namespace: namespace.into(),
            name: name.into(),
            port,
            guarded: true,
        }
    }

    /// Splits a URL into the place and what is asked for there: path and query.
    ///
    /// # Errors
    /// It is not `http` or `https`, or has no host.
    pub(crate) fn of_url(url: &str) -> Result<(Self, String), BadUrl> {
        let bad = || BadUrl(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(bad());
        }
        let scheme = if tls { "https" } else { "http" };
        let place = Self::Url {
            origin: format!("{scheme}://{authority}").into(),
            tls,
            host: authority.host().trim_matches(['[', ']']).into(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        };
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        Ok((place, path.to_owned()))
    }

    /// How the far end calls itself.
    pub(super) fn host_and_port(&self) -> (String, u16) {
        match self {
            Self::Url { host, port, .. } => (host.to_string(), *port),
            Self::Service {
                namespace,
                name,
                port,
                ..
            } => (format!("{name}.{namespace}.svc"), *port),
        }
    }

    /// Scheme, host and port, as errors tell them.
    pub(super) fn origin(&self) -> Arc<str> {
        match self {
            Self::Url { origin, .. } => origin.clone(),
            Self::Service {
                namespace,
                name,
                port,
                ..
            } => format!("https://{name}.{namespace}.svc:{port}").into(),
        }
    }

    /// The ends of this moment.
    pub(super) fn resolve(&self, lookup: &dyn Lookup) -> Result<Candidates, Cause> {
        let ends = match self {
            Self::Url { host, port, .. } => vec![named(host, *port)],
            Self::Service {
                namespace,
                name,
                port,
                guarded,
            } => {
                let ends = service_ends(lookup, namespace, name, *port);
                let ends = ends.map_err(Cause::Unresolved)?.into_iter();
                ends.filter_map(|end| end.guarded(*guarded)).collect()
            }
        };
        let origin = self.origin();
        Ok(Candidates { origin, ends })
    }
}

impl End {
    /// The same, if it may be dialled.
    fn guarded(self, guarded: bool) -> Option<Self> {
        match self {
            Self::Address(address) if guarded && check_proxyable(address.ip()).is_err() => None,
            Self::Name(host, port) if guarded => Some(Self::Guarded(host, port)),
            other => Some(other),
        }
    }
}

fn named(host: &str, port: u16) -> End {
    match host.parse::<IpAddr>() {
        Ok(address) => End::Address(SocketAddr::new(address, port)),
        Err(_) => End::Name(host.into(), port),
    }
}

fn service_ends(
    lookup: &dyn Lookup,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Vec<End>, String> {
    let service = lookup.get("", "services", namespace, name);
    let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
    if service.str_at(&["spec", "type"]) == "ExternalName" {
        let host = service.str_at(&["spec", "externalName"]);
        return Ok(vec![named(host, port)]);
    }
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array);
    let found = ports
        .into_iter()
        .flatten()
        .find(|p| p["port"].as_u64() == Some(port.into()));
    let found =
        found.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = found["name"].as_str().unwrap_or("");
    let mut ends = Vec::new();
    if let Some(endpoints) = lookup.get("", "endpoints", namespace, name) {
        from_endpoints(&endpoints, port_name, &mut ends);
    }
    // A service may have slices that somebody wrote by hand.
    if ends.is_empty() {
        for slice in lookup.list("discovery.k8s.io", "endpointslices", namespace) {
            if slice
                .labels()
                .any(|(key, value)| key == SERVICE_NAME && value == name)
            {
                from_slice(&slice, port_name, &mut ends);
            }
        }
    }
    match ends.is_empty() {
        true => Err(format!("no endpoints available for service {name:?}")),
        false => Ok(ends),
    }
}

fn from_endpoints(endpoints: &Object, port_name: &str, ends: &mut Vec<End>) {
    let subsets = endpoints.at(&["subsets"]).and_then(Value::as_array);
    for subset in subsets.into_iter().flatten() {
        let addresses = subset["addresses"].as_array().into_iter().flatten();
        let addresses = addresses.filter_map(|a| a["ip"].as_str());
        push(addresses, &subset["ports"], port_name, ends);
    }
}

fn from_slice(slice: &Object, port_name: &str, ends: &mut Vec<End>) {
    let endpoints = slice.at(&["endpoints"]).and_then(Value::as_array);
    let ready = |e: &&Value| e["conditions"]["ready"].as_bool().unwrap_or(true);
    let addresses = endpoints.into_iter().flatten().filter(ready);
    let addresses = addresses.filter_map(|e| e["addresses"][0].as_str());
    let ports = slice.at(&["ports"]).unwrap_or(&Value::Null);
    push(addresses, ports, port_name, ends);
}

fn push<'a>(
    addresses: impl Iterator<Item = &'a str>,
    ports: &Value,
    port_name: &str,
    ends: &mut Vec<End>,
) {
    let mut ports = ports.as_array().into_iter().flatten();
    let port = ports.find(|p| p["name"].as_str().unwrap_or("") == port_name);
    let Some(port) = port.and_then(|p| u16::try_from(p["port"].as_u64()?).ok()) else {
        return;
    };
    let parsed = addresses.filter_map(|ip| ip.parse::<IpAddr>().ok());
    ends.extend(parsed.map(|ip| End::Address(SocketAddr::new(ip, port))));
}
