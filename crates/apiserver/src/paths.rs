//! Paths that are no resources: discovery, OpenAPI, version, metrics, keys of service accounts, and what the server
//! says of itself; the checks of its health stand in `health`.

use std::net::SocketAddr;

use http::header::{ACCEPT, CACHE_CONTROL, WARNING};
use http::{HeaderValue, Method, Response};
use jiff::Timestamp;
use machinery::ApiError;
use machinery::about::{self, About};
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::identity_lease::IdentityLease;
use crate::metrics::{holdings, process};
use crate::negotiate::produce;
use crate::{audit, custom, discovery, health, openapi, respond};

/// Answers a path.
pub(crate) async fn answer(call: &Call) -> Result<Response<Body>, ApiError> {
    if let Some(found) = own_page(call).await {
        return Ok(found);
    }
    if !matches!(call.method, Method::GET | Method::HEAD) {
        let why = "the server does not allow this method on the requested resource";
        return Err(ApiError::new(405, "MethodNotAllowed", why));
    }
    let path = call.info.path.trim_end_matches('/');
    if path.starts_with("/apis") || path.starts_with("/openapi") {
        custom::wait_fresh(call).await?;
    }
    if let Some(found) = discovery::answer(call)? {
        return Ok(found);
    }
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    Ok(match segments.as_slice() {
        ["" | "index.html"] => respond::indented(&call.form, &json!({"paths": root_paths(call)})),
        ["version", _, ..] | ["openid", "v1", "jwks", _, ..] => {
            return Err(ApiError::path_not_found());
        }
        ["version"] => {
            produce(&call.headers, &["application/json"])?;
            respond::indented(&call.form, &version())
        }
        ["debug", "api_priority_and_fairness", name] => {
            let detailed = !call.query.text("includeRequestDetails").is_empty();
            let dumped = call
                .server
                .flow()
                .fairness()
                .and_then(|f| f.dump(name, detailed));
            match dumped {
                Some(table) => respond::plain(200, table),
                None => respond::text(404, "404 page not found\n"),
            }
        }
        ["openapi", ..] => {
            // These paths are looked up as they are.
            let rest: Vec<&str> = call.info.path.split('/').skip(2).collect();
            openapi::answer(call, &rest).await?
        }
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
    let signer = call.server.policy().token_signer.as_ref();
    let seconds = signer.map_or(3600, |signer| signer.good_for().as_secs());
    if let Ok(kept) = HeaderValue::try_from(format!("public, max-age={seconds}")) {
        response.headers_mut().insert(CACHE_CONTROL, kept);
    }
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
        "/flagz",
        "/healthz",
        "/livez",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/readyz",
        "/statusz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend(health::paths());
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

/// The pages about the server, which ask for no method.
async fn own_page(call: &Call) -> Option<Response<Body>> {
    let path = call.info.path.as_str();
    if let Some(page) = about::Page::at(path) {
        return Some(about_server(call, page));
    }
    let (kind, name) = match path.strip_prefix('/')?.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (&path[1..], None),
    };
    Some(match (kind, name) {
        ("healthz" | "livez" | "readyz", None) => health::all(call, kind).await,
        ("healthz" | "livez" | "readyz", Some(name)) => health::one(call, kind, name).await,
        ("metrics", None) => metrics(call).await,
        ("metrics", Some("slis")) => {
            let text = call.server.metrics().health.lock().render();
            figures(call, text)
        }
        _ => return None,
    })
}

/// `/statusz` and `/flagz`.
fn about_server(call: &Call, page: about::Page) -> Response<Body> {
    let accept = call.headers.get(ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or("");
    let started = linux::own::Process::read().map_or(0.0, |process| process.started_seconds);
    let about = About {
        component: "apiserver",
        started: Timestamp::from_second(started as i64).unwrap_or(call.now),
        now: call.now,
        paths: &root_paths(call),
        flags: &call.server.settings.flags,
    };
    let answer = page.answer(&about, accept, call.form.pretty);
    let body = answer.body.into();
    let mut response = respond::whole(answer.code, &call.form, &answer.media_type, body);
    if let Some(warning) = answer.warning.and_then(|text| text.parse().ok()) {
        response.headers_mut().insert(WARNING, warning);
    }
    response
}

/// A page for Prometheus.
fn figures(call: &Call, text: String) -> Response<Body> {
    let media = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    let mut response = respond::whole(200, &call.form, media, text.into());
    if let Some(process) = linux::own::Process::read() {
        let started = HeaderValue::from(process.started_seconds as u64);
        response
            .headers_mut()
            .insert("process-start-time-unix", started);
    }
    response
}

async fn metrics(call: &Call) -> Response<Body> {
    let mut text = call.server.metrics().render();
    let identity = call.server.identity_lease();
    let identity = identity.map_or("", IdentityLease::name);
    (call.server.metrics().measures.reloads).render(&mut text, identity);
    holdings::render_store(&call.server, &mut text).await;
    text += &call.server.admission_policies().render();
    match call.server.audit() {
        Some(audit) => audit.counts().render(&mut text),
        // Where nothing is written down nothing has been.
        None => audit::Counts::default().render(&mut text),
    }
    call.server.aggregation().render(&mut text);
    if let Some(signer) = &call.server.policy().token_signer {
        signer.render(&mut text);
    }
    if let Some(fairness) = call.server.flow().fairness() {
        fairness.render(&mut text);
    }
    holdings::render_caches(&call.server, &mut text);
    holdings::render_feeds(&call.server, &mut text);
    holdings::render_given(&call.server, &mut text);
    process::render_process(&mut text);
    text += &machinery::metrics::registered(&text);
    figures(call, text)
}
