//! What of the node a request to the kubelet's API is about, and whether the caller may.

use hyper::{Method, Response, StatusCode};
use serving::{Access, Caller, Right};

use super::{Body, text};

/// Whether the caller may do that to this node.
pub(super) async fn authorize(
    access: &Access,
    node: &str,
    caller: &Caller,
    method: &Method,
    path: &str,
) -> Result<(), Response<Body>> {
    let verb = verb_of(method);
    for subresource in resources_of(path) {
        let right = Right::Node {
            verb,
            name: node.to_owned(),
            subresource,
        };
        match access.allows(caller, right).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(_) => {
                let message = format!(
                    "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                    caller.name
                );
                return Err(text(StatusCode::INTERNAL_SERVER_ERROR, message));
            }
        }
    }
    let subresources = resources_of(path).join(" ");
    let message = format!(
        "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])\n",
        caller.name
    );
    Err(text(StatusCode::FORBIDDEN, message))
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The sub-resources of the node of which one has to be allowed, the finest first.
fn resources_of(path: &str) -> &'static [&'static str] {
    let first = path.split('/').find(|p| !p.is_empty()).unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" | "livez" | "readyz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "statusz" => &["statusz"],
        "flagz" => &["configz"],
        _ => &["proxy"],
    }
}
