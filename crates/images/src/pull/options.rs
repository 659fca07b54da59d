//! Where a registry is: its own address, and mirrors that are asked before it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use http::uri::Authority;
use oci::reference::DEFAULT_REGISTRY;
use rustls_pki_types::CertificateDer;

use super::dial::{Dialer, DirectDialer};

/// How a node reaches registries.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// Opens the connections.
    pub dialer: Arc<dyn Dialer>,
    /// Base addresses (such as `http://127.0.0.1:5000`) that are asked before the registry itself, by registry (such as
    /// `docker.io`). They never see credentials, which are the registry's.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Registries, as images name them, that speak plain HTTP. Those on loopback do anyway.
    pub insecure: BTreeSet<String>,
    /// Certificate authorities that are trusted besides the system's.
    pub certificate_authorities: Vec<CertificateDer<'static>>,
}

impl Default for PullOptions {
    fn default() -> PullOptions {
        PullOptions {
            dialer: Arc::new(DirectDialer),
            mirrors: BTreeMap::new(),
            insecure: BTreeSet::new(),
            certificate_authorities: Vec::new(),
        }
    }
}

/// One place to ask for a registry's images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Without a slash at the end.
    pub(super) base: String,
    /// The registry that a mirror stands for.
    pub(super) mirror_of: Option<String>,
}

impl PullOptions {
    /// Where to ask, in this order; the registry itself comes last.
    pub(super) fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let mirrors = self.mirrors.get(registry).into_iter().flatten();
        let mirrors = mirrors.map(|base| Endpoint {
            base: base.trim_end_matches('/').to_owned(),
            mirror_of: Some(registry.to_owned()),
        });
        let host = match registry {
            DEFAULT_REGISTRY => "registry-1.docker.io",
            other => other,
        };
        let scheme = match self.is_plain(registry) {
            true => "http",
            false => "https",
        };
        let own = Endpoint {
            base: format!("{scheme}://{host}"),
            mirror_of: None,
        };
        mirrors.chain([own]).collect()
    }

    fn is_plain(&self, registry: &str) -> bool {
        self.insecure.contains(registry) || is_loopback(registry)
    }
}

/// True for `localhost` and loopback addresses, with or without a port.
fn is_loopback(registry: &str) -> bool {
    let Ok(authority) = registry.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// True when two addresses lead to the same server in the same way, so that what one may see the other may, too.
pub(super) fn same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| {
        let default = if uri.scheme_str() == Some("http") {
            80
        } else {
            443
        };
        uri.port_u16().unwrap_or(default)
    };
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}
