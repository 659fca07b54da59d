//! The road that every request takes, stage by stage: authentication, audit, impersonation, flow control, authorization, and
//! then the verb. One function, so that the order can be read.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use api::{Part, Subresource, Verb};
use futures::FutureExt;
use http::header::HeaderName;
use http::{Extensions, Method, Request, Response};
use machinery::ApiError;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::authenticate::authenticate;
use crate::authorize::outcome;
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::connect::websocket::{self, Messages};
use crate::flow::{Refusal, Seat, Served};
use crate::go::duration as go_duration;
use crate::measures::Stage;
use crate::negotiate::{self, STREAMS, SUPPORTED};
use crate::resource::Resource;
use crate::server::Server;
use crate::{aggregation, connect, custom, impersonate, paths, read, respond, virtuals, write};

/// How a client learns which flow schema and which level its request belongs to.
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Answers a request.
pub(crate) async fn answer(
    server: Arc<Server>,
    mut request: Request<RequestBody>,
) -> Response<Body> {
    let mut call = Call::new(server.clone(), &mut request);
    let (parts, body) = request.into_parts();
    let started = Instant::now();
    server.rest().note();
    let under_way = server.under_way(&call);
    let prepared = prepare(&mut call, &parts.extensions).await;
    let call = Arc::new(call);
    let in_flight = server.metrics().begin(&call);
    let result = match prepared {
        Ok(seat) => {
            let seat = server.flow().serve(&call, seat);
            let work = Box::pin(dispatch(&call, body));
            let result = unless_panic(&call, deadline(&call, work)).await;
            result.map(|response| held(&call, response, (seat, under_way)))
        }
        Err(Refusal::Answer(response)) => Ok(*response),
        Err(Refusal::Error(error)) => Err(error),
    };
    let mut response = result.unwrap_or_else(|error| {
        if error.code >= 500 {
            let (verb, path) = (call.info.verb, &call.info.path);
            tracing::warn!(code = error.code, verb, path, %error, "a request failed");
        }
        respond::error(&call.form, &error)
    });
    for text in call.take_warnings() {
        respond::warn(&mut response, &text);
    }
    if let Some((schema, level)) = &call.flow {
        let headers = response.headers_mut();
        headers.insert(SCHEMA_UID, schema.clone());
        headers.insert(LEVEL_UID, level.clone());
    }
    let bytes = http_body::Body::size_hint(response.body()).exact();
    in_flight.end(&call, response.status().as_u16(), started.elapsed(), bytes);
    call.trail
        .finish(call.info.is_long_running(), response)
        .await
}

/// The stages that know nothing of resources.
async fn prepare(call: &mut Call, extensions: &Extensions) -> Result<Seat, Refusal> {
    let began = Instant::now();
    let known = authenticate(call, extensions).await;
    let passed = |call: &Call, stage, began: Instant| {
        let stages = &call.server.metrics().measures.stages;
        stages.passed(stage, began.elapsed());
    };
    passed(call, Stage::Authentication, began);
    match known {
        Ok(user) => {
            let measures = &call.server.metrics().measures;
            measures.authenticated(Some(&user.name), began.elapsed());
            call.known_as(user);
        }
        Err(error) => {
            let measures = &call.server.metrics().measures;
            measures.authenticated(None, began.elapsed());
            call.trail.refused(call, extensions, &error).await;
            return Err(error.into());
        }
    }
    if let Err(error) = timeout(call) {
        call.trail.refused(call, extensions, &error).await;
        return Err(error.into());
    }
    let began = Instant::now();
    call.trail.begin(call, extensions).await?;
    passed(call, Stage::Audit, began);
    if call.trail.reads_answers() {
        // What only the client can read cannot be written down.
        call.headers.remove(http::header::ACCEPT_ENCODING);
        call.form.gzip = false;
    }
    let began = Instant::now();
    impersonate::impersonate(call).await?;
    passed(call, Stage::Impersonation, began);
    let server = call.server.clone();
    let began = Instant::now();
    let seat = {
        let reads = matches!(call.info.verb, "get" | "list" | "watch");
        let _waiting = server.metrics().measures.stages.wait(reads);
        server.flow().enter(call).await?
    };
    passed(call, Stage::Fairness, began);
    let attributes = call.attributes().clone();
    let began = Instant::now();
    let verdict = call
        .server
        .authorizers()
        .decide(&call.server, &attributes)
        .await;
    (call.server.metrics().measures).authorized(verdict.is_allowed(), began.elapsed());
    passed(call, Stage::Authorization, began);
    let decision = match verdict.is_allowed() {
        true => "allow",
        false => "forbid",
    };
    call.annotate("authorization.k8s.io/decision", decision);
    call.annotate("authorization.k8s.io/reason", &verdict.reason);
    outcome(&attributes, &verdict)?;
    Ok(seat)
}

