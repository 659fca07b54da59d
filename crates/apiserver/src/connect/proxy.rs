//! HTTP to pods, services and nodes through the server.
//!
//! Behaviour: `pkg/registry/core/{pod,service,node}/...` (`ProxyREST`), `k8s.io/apimachinery/pkg/util/proxy`.

use std::net::{IpAddr, SocketAddr};

use access::Lookup;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};
use machinery::{ApiError, Object};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::client::{
    ANY_CERTIFICATE, Outgoing, check_proxyable, forwarded_headers, join, upgrade_headers,
};
use super::links::Links;
use super::options::options;
use super::target::{self, SchemeNamePort};
use crate::admit::{self, Operation};
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::resource::Resource;

/// Answers any method on a `proxy` sub-resource.
pub(crate) async fn proxy(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let (kind, mut options) = options(call, resource, "proxy");
    let operation = Operation::connect(call, resource).of_kind(kind);
    admit::mutate(&operation, &mut options, None).await?;
    admit::validate(&operation, &options, None).await?;
    let wanted = SchemeNamePort::parse(&call.info.name)?;
    resource.key(&call.info.namespace, &wanted.name)?;
    let (address, tls) = place(call, resource, &wanted)?;
    check_proxyable(address.ip())?;
    let info = &call.info;
    let reads = matches!(call.method, Method::GET | Method::HEAD);
    if info.rest.is_empty() && reads && !info.path.ends_with('/') {
        return Ok(to_directory(call));
    }
    let near = call.upgrade.lock().take();
    let upgrades = call.headers.contains_key(header::UPGRADE) && near.is_some();
    let headers = match upgrades {
        true => upgrade_headers(&call.headers),
        false => forwarded_headers(&call.headers),
    };
    let method = call.method.clone();
    let outgoing = Outgoing {
        address,
        tls,
        method,
        path: path(call),
        headers,
    };
    let answer = outgoing.send(body).await?;
    if upgrades {
        return join(answer, near, call.trail.ending()).await;
    }
    let (mut parts, body) = answer.into_parts();
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        parts.headers.remove(name);
    }
    if resource.names().plural == "nodes" {
        return Ok(Response::from_parts(parts, Body::wrap(body)));
    }
    let body = links(call, address).rewrite(&mut parts, body);
    Ok(Response::from_parts(parts, body))
}

fn links(call: &Call, address: SocketAddr) -> Links {
    let path = call.info.path.trim_end_matches('/');
    let rest = call.info.rest.trim_end_matches('/');
    let host = call.headers.get(header::HOST);
    Links {
        prefix: path.strip_suffix(rest).unwrap_or(path).to_owned(),
        target: address.to_string(),
        host: host.and_then(|host| host.to_str().ok()).map(str::to_owned),
    }
}

/// The address of what is meant, and how it is spoken to.
fn place<'a>(
    call: &'a Call,
    resource: &Resource,
    wanted: &SchemeNamePort,
) -> Result<(SocketAddr, Option<&'a TlsConnector>), ApiError> {
    let any = (wanted.scheme == "https").then_some(&*ANY_CERTIFICATE);
    match resource.names().plural {
        "nodes" => {
            let missing = || ApiError::internal("this server has no credentials for kubelets");
            let tls = call.server.kubelets().ok_or_else(missing)?;
            Ok((target::kubelet(call, &wanted.name)?, Some(tls.connector())))
        }
        "pods" => Ok((pod_address(call, wanted)?, any)),
        _ => Ok((service_address(call, wanted)?, any)),
    }
}

/// What is asked for there.
fn path(call: &Call) -> String {
    let info = &call.info;
    let mut path = if info.rest.is_empty() {
        "/".to_owned()
    } else {
        info.rest.clone()
    };
    if info.path.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    if !call.raw_query.is_empty() {
        path = format!("{path}?{}", call.raw_query);
    }
    path
}

/// Relative links work only below a directory.
fn to_directory(call: &Call) -> Response<Body> {
    let mut location = format!("{}/", call.info.path);
    if !call.raw_query.is_empty() {
        location = format!("{location}?{}", call.raw_query);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(value) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

fn pod_address(call: &Call, wanted: &SchemeNamePort) -> Result<SocketAddr, ApiError> {
    let pod = target::pod(call, &wanted.name)?;
    let port = match wanted.port.as_str() {
        "" => first_port(&pod).unwrap_or(80),
        text => text
            .parse()
            .map_err(|_| ApiError::bad_request(format!("invalid port {text:?}")))?,
    };
    let ip: Result<IpAddr, _> = pod.str_at(&["status", "podIP"]).parse();
    let ip = ip.map_err(|_| ApiError::bad_request("address not allowed"))?;
    Ok(SocketAddr::new(ip, port))
}

fn first_port(pod: &Object) -> Option<u16> {
    let containers = pod.at(&["spec", "containers"])?.as_array()?;
    let mut ports = containers
        .iter()
        .filter_map(|c| c["ports"][0]["containerPort"].as_u64());
    ports.next().and_then(|p| u16::try_from(p).ok())
}

/// A ready end point of the service's port.
fn service_address(call: &Call, wanted: &SchemeNamePort) -> Result<SocketAddr, ApiError> {
    let namespace = &call.info.namespace;
    let none = || {
        let why = format!("no endpoints available for service {:?}", wanted.name);
        ApiError::unavailable(why)
    };
    let service = call.server.get("", "services", namespace, &wanted.name);
    let service = service.ok_or_else(|| ApiError::not_found("", "services", &wanted.name))?;
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array);
    let number: Option<u64> = wanted.port.parse().ok();
    let named = |port: &&Value| match (wanted.port.as_str(), number) {
        ("", _) => true,
        (_, Some(number)) => port["port"].as_u64() == Some(number),
        (name, None) => port["name"] == name,
    };
    let only = ports.is_some_and(|ports| ports.len() == 1);
    let unknown = || {
        let why = format!(
            "no service port {:?} found for service {:?}",
            wanted.port, wanted.name
        );
        ApiError::unavailable(why)
    };
    let port = ports
        .into_iter()
        .flatten()
        .find(named)
        .filter(|_| only || !wanted.port.is_empty());
    let port = port.ok_or_else(unknown)?;
    let endpoints = call
        .server
        .get("", "endpoints", namespace, &wanted.name)
        .ok_or_else(none)?;
    let subsets = endpoints.at(&["subsets"]).and_then(Value::as_array);
    for subset in subsets.into_iter().flatten() {
        let ports = subset["ports"].as_array().into_iter().flatten();
        let name = port["name"].as_str().unwrap_or("");
        let own = ports.filter(|p| p["name"].as_str().unwrap_or("") == name);
        let target = own
            .filter_map(|p| u16::try_from(p["port"].as_u64()?).ok())
            .next();
        let ip = subset["addresses"][0]["ip"]
            .as_str()
            .and_then(|ip| ip.parse::<IpAddr>().ok());
        if let (Some(ip), Some(port)) = (ip, target) {
            return Ok(SocketAddr::new(ip, port));
        }
    }
    Err(none())
}
