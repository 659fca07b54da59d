//! Paths that are no resources: discovery, OpenAPI, version, health, metrics, keys of service accounts.

use std::net::SocketAddr;

use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, Response};
use machinery::ApiError;
use serde_json::{Value, json};
use store::{Condition, Range};

use crate::body::Body;
use crate::call::Call;
use crate::metrics::{holdings, process};
use crate::{custom, discovery, openapi, respond};

/// Answers a path.
pub(crate) async fn answer(call: &Call) -> Result<Response<Body>, ApiError> {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        let why = "the server does not allow this method on the requested resource";
        return Err(ApiError::new(405, "MethodNotAllowed", why));
    }
    let path = call.info.path.trim_end_matches('/');
    if path.starts_with("/apis") || path.starts_with("/openapi") {
        custom::wait_fresh(call).await?;
    }
    if let Some(found) = discovery::answer(call) {
        return Ok(found);
    }
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    Ok(match segments.as_slice() {
        [""] => respond::indented(&call.form, &json!({"paths": root_paths(call)})),
        ["version"] => respond::indented(&call.form, &version()),
        ["healthz" | "livez" | "readyz"] => health(call, segments[0]).await,
        ["healthz" | "livez" | "readyz", name] => one_check(call, name).await,
        ["metrics"] => metrics(call),
        ["debug", "api_priority_and_fairness", name] => {
            let dumped = call.server.flow().fairness().and_then(|f| f.dump(name));
            match dumped {
                Some(table) => respond::text(200, table),
                None => respond::text(404, "404 page not found\n"),
            }
        }
        ["openapi", rest @ ..] => openapi::answer(call, rest).await?,
        [".well-known", "openid-configuration"] => {
            let settings = &call.server.settings;
            let url = match call.server.policy().keys_url.as_str() {
                "" => {
                    let at = SocketAddr::new(settings.advertise_address, settings.advertise_port);
                    format!("https://{at}/openid/v1/jwks")
                }
                url => url.to_owned(),
            };
            let document = call.server.tokens().openid_configuration(&url);
            published(call, "application/json", &document)
        }
        ["openid", "v1", "jwks"] => published(
            call,
            "application/jwk-set+json",
            &call.server.tokens().jwks(),
        ),
        ["api", ..] => return Err(ApiError::path_not_found()),
        ["apis", group, ..] if knows_group(call, group) => return Err(ApiError::path_not_found()),
        _ => respond::text(404, "404 page not found\n"),
    })
}

/// Whether any version of a group is served.
fn knows_group(call: &Call, group: &str) -> bool {
    let all = call.server.resources().all();
    all.iter().any(|resource| resource.names().group == group)
}

/// A document for others to keep: keys that are used must have been published for so long.
fn published(call: &Call, media: &'static str, document: &Value) -> Response<Body> {
    let body = serde_json::to_vec(document).unwrap_or_default();
    let mut response = respond::whole(200, &call.form, media, body.into());
    let kept = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(CACHE_CONTROL, kept);
    response
}

/// What `/version` says.
fn version() -> Value {
    json!({
        "major": "1", "minor": "37", "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36", "gitVersion": "v1.37.0",
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc",
        "platform": platform(),
    })
}

/// System and machine, in Go's words.
pub(crate) fn platform() -> String {
    format!("{}/{}", std::env::consts::OS, go_architecture())
}

fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn root_paths(call: &Call) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for remote in call.server.aggregation().remotes().iter() {
        paths.push(format!("/apis/{}", remote.group));
        paths.push(format!("/apis/{}/{}", remote.group, remote.version));
    }
    for resource in call.server.resources().all() {
        let names = resource.names();
        if names.group.is_empty() {
            continue;
        }
        paths.push(format!("/apis/{}", names.group));
        paths.push(format!("/apis/{}/{}", names.group, names.version));
    }
    paths.sort();
    paths.dedup();
    paths
}

const CHECKS: &[&str] = &["ping", "etcd", "informer-sync"];

async fn check(call: &Call, name: &str) -> Result<(), String> {
    match name {
        "etcd" => {
            let range = Range {
                count_only: true,
                ..Range::key(b"/registry/health".to_vec())
            };
            call.server
                .store()
                .range(range)
                .await
                .map(drop)
                .map_err(|e| e.to_string())
        }
        _ => Ok(()),
    }
}

async fn health(call: &Call, path: &str) -> Response<Body> {
    let mut lines = String::new();
    let mut failed = false;
    let excluded: Vec<&str> = call.query.all("exclude").collect();
    for name in CHECKS {
        if excluded.contains(name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check(call, name).await {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                tracing::warn!(check = name, why, "a health check failed");
                failed = true;
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    if path == "readyz" {
        // A store that takes no writes is no reason to restart the server, so this is no liveness.
        let condition = call.server.store().condition();
        match condition {
            Condition::Serving => lines.push_str("[+]store-writable ok\n"),
            _ => {
                failed = true;
                lines.push_str(&format!("[-]store-writable failed: {condition}\n"));
            }
        }
    }
    if path == "readyz" && call.server.is_ending() {
        failed = true;
        lines.push_str("[-]shutdown failed: reason withheld\n");
    } else if path == "readyz" {
        lines.push_str("[+]shutdown ok\n");
    }
    if failed {
        return respond::text(500, format!("{lines}{path} check failed\n"));
    }
    let verbose = call.query.get("verbose").is_some();
    respond::text(
        200,
        if verbose {
            format!("{lines}{path} check passed\n")
        } else {
            "ok".to_owned()
        },
    )
}

async fn one_check(call: &Call, name: &str) -> Response<Body> {
    if !CHECKS.contains(&name) {
        return respond::text(404, "404 page not found\n");
    }
    match check(call, name).await {
        Ok(()) => respond::text(200, "ok"),
        Err(_) => respond::text(500, format!("internal server error: {name} failed\n")),
    }
}

fn metrics(call: &Call) -> Response<Body> {
    let mut text = call.server.metrics().render();
    text += &call.server.admission_policies().render();
    if let Some(audit) = call.server.audit() {
        audit.counts().render(&mut text);
    }
    call.server.aggregation().render(&mut text);
    if let Some(fairness) = call.server.flow().fairness() {
        fairness.render(&mut text);
    }
    holdings::render_caches(&call.server, &mut text);
    holdings::render_feeds(&call.server, &mut text);
    holdings::render_given(&call.server, &mut text);
    process::render_process(&mut text);
    respond::whole(
        200,
        &call.form,
        "text/plain; version=0.0.4; charset=utf-8",
        text.into(),
    )
}