/// A client may want its answer sooner than in the usual time.
fn timeout(call: &mut Call) -> Result<(), ApiError> {
    let asked = call.query.text("timeout");
    if call.info.is_long_running() || asked.is_empty() {
        return Ok(());
    }
    let asked = go_duration(asked).map_err(|why| {
        let what = "invalid timeout specified in the request URL";
        ApiError::bad_request(format!("{what} - {why}"))
    })?;
    if !asked.is_zero() {
        call.timeout = call.timeout.min(asked);
    }
    Ok(())
}

/// An answer that is sent bit by bit keeps its seat until its end; a watch has begun, which is all that a seat is for.
fn held(
    call: &Call,
    response: Response<Body>,
    (seat, under_way): (Served, Option<TaskTrackerToken>),
) -> Response<Body> {
    if call.info.verb == "watch" {
        let fairness = call.server.flow().fairness();
        let watcher = fairness.and_then(|f| f.watchers.register(call));
        return response.map(|body| body.holding(watcher));
    }
    response.map(|body| body.holding((seat, under_way)))
}

/// The work on a request that panics takes nothing else with it.
async fn unless_panic(
    call: &Call,
    work: impl Future<Output = Result<Response<Body>, ApiError>>,
) -> Result<Response<Body>, ApiError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            call.trail.panicked(text.unwrap_or("unknown")).await;
            let why = "This request caused apiserver to panic. Look in the logs for details.";
            Err(ApiError::new(500, "InternalError", why))
        }
    }
}

async fn deadline(
    call: &Call,
    work: impl Future<Output = Result<Response<Body>, ApiError>>,
) -> Result<Response<Body>, ApiError> {
    if call.info.is_long_running() {
        return work.await;
    }
    let late = "request did not complete within the allotted timeout";
    tokio::time::timeout(call.timeout, work)
        .await
        .unwrap_or_else(|_| Err(ApiError::timeout(late)))
}

async fn dispatch(call: &Arc<Call>, body: RequestBody) -> Result<Response<Body>, ApiError> {
    let info = &call.info;
    if let Some(remote) = call.server.aggregation().find(&info.path) {
        return Box::pin(aggregation::proxy::proxy(call, &remote, body)).await;
    }
    if !info.is_resource {
        return Box::pin(paths::answer(call)).await;
    }
    let Some(resource) = find(call).await? else {
        // Another version of a group of the program's is a path that its routes know, and nothing there.
        let is_own = api::KINDS
            .iter()
            .any(|kind| kind.names().group == info.group);
        if is_own || call.server.resources().serves(&info.group, &info.version) {
            return Err(ApiError::path_not_found());
        }
        return Ok(respond::text(404, "404 page not found\n"));
    };
    check_scope(call, &resource)?;
    resource.ready().await;
    if let Some(text) = resource.kind.deprecation() {
        let of = [
            &info.group,
            &info.version,
            &info.resource,
            &info.subresource,
        ];
        (call.server.metrics().measures).outlived(of.map(|text| &**text));
        call.warn(text);
    }
    produce(call, &resource)?;
    if !info.subresource.is_empty() {
        return Box::pin(subresource(call, &resource, body)).await;
    }
    main_resource(call, &resource, body).await
}

/// The resource of the path. What is not there may be defined in this moment: an object is read from the store, and a client
/// that has seen a definition established there finds it served.
async fn find(call: &Call) -> Result<Option<Resource>, ApiError> {
    let (resources, info) = (call.server.resources(), &call.info);
    let get = || resources.get(&info.group, &info.version, &info.resource);
    if let Some(found) = get() {
        return Ok(Some(found));
    }
    custom::wait_fresh(call).await?;
    Ok(get())
}

/// A path must have the shape that the resource's scope asks for (security lesson 2019-11247).
fn check_scope(call: &Call, resource: &Resource) -> Result<(), ApiError> {
    let info = &call.info;
    let is_namespace = info.resource == "namespaces" && info.group.is_empty();
    let by_name = matches!(info.verb, "get" | "update" | "patch" | "delete");
    let fits = match resource.is_namespaced() {
        true => !by_name || !info.namespace.is_empty(),
        false if is_namespace => info.namespace.is_empty() || info.namespace == info.name,
        false => info.namespace.is_empty(),
    };
    if fits && !info.overlong {
        Ok(())
    } else {
        Err(ApiError::path_not_found())
    }
}

