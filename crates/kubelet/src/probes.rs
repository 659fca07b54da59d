//! Probes and hooks: asking a container over HTTP, TCP, gRPC or by a command.

use std::time::Duration;

use cri::v1::ExecSyncRequest;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Pod, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pod_lifecycle::probe::Kind;
use pod_lifecycle::{Event, env, pod as parts};

use crate::context::Context;
use crate::grpc;
use crate::http::{self, Get};

/// The longest output that an event repeats.
const MAX_OUTPUT: usize = 10 << 10;

/// A container to be asked.
pub(crate) struct Target<'a> {
    pub(crate) container: &'a Container,
    pub(crate) id: &'a str,
    /// The addresses of its pod.
    pub(crate) ips: &'a [String],
}

/// What came of a probe.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// It succeeded, with something to remark.
    Warning(String),
    Failure(String),
    /// It could not be asked: that says nothing about the container.
    Error(String),
}

impl Outcome {
    pub(crate) fn success(&self) -> Option<bool> {
        match self {
            Outcome::Success | Outcome::Warning(_) => Some(true),
            Outcome::Failure(_) => Some(false),
            Outcome::Error(_) => None,
        }
    }

    /// What the user is told.
    pub(crate) fn event(&self, kind: Kind) -> Option<Event> {
        let kind = kind.title();
        match self {
            Outcome::Success => None,
            Outcome::Warning(text) => Some(Event::warning(
                "ProbeWarning",
                format!("{kind} probe warning: {text}"),
            )),
            Outcome::Failure(text) => Some(Event::warning(
                "Unhealthy",
                format!("{kind} probe failed: {text}"),
            )),
            Outcome::Error(text) => Some(Event::warning(
                "Unhealthy",
                format!("{kind} probe errored and resulted in unknown state: {text}"),
            )),
        }
    }
}

/// Probes a container once.
pub(crate) async fn probe(
    context: &Context,
    pod: &Pod,
    kind: Kind,
    name: &str,
    id: &str,
    ips: &[String],
) -> Outcome {
    let Some(container) = parts::find_container(pod, name) else {
        return Outcome::Error(format!("no container {name}"));
    };
    let Some(spec) = kind.of(&container) else {
        return Outcome::Success;
    };
    let target = Target {
        container: &container,
        id,
        ips,
    };
    run(context, pod, &target, spec).await
}

async fn run(context: &Context, pod: &Pod, target: &Target<'_>, spec: &Probe) -> Outcome {
    let seconds = spec.timeout_seconds.unwrap_or(1).max(1);
    let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
    if let Some(action) = &spec.exec {
        return exec(context, target, action, timeout).await;
    }
    if let Some(action) = &spec.http_get {
        return match get_of(action, target, "kube-probe/1.37") {
            Ok(get) => http_probe(get, timeout).await,
            Err(why) => Outcome::Error(why),
        };
    }
    if let Some(action) = &spec.tcp_socket {
        return tcp(action, target, timeout).await;
    }
    let place = format!("{}:{}", parts::describe(pod), target.container.name);
    match &spec.grpc {
        Some(action) => grpc(action, target, timeout).await,
        None => Outcome::Error(format!("missing probe handler for {place}")),
    }
}

async fn grpc(action: &GRPCAction, target: &Target<'_>, timeout: Duration) -> Outcome {
    let Ok(port) = u16::try_from(action.port) else {
        return Outcome::Error(format!("invalid port number: {}", action.port));
    };
    let service = action.service.as_deref().unwrap_or_default();
    match grpc::check(&host_of(None, target), port, service, timeout).await {
        Ok(()) => Outcome::Success,
        Err(why) => Outcome::Failure(why),
    }
}

async fn exec(
    context: &Context,
    target: &Target<'_>,
    action: &ExecAction,
    timeout: Duration,
) -> Outcome {
    let words = action.command.as_deref().unwrap_or_default();
    let command = env::expand_static(words, target.container);
    let text = command.join(" ");
    let request = ExecSyncRequest {
        container_id: target.id.to_owned(),
        cmd: command,
        timeout: i64::try_from(timeout.as_secs()).unwrap_or(1),
    };
    let timed_out = || Outcome::Failure(format!("command \"{text}\" timed out after {timeout:?}"));
    let call = context.runtime.exec_sync(request);
    // The runtime keeps the time; this is for one that does not.
    match tokio::time::timeout(timeout + Duration::from_secs(1), call).await {
        Err(_) => timed_out(),
        Ok(Err(error)) if error.code == cri::Code::DeadlineExceeded => timed_out(),
        Ok(Err(error)) => Outcome::Error(error.to_string()),
        Ok(Ok(answer)) => {
            let mut output = answer.stdout;
            output.extend(answer.stderr);
            output.truncate(MAX_OUTPUT);
            match answer.exit_code {
                0 => Outcome::Success,
                _ => Outcome::Failure(String::from_utf8_lossy(&output).into_owned()),
            }
        }
    }
}

