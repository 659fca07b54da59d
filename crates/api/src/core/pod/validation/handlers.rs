//! Probes and lifecycle hooks: what is run, asked or connected to.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe,
    SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::{ErrorList, Path, names};

use super::Scope;
use crate::check::{self, ErrorListExt};
use crate::view::{Items, OrEmpty};

/// What probes and hooks have in common.
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

impl<'a> From<&'a Probe> for Handler<'a> {
    fn from(probe: &'a Probe) -> Self {
        Self {
            exec: probe.exec.as_ref(),
            http_get: probe.http_get.as_ref(),
            tcp_socket: probe.tcp_socket.as_ref(),
            grpc: probe.grpc.as_ref(),
            sleep: None,
        }
    }
}

impl<'a> From<&'a LifecycleHandler> for Handler<'a> {
    fn from(handler: &'a LifecycleHandler) -> Self {
        Self {
            exec: handler.exec.as_ref(),
            http_get: handler.http_get.as_ref(),
            tcp_socket: handler.tcp_socket.as_ref(),
            grpc: None,
            sleep: handler.sleep.as_ref(),
        }
    }
}

/// Lifecycle and probes of a container that may have them.
pub(super) fn of(errors: &mut ErrorList, path: &Path, container: &Container, scope: &Scope<'_>) {
    let grace = scope.spec.termination_grace_period_seconds;
    if let Some(hooks) = &container.lifecycle {
        lifecycle(errors, &path.child("lifecycle"), hooks, scope);
    }
    let probes = [
        ("livenessProbe", container.liveness_probe.as_ref()),
        ("readinessProbe", container.readiness_probe.as_ref()),
        ("startupProbe", container.startup_probe.as_ref()),
    ];
    for (key, value) in probes {
        let Some(value) = value else { continue };
        let at = path.child(key);
        probe(errors, &at, value, grace);
        if key == "readinessProbe" {
            if let Some(seconds) = value.termination_grace_period_seconds {
                let detail = "must not be set for readinessProbes";
                errors.invalid(&at.child("terminationGracePeriodSeconds"), seconds, detail);
            }
        } else if value.success_threshold.unwrap_or(0) != 1 {
            let at = at.child("successThreshold");
            errors.invalid(&at, value.success_threshold.unwrap_or(0), "must be 1");
        }
    }
}

fn probe(errors: &mut ErrorList, path: &Path, probe: &Probe, grace: Option<i64>) {
    handler(errors, path, &probe.into(), grace);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (key, number) in numbers {
        errors.not_negative(&path.child(key), i64::from(number.unwrap_or(0)));
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|s| *s <= 0) {
        let at = path.child("terminationGracePeriodSeconds");
        errors.invalid(&at, seconds, "must be greater than 0");
    }
}

fn lifecycle(errors: &mut ErrorList, path: &Path, lifecycle: &Lifecycle, scope: &Scope<'_>) {
    let grace = scope.spec.termination_grace_period_seconds;
    let hooks = [
        ("postStart", &lifecycle.post_start),
        ("preStop", &lifecycle.pre_stop),
    ];
    for (key, hook) in hooks {
        if let Some(hook) = hook {
            handler(errors, &path.child(key), &hook.into(), grace);
        }
    }
    let Some(signal) = &lifecycle.stop_signal else {
        return;
    };
    let at = path.child("stopSignal");
    match scope.spec.os.as_ref().map(|os| os.name.as_str()) {
        None => {
            let detail = "may not be set for containers with empty `spec.os.name`";
            errors.forbidden(&at, detail);
        }
        Some("windows") => errors.one_of(&at, signal, &["SIGKILL", "SIGTERM"]),
        Some("linux") if !is_linux_signal(signal) => {
            let all = linux_signals();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            errors.not_supported(&at, signal.as_str(), &all);
        }
        Some(_) => {}
    }
}

fn is_linux_signal(signal: &str) -> bool {
    linux_signals().iter().any(|s| s == signal)
}

fn linux_signals() -> Vec<String> {
    let named = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS \
                 TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX";
    let named = named.split(' ').map(|name| format!("SIG{name}"));
    let low = (1..=15).map(|n| format!("SIGRTMIN+{n}"));
    let high = (1..=14).map(|n| format!("SIGRTMAX-{n}"));
    let mut all: Vec<String> = named.chain(low).chain(high).collect();
    all.sort();
    all
}

fn handler(errors: &mut ErrorList, path: &Path, handler: &Handler<'_>, grace: Option<i64>) {
    let mut count = 0;
    let mut first = |errors: &mut ErrorList, key: &str| {
        count += 1;
        if count > 1 {
            errors.forbidden(&path.child(key), "may not specify more than 1 handler type");
        }
        count == 1
    };
    if let Some(exec) = handler.exec
        && first(errors, "exec")
        && exec.command.items().is_empty()
    {
        errors.required(&path.child("exec").child("command"), "");
    }
    if let Some(http) = handler.http_get
        && first(errors, "httpGet")
    {
        http_get(errors, &path.child("httpGet"), http);
    }
    if let Some(tcp) = handler.tcp_socket
        && first(errors, "tcpSocket")
    {
        check::port_number_or_name(errors, &path.child("tcpSocket").child("port"), &tcp.port);
    }
    if let Some(grpc) = handler.grpc
        && first(errors, "grpc")
    {
        let at = path.child("grpc");
        check::port_number_or_name(errors, &at.child("port"), &IntOrString::Int(grpc.port));
        if let Some(mode) = &grpc.mode {
            errors.one_of(&at.child("mode"), mode, &["Plaintext", "TLS"]);
        }
    }
    if let Some(sleep) = handler.sleep
        && first(errors, "sleep")
        && let Some(grace) = grace
        && !(0..=grace).contains(&sleep.seconds)
    {
        let detail =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid(&path.child("sleep"), sleep.seconds, detail);
    }
    if count == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(errors: &mut ErrorList, path: &Path, http: &HTTPGetAction) {
    errors.required_text(&path.child("path"), http.path.text(), "");
    check::port_number_or_name(errors, &path.child("port"), &http.port);
    errors.one_of(
        &path.child("scheme"),
        http.scheme.text(),
        &["HTTP", "HTTPS"],
    );
    for header in http.http_headers.items() {
        let messages = names::http_header_name(&header.name);
        errors.invalid_each(&path.child("httpHeaders"), &header.name, messages);
    }
}