/// A route is found by what its client accepts; that of custom kinds by its path alone.
fn produce(call: &Call, resource: &Resource) -> Result<(), ApiError> {
    let streams = matches!(
        &*call.info.subresource,
        "log" | "exec" | "attach" | "portforward" | "proxy"
    );
    if streams || resource.kind.may_be_outdated() {
        return Ok(());
    }
    match call.info.verb {
        "list" | "watch" => negotiate::produce(&call.headers, &[SUPPORTED, STREAMS].concat()),
        _ => negotiate::produce(&call.headers, SUPPORTED),
    }
}

fn not_allowed() -> ApiError {
    let why = "the server does not allow this method on the requested resource";
    ApiError::new(405, "MethodNotAllowed", why)
}

async fn main_resource(
    call: &Arc<Call>,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let can = |verb: Verb| match resource.kind.verbs().contains(&verb) {
        true => Ok(()),
        false => Err(not_allowed()),
    };
    let named = !call.info.name.is_empty();
    match call.info.verb {
        "create" if named => return Err(not_allowed()),
        "update" | "patch" if !named => return Err(not_allowed()),
        "get" => can(Verb::Get)?,
        "list" => can(Verb::List)?,
        "watch" => can(Verb::Watch)?,
        "create" => can(Verb::Create)?,
        "update" => can(Verb::Update)?,
        "patch" => can(Verb::Patch)?,
        "delete" => can(Verb::Delete)?,
        "deletecollection" => can(Verb::DeleteCollection)?,
        _ => return Err(not_allowed()),
    }
    // On the heap: each of these has a road of its own that is long, and most requests take the shortest.
    match call.info.verb {
        "get" if !resource.is_kept() => virtuals::component_status::get(call, resource).await,
        "list" if !resource.is_kept() => virtuals::component_status::list(call, resource).await,
        "get" => read::get::get(call, resource).await,
        "list" => Box::pin(read::list::list(call, resource)).await,
        "watch" => {
            let events = Box::pin(read::watch::watch(call, resource)).await?;
            websocket::over(call, events, Messages::Events)
        }
        "create" if resource.names().plural == "bindings" => {
            Box::pin(write::binding::bind_named(call, body)).await
        }
        "create" if !resource.is_kept() => Box::pin(virtuals::answer(call, resource, body)).await,
        "create" => Box::pin(write::create::create(call, resource, body)).await,
        "update" => Box::pin(write::update::update(call, resource, Part::Main, body)).await,
        "patch" => {
            let main = write::Target::Part(Part::Main);
            Box::pin(write::patch::patch(call, resource, main, body)).await
        }
        "delete" => Box::pin(write::delete::delete(call, resource, body)).await,
        _ => Box::pin(write::collection::delete_collection(call, resource, body)).await,
    }
}

async fn subresource(
    call: &Arc<Call>,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let subresource = resource.subresource(&call.info.subresource);
    let subresource = subresource.ok_or_else(ApiError::path_not_found)?;
    let verb = call.info.verb;
    match (subresource, verb) {
        (Subresource::Part(Part::Finalize), "get" | "patch") => Err(not_allowed()),
        (Subresource::Part(_), "get") => read::get::get(call, resource).await,
        (Subresource::Part(part), "update") => {
            write::update::update(call, resource, part, body).await
        }
        (Subresource::Part(part), "patch") => {
            write::patch::patch(call, resource, write::Target::Part(part), body).await
        }
        (Subresource::Scale { .. }, "get") => write::scale::get(call, resource).await,
        (Subresource::Scale { .. }, "update") => write::scale::update(call, resource, body).await,
        (Subresource::Scale { .. }, "patch") => {
            write::patch::patch(call, resource, write::Target::Scale, body).await
        }
        (Subresource::Binding, "create") => write::binding::bind(call, resource, body).await,
        (Subresource::Eviction, "create") => write::eviction::evict(call, resource, body).await,
        (Subresource::Token, "create") => virtuals::token::issue(call, resource, body).await,
        (Subresource::Log, "get") => {
            let log = connect::kubelet::log(call, resource).await?;
            websocket::over(call, log, Messages::Pieces)
        }
        (Subresource::Exec | Subresource::Attach | Subresource::PortForward, "get" | "create") => {
            connect::kubelet::stream(call, resource, subresource, body).await
        }
        (Subresource::Proxy, _) if call.method != Method::CONNECT => {
            connect::proxy::proxy(call, resource, body).await
        }
        _ => Err(not_allowed()),
    }
}