async fn tcp(action: &TCPSocketAction, target: &Target<'_>, timeout: Duration) -> Outcome {
    let port = match port_of(&action.port, target.container) {
        Ok(port) => port,
        Err(why) => return Outcome::Error(why),
    };
    let host = host_of(action.host.as_deref(), target);
    match http::dial(&host, port, timeout).await {
        Ok(_) => Outcome::Success,
        Err(why) => Outcome::Failure(why),
    }
}

fn host_of(host: Option<&str>, target: &Target<'_>) -> String {
    let own = host.filter(|h| !h.is_empty()).map(str::to_owned);
    own.or_else(|| target.ips.first().cloned())
        .unwrap_or_default()
}

/// A port number, or the number of a port of that name.
fn port_of(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|p| p.name.as_deref() == Some(name));
            named
                .map(|p| p.container_port)
                .or_else(|| name.parse().ok())
        }
    };
    let Some(number) = number else {
        return Err("couldn't find port in container".to_owned());
    };
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("invalid port number: {number}")),
    }
}

fn get_of(action: &HTTPGetAction, target: &Target<'_>, agent: &str) -> Result<Get, String> {
    let headers = action.http_headers.iter().flatten();
    let mut get = Get {
        tls: action
            .scheme
            .as_deref()
            .is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host: host_of(action.host.as_deref(), target),
        port: port_of(&action.port, target.container)?,
        path: action.path.clone().unwrap_or_default(),
        headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
    };
    if !get.path.starts_with('/') {
        get.path.insert(0, '/');
    }
    let mut default = |name: &str, value: &str| {
        if !get
            .headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case(name))
        {
            get.headers.push((name.to_owned(), value.to_owned()));
        }
    };
    default("User-Agent", agent);
    default("Accept", "*/*");
    // An empty value takes the default away.
    get.headers.retain(|(_, value)| !value.is_empty());
    Ok(get)
}

async fn http_probe(get: Get, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, http::get(&get, timeout)).await {
        Ok(Ok(answer)) if answer.left => Outcome::Warning(format!(
            "Probe terminated redirects, Response body: {}",
            answer.body
        )),
        Ok(Ok(answer)) if (200..400).contains(&answer.status) => Outcome::Success,
        Ok(Ok(answer)) => Outcome::Failure(format!(
            "HTTP probe failed with statuscode: {}",
            answer.status
        )),
        Ok(Err(why)) => Outcome::Failure(format!("Get \"{}\": {why}", get.url())),
        Err(_) => Outcome::Failure(format!(
            "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            get.url()
        )),
    }
}

/// Runs a lifecycle hook; the error is its message for the user.
pub(crate) async fn hook(
    context: &Context,
    pod: &Pod,
    target: &Target<'_>,
    handler: &LifecycleHandler,
) -> Result<(), String> {
    let place = format!(
        "for Container \"{}\" in Pod \"{}\" failed - error:",
        target.container.name,
        parts::describe(pod)
    );
    if let Some(action) = &handler.exec {
        let words = action.command.clone().unwrap_or_default();
        let shown = words.join(" ");
        return exec_hook(context, target, words)
            .await
            .map_err(|(error, output)| {
                format!("Exec lifecycle hook ([{shown}]) {place} {error}, message: {output:?}")
            });
    }
    if let Some(action) = &handler.http_get {
        let done = http_hook(action, target).await;
        let path = action.path.as_deref().unwrap_or_default();
        return done.map_err(|e| format!("HTTP lifecycle hook ({path}) {place} {e}"));
    }
    if let Some(action) = &handler.sleep {
        let seconds = u64::try_from(action.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err("Cannot run handler: invalid handler".to_owned())
}

async fn exec_hook(
    context: &Context,
    target: &Target<'_>,
    cmd: Vec<String>,
) -> Result<(), (String, String)> {
    let text = cmd.join(" ");
    let request = ExecSyncRequest {
        container_id: target.id.to_owned(),
        cmd,
        timeout: 0,
    };
    match context.runtime.exec_sync(request).await {
        Err(error) => Err((error.to_string(), String::new())),
        Ok(answer) if answer.exit_code == 0 => Ok(()),
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend(answer.stderr);
            output.truncate(MAX_OUTPUT);
            let code = answer.exit_code;
            let output = String::from_utf8_lossy(&output).into_owned();
            Err((
                format!("command '{text}' exited with {code}: {output}"),
                output,
            ))
        }
    }
}

/// Any answer will do.
async fn http_hook(action: &HTTPGetAction, target: &Target<'_>) -> Result<(), String> {
    const TIMEOUT: Duration = Duration::from_secs(30);
    let mut get = get_of(action, target, "kube-lifecycle/1.37")?;
    let url = get.url();
    let first = http::get(&get, TIMEOUT).await;
    if get.tls
        && first
            .as_ref()
            .is_err_and(|e| e.contains("HTTP response to HTTPS"))
    {
        // The server speaks plain HTTP: then so do we, without what was meant for it alone.
        get.tls = false;
        get.headers
            .retain(|(n, _)| !n.eq_ignore_ascii_case("authorization"));
        return http::get(&get, TIMEOUT).await.map(drop);
    }
    first
        .map(drop)
        .map_err(|why| format!("Get \"{url}\": {why}"))
}
