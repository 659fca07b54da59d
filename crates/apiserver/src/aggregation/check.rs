//! Whether the server behind an APIService can be asked.
//!
//! Behaviour: `k8s.io/kube-aggregator/pkg/controllers/status/remote`; the words are those of clients' eyes.

use std::time::Duration;

use access::user::SYSTEM_MASTERS;
use access::{Lookup, User};
use bytes::Bytes;
use http::{HeaderMap, Method};
use machinery::Object;
use serde_json::Value;

use super::Remote;
use super::headers::set_user;
use crate::outbound::Message;
use crate::server::Server;

const TIMEOUT: Duration = Duration::from_secs(5);
/// No more of an answer is looked at.
const ANSWER_BYTES: usize = 8 << 20;
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What the condition is to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) available: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self {
            available: false,
            reason,
            message,
        }
    }

    /// Whether asking again may find something else though no object has changed.
    pub(super) fn may_pass(&self) -> bool {
        self.reason == "FailedDiscoveryCheck"
    }
}

/// Looks at the objects, and then asks.
pub(super) async fn check(server: &Server, remote: &Remote) -> Verdict {
    let (service, namespace) = (&remote.service, &remote.namespace);
    let Some(found) = server.get("", "services", namespace, service) else {
        let why = format!("service/{service} in {namespace:?} is not present");
        return Verdict::no("ServiceNotFound", why);
    };
    if let Some(verdict) = objects(server, remote, &found) {
        return verdict;
    }
    match discovery(server, remote, &found).await {
        Ok(()) => Verdict {
            available: true,
            reason: "Passed",
            message: "all checks passed".to_owned(),
        },
        Err(why) => Verdict::no("FailedDiscoveryCheck", why),
    }
}

/// What the service and its end points say already.
fn objects(server: &Server, remote: &Remote, found: &Object) -> Option<Verdict> {
    let (service, namespace) = (&remote.service, &remote.namespace);
    if !matches!(found.str_at(&["spec", "type"]), "" | "ClusterIP") {
        return None;
    }
    let ports = found.at(&["spec", "ports"]).and_then(Value::as_array);
    let wanted = |p: &&Value| p["port"].as_u64() == Some(remote.port.into());
    let Some(port) = ports.into_iter().flatten().find(wanted) else {
        let why = format!(
            "service/{service} in {namespace:?} is not listening on port {}",
            remote.port
        );
        return Some(Verdict::no("ServicePortError", why));
    };
    let slices = slices(server, namespace, service);
    if slices.is_empty() {
        let why = format!("cannot find endpointslices for service/{service} in {namespace:?}");
        return Some(Verdict::no("EndpointsNotFound", why));
    }
    let name = port["name"].as_str().unwrap_or("");
    if slices.iter().any(|slice| has_end_point(slice, name)) {
        return None;
    }
    let why = format!(
        "endpointslices for service/{service} in {namespace:?} have no addresses with port name {name:?}"
    );
    Some(Verdict::no("MissingEndpoints", why))
}

/// The slices of a service.
pub(super) fn slices(
    server: &Server,
    namespace: &str,
    service: &str,
) -> Vec<std::sync::Arc<Object>> {
    let mut all = server.list("discovery.k8s.io", "endpointslices", namespace);
    all.retain(|slice| slice.label(SERVICE_NAME) == Some(service));
    all
}

fn has_end_point(slice: &Object, port_name: &str) -> bool {
    let list = |field: &str| {
        let found = slice.at(&[field]).and_then(Value::as_array);
        found.into_iter().flatten()
    };
    list("endpoints").any(|e| e["conditions"]["ready"].as_bool().unwrap_or(true))
        && list("ports").any(|p| p["name"].as_str() == Some(port_name) && p["port"].is_number())
}

/// The host and port that people know the server by.
fn host(remote: &Remote, service: &Object) -> Result<String, String> {
    let address = match service.str_at(&["spec", "type"]) {
        "ExternalName" => service.str_at(&["spec", "externalName"]),
        _ => service.str_at(&["spec", "clusterIP"]),
    };
    match address {
        "None" => Err("cannot route to service with ClusterIP \"None\"".to_owned()),
        v6 if v6.contains(':') => Ok(format!("[{v6}]:{}", remote.port)),
        other => Ok(format!("{other}:{}", remote.port)),
    }
}

async fn discovery(server: &Server, remote: &Remote, service: &Object) -> Result<(), String> {
    let path = format!("/apis/{}/{}", remote.group, remote.version);
    let url = format!("https://{}{path}", host(remote, service)?);
    let user = User::new("system:kube-aggregator", &[SYSTEM_MASTERS]);
    let failing = |why: String| format!("failing or missing response from {url}: {why}");
    match get(server, remote, &user, path, HeaderMap::new()).await {
        Ok((200..=299, ..)) => Ok(()),
        Ok((code, ..)) => Err(failing(format!("bad status from {url}: {code}"))),
        Err(cause) => Err(failing(format!("Get {url:?}: {cause}"))),
    }
}

/// Asks the other server for something, as somebody.
///
/// # Errors
/// There is no answer.
pub(super) async fn get(
    server: &Server,
    remote: &Remote,
    user: &User,
    path: String,
    mut headers: HeaderMap,
) -> Result<(u16, HeaderMap, Bytes), String> {
    set_user(&mut headers, user);
    let message = Message {
        method: Method::GET,
        path,
        headers,
        body: Bytes::new(),
        timeout: TIMEOUT,
        answer_limit: ANSWER_BYTES,
    };
    let sent = server
        .outbound()
        .exchange(server, &remote.destination, message);
    let answer = sent.await.map_err(|error| match error.cause {
        crate::outbound::Cause::Timeout => {
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned()
        }
        other => other.to_string(),
    })?;
    Ok((answer.status.as_u16(), answer.headers, answer.body))
}
