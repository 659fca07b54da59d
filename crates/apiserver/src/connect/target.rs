//! Where nodes, pods and services are reached, read from the objects at the time of the request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use access::Lookup;
use machinery::{ApiError, Object};
use serde_json::Value;

use crate::call::Call;

const KUBELET_PORT: u16 = 10250;

/// The address of a node's kubelet.
///
/// # Errors
/// 404 or 500: there is no such node, or it has no address yet.
pub(super) fn kubelet(call: &Call, node: &str) -> Result<SocketAddr, ApiError> {
    let found = call.server.get("", "nodes", "", node);
    let found = found.ok_or_else(|| ApiError::not_found("", "nodes", node))?;
    let addresses = found.at(&["status", "addresses"]).and_then(Value::as_array);
    let of = |kind: &str| {
        let all = addresses
            .into_iter()
            .flatten()
            .filter(|a| a["type"] == kind);
        all.filter_map(|a| a["address"].as_str()?.parse::<IpAddr>().ok())
            .next()
    };
    let address = ["InternalIP", "ExternalIP"].into_iter().find_map(of);
    let why = format!(
        "no preferred addresses found; known addresses: {:?}",
        addresses.unwrap_or(&Vec::new())
    );
    let address = address.ok_or_else(|| ApiError::internal(why))?;
    let port = found.at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
    let port = port
        .and_then(Value::as_u64)
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p > 0);
    Ok(SocketAddr::new(address, port.unwrap_or(KUBELET_PORT)))
}

/// The pod in the path.
///
/// # Errors
/// 404.
pub(super) fn pod(call: &Call, name: &str) -> Result<Arc<Object>, ApiError> {
    let found = call.server.get("", "pods", &call.info.namespace, name);
    found.ok_or_else(|| ApiError::not_found("", "pods", name))
}

/// The container that a request means: the one it names, or the only one, or the one that the pod's annotation names.
///
/// # Errors
/// 400.
pub(super) fn container(pod: &Object, named: &str) -> Result<String, ApiError> {
    let names = |key: &str| -> Vec<String> {
        let all = pod
            .at(&["spec", key])
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        all.filter_map(|c| c["name"].as_str())
            .map(str::to_owned)
            .collect()
    };
    let (containers, init) = (names("containers"), names("initContainers"));
    let ephemeral = names("ephemeralContainers");
    if !named.is_empty() {
        let all = [&containers, &init, &ephemeral];
        if all.iter().any(|list| list.iter().any(|c| c == named)) {
            return Ok(named.to_owned());
        }
        let why = format!("container {named} is not valid for pod {}", pod.name());
        return Err(ApiError::bad_request(why));
    }
    match containers.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {}",
            pod.name()
        ))),
        several => {
            let mut why = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.name(),
                several.join(" ")
            );
            if !init.is_empty() {
                why.push_str(&format!(
                    " or one of the init containers: [{}]",
                    init.join(" ")
                ));
            }
            if !ephemeral.is_empty() {
                why.push_str(&format!(
                    " or one of the ephemeral containers: [{}]",
                    ephemeral.join(" ")
                ));
            }
            Err(ApiError::bad_request(why))
        }
    }
}

/// `[scheme:]name[:port]`, as proxies name what they reach.
pub(super) struct SchemeNamePort {
    pub(super) scheme: String,
    pub(super) name: String,
    pub(super) port: String,
}

impl SchemeNamePort {
    /// Reads the name in a path.
    ///
    /// # Errors
    /// 400.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme @ ("" | "http" | "https"), name, port] => (*scheme, *name, *port),
            _ => {
                return Err(ApiError::bad_request(format!(
                    "invalid service request {text:?}"
                )));
            }
        };
        if name.is_empty() {
            return Err(ApiError::bad_request(format!(
                "invalid service request {text:?}"
            )));
        }
        Ok(Self {
            scheme: scheme.into(),
            name: name.into(),
            port: port.into(),
        })
    }
}
