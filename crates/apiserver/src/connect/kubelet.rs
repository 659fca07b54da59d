//! log, exec, attach, port-forward: the kubelet answers, the server passes on.
//!
//! Behaviour: `pkg/registry/core/pod/rest`, `pkg/registry/core/pod/strategy.go`.

use access::Attributes;
use api::Subresource;
use form_urlencoded::Serializer;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use machinery::{ApiError, Object};
use tokio_rustls::TlsConnector;

use super::client::{KubeletTls, Outgoing, join, limited_text, upgrade_headers};
use super::options::options;
use super::target;
use crate::admit::{self, Operation};
use crate::authorize::authorize;
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::resource::Resource;
use crate::respond;

fn kubelets(call: &Call) -> Result<&TlsConnector, ApiError> {
    let missing = || ApiError::internal("this server has no credentials for kubelets");
    call.server
        .kubelets()
        .map(KubeletTls::connector)
        .ok_or_else(missing)
}

fn nothing() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn with_query(path: String, query: Serializer<'_, String>) -> String {
    let mut query = query;
    let text = query.finish();
    if text.is_empty() {
        path
    } else {
        format!("{path}?{text}")
    }
}

/// Answers GET on `pods/log`.
pub(crate) async fn log(call: &Call, resource: &Resource) -> Result<Response<Body>, ApiError> {
    resource.key(&call.info.namespace, &call.info.name)?;
    check_log_options(call)?;
    let pod = target::pod(call, &call.info.name)?;
    let container = target::container(&pod, call.query.text("container"))?;
    let node = pod.str_at(&["spec", "nodeName"]);
    if node.is_empty() {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let outgoing = Outgoing {
        address: target::kubelet(call, node)?,
        tls: Some(kubelets(call)?),
        method: Method::GET,
        path: log_path(call, &pod, &container),
        headers: HeaderMap::new(),
    };
    let answer = outgoing.send(nothing()).await?;
    let (parts, body) = answer.into_parts();
    if !parts.status.is_success() {
        return Err(log_error(call, parts.status, &limited_text(body).await));
    }
    let mut response = Response::new(Body::wrap(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    Ok(response)
}

fn log_path(call: &Call, pod: &Object, container: &str) -> String {
    let mut query = Serializer::new(String::new());
    for flag in ["follow", "previous", "timestamps"] {
        if call.query.flag(flag) {
            query.append_pair(flag, "true");
        }
    }
    for key in [
        "sinceSeconds",
        "sinceTime",
        "tailLines",
        "limitBytes",
        "stream",
    ] {
        if let Some(value) = call.query.get(key) {
            query.append_pair(key, value);
        }
    }
    let path = format!(
        "/containerLogs/{}/{}/{container}",
        pod.namespace(),
        pod.name()
    );
    with_query(path, query)
}

fn log_error(call: &Call, status: StatusCode, text: &str) -> ApiError {
    match status {
        StatusCode::BAD_REQUEST => ApiError::bad_request(text),
        StatusCode::INTERNAL_SERVER_ERROR => ApiError::internal(text),
        StatusCode::NOT_FOUND => {
            let why = format!(
                "the server could not find the requested resource ( pods/log {})",
                call.info.name
            );
            ApiError::new(404, "NotFound", why)
        }
        other => {
            let why = format!(
                "an error on the server ({text:?}) has prevented the request from succeeding (get pods/log {})",
                call.info.name
            );
            let code = if other.is_redirection() {
                502
            } else {
                other.as_u16()
            };
            ApiError::new(code, "", why)
        }
    }
}

fn check_log_options(call: &Call) -> Result<(), ApiError> {
    let mut errors = machinery::ErrorList::new();
    let path = machinery::Path::new;
    for (key, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        let Some(text) = call.query.get(key) else {
            continue;
        };
        match text.parse::<i64>() {
            Ok(number) if number >= least => {}
            Ok(number) => {
                let detail = if least == 0 {
                    "must be greater than or equal to 0"
                } else {
                    "must be greater than 0"
                };
                errors.invalid(&path(key), number, detail);
            }
            Err(_) => return Err(ApiError::bad_request(format!("invalid {key}: {text:?}"))),
        }
    }
    if call.query.get("sinceSeconds").is_some() && call.query.get("sinceTime").is_some() {
        errors.forbidden(
            &path(""),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        );
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(
        "",
        "PodLogOptions",
        &call.info.name,
        &errors,
    ))
}

/// Answers exec, attach and port-forward: an upgrade that is passed on to the pod's kubelet.
pub(crate) async fn stream(
    call: &Call,
    resource: &Resource,
    subresource: Subresource,
    _body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    resource.key(&call.info.namespace, &call.info.name)?;
    if call.info.verb != "create" {
        // A WebSocket begins with GET; who opens a stream into a pod needs the right to `create` one all the same.
        let attributes = Attributes {
            verb: "create".to_owned(),
            ..Attributes::clone(call.attributes())
        };
        authorize(&call.server, &attributes).await?;
    }
    let pod = target::pod(call, &call.info.name)?;
    let (kind, mut options) = options(call, resource, subresource.name());
    let operation = Operation::connect(call, resource).of_kind(kind);
    admit::mutate(&operation, &mut options, Some(&pod)).await?;
    admit::validate(&operation, &options, Some(&pod)).await?;
    let node = pod.str_at(&["spec", "nodeName"]);
    if node.is_empty() {
        let why = format!("pod {} does not have a host assigned", pod.name());
        return Err(ApiError::bad_request(why));
    }
    let path = stream_path(call, &pod, subresource)?;
    let near = call.upgrade.lock().take();
    if !call.headers.contains_key(header::UPGRADE) || near.is_none() {
        return Ok(respond::error(
            &call.form,
            &ApiError::bad_request("Upgrade request required"),
        ));
    }
    let outgoing = Outgoing {
        address: target::kubelet(call, node)?,
        tls: Some(kubelets(call)?),
        method: call.method.clone(),
        path,
        headers: upgrade_headers(&call.headers),
    };
    join(outgoing.send(nothing()).await?, near, call.trail.ending()).await
}

fn stream_path(call: &Call, pod: &Object, subresource: Subresource) -> Result<String, ApiError> {
    let (namespace, name) = (pod.namespace(), pod.name());
    let mut query = Serializer::new(String::new());
    if subresource == Subresource::PortForward {
        for port in call.query.all("ports").flat_map(|p| p.split(',')) {
            query.append_pair("port", port);
        }
        return Ok(with_query(
            format!("/portForward/{namespace}/{name}"),
            query,
        ));
    }
    let container = target::container(pod, call.query.text("container"))?;
    let streams = [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ];
    for (asked, told) in streams {
        if call.query.flag(asked) {
            query.append_pair(told, "1");
        }
    }
    let verb = if subresource == Subresource::Exec {
        "exec"
    } else {
        "attach"
    };
    if subresource == Subresource::Exec {
        if call.query.all("command").next().is_none() {
            return Err(ApiError::bad_request(
                "you must specify at least 1 command for the container",
            ));
        }
        for word in call.query.all("command") {
            query.append_pair("command", word);
        }
    }
    Ok(with_query(
        format!("/{verb}/{namespace}/{name}/{container}"),
        query,
    ))
}
