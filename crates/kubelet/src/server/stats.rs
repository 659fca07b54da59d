//! Usage of the node, its pods and their containers: `/stats/summary`, `/metrics/resource`, `/metrics`.

use std::fmt::{Display, Write};

use client::requests::Requests;
use cri::v1::{ContainerStats, ListPodSandboxStatsRequest, PodSandboxStats};
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use linux::own::Process;
use machinery::metrics;
use pod_lifecycle::config::label;
use pod_lifecycle::view::State;
use serde_json::{Value, json};

use super::{Body, text, with_type};
use crate::context::Context;

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page for Prometheus.
pub(super) fn figures(text: String) -> Response<Body> {
    with_type(StatusCode::OK, FORMAT, text.into_bytes())
}

/// How many pods and containers run here, and what was counted.
pub(super) fn metrics(context: &Context, requests: &Requests) -> Response<Body> {
    let pods: Vec<_> = context.pods.lock().values().map(|m| m.known()).collect();
    let sandboxes = pods.iter().flat_map(|p| &p.sandboxes).filter(|s| s.ready);
    let containers = pods.iter().flat_map(|p| &p.containers);
    let running = containers.filter(|c| c.state == State::Running);
    let mut pods = Family::new(
        "kubelet_running_pods",
        "gauge",
        "Number of pods that have a running pod sandbox",
    );
    pods.sample("", sandboxes.count());
    let mut containers = Family::new(
        "kubelet_running_containers",
        "gauge",
        "Number of containers currently running",
    );
    containers.sample("{container_state=\"running\"}", running.count());
    let mut text = pods.text + &containers.text;
    for (name, kind, help, value) in Process::read().iter().flat_map(Process::figures) {
        // Writing to a string does not fail.
        writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        )
        .ok();
    }
    let (name, help) = (
        "kubelet_node_name",
        "The node's name. The count is always 1.",
    );
    metrics::head(&mut text, name, "gauge", "ALPHA", help);
    metrics::line(
        &mut text,
        name,
        &format!("node=\"{}\"", context.node_name),
        1,
    );
    let mut desired = [0, 0];
    for uid in context.pods.lock().keys() {
        desired[usize::from(context.static_pods.is_static(uid))] += 1;
    }
    let (name, help) = (
        "kubelet_desired_pods",
        "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
    );
    metrics::head(&mut text, name, "gauge", "ALPHA", help);
    for (is_static, count) in ["false", "true"].iter().zip(desired) {
        let labels = format!("static=\"{is_static}\"");
        metrics::line(&mut text, name, &labels, count);
    }
    context.measures.render(&mut text);
    text += &requests.render();
    figures(text)
}

/// One metric with its samples.
struct Family {
    name: &'static str,
    text: String,
}

impl Family {
    fn new(name: &'static str, kind: &str, help: &str) -> Family {
        let text = format!("# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}\n");
        Family { name, text }
    }

    fn sample(&mut self, labels: &str, value: impl Display) {
        // Writing to a string does not fail.
        writeln!(self.text, "{}{labels} {value}", self.name).ok();
    }
}

pub(super) async fn all(context: &Context) -> Result<Vec<PodSandboxStats>, Response<Body>> {
    let request = ListPodSandboxStatsRequest { filter: None };
    match context.runtime.list_pod_sandbox_stats(request).await {
        Ok(answer) => Ok(answer.stats),
        Err(error) => Err(text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

pub(super) fn label_of<'a>(stats: &'a ContainerStats, key: &str) -> &'a str {
    let labels = stats.attributes.as_ref().map(|a| &a.labels);
    labels.and_then(|l| l.get(key)).map_or("", String::as_str)
}

/// CPU time in nanoseconds and memory in use in bytes.
fn usage(stats: &ContainerStats) -> (u64, u64) {
    let cpu = stats.cpu.as_ref();
    let cpu = cpu.and_then(|c| c.usage_core_nano_seconds.as_ref());
    let memory = stats.memory.as_ref();
    let memory = memory.and_then(|m| m.working_set_bytes.as_ref());
    (cpu.map_or(0, |v| v.value), memory.map_or(0, |v| v.value))
}

/// Nanoseconds as seconds.
pub(super) fn seconds(nanoseconds: u64) -> String {
    let (whole, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    format!("{whole}.{rest:09}")
}

/// CPU time in nanoseconds and memory in use in bytes of the whole node.
pub(super) fn node_usage(context: &Context) -> Option<(u64, u64)> {
    let usage = context.cgroups.usage()?;
    let cpu = u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX);
    Some((cpu, usage.working_set_bytes))
}

/// What a metrics server asks for.
pub(super) async fn resource(context: &Context) -> Response<Body> {
    let pods = match all(context).await {
        Ok(pods) => pods,
        Err(refusal) => return refusal,
    };
    let cpu = |name, of: &str| {
        let help = format!("Cumulative cpu time consumed by the {of} in core-seconds");
        Family::new(name, "counter", &help)
    };
    let memory = |name, of: &str| {
        let help = format!("Current working set of the {of} in bytes");
        Family::new(name, "gauge", &help)
    };
    let mut families = [
        cpu("container_cpu_usage_seconds_total", "container"),
        memory("container_memory_working_set_bytes", "container"),
        Family::new(
            "container_start_time_seconds",
            "gauge",
            "Start time of the container since unix epoch in seconds",
        ),
        cpu("node_cpu_usage_seconds_total", "node"),
        memory("node_memory_working_set_bytes", "node"),
        cpu("pod_cpu_usage_seconds_total", "pod"),
        memory("pod_memory_working_set_bytes", "pod"),
        Family::new(
            "resource_scrape_error",
            "gauge",
            "1 if there was an error while getting container metrics, 0 otherwise",
        ),
    ];
    if let Some((cpu, memory)) = node_usage(context) {
        families[3].sample("", seconds(cpu));
        families[4].sample("", memory);
    }
    for pod in &pods {
        pod_samples(context, pod, &mut families);
    }
    families[7].sample("", 0);
    let out: String = families.into_iter().map(|f| f.text).collect();
    figures(out)
}

fn pod_samples(context: &Context, pod: &PodSandboxStats, families: &mut [Family; 8]) {
    let metadata = pod.attributes.as_ref().and_then(|a| a.metadata.clone());
    let metadata = metadata.unwrap_or_default();
    let place = format!(
        "namespace=\"{}\",pod=\"{}\"",
        metadata.namespace, metadata.name
    );
    let known = context.pods.lock().get(&metadata.uid).map(|m| m.known());
    let (mut cpu, mut memory) = (0, 0);
    for stats in pod.linux.iter().flat_map(|l| &l.containers) {
        let (nanoseconds, bytes) = usage(stats);
        cpu += nanoseconds;
        memory += bytes;
        let name = label_of(stats, label::CONTAINER_NAME);
        let labels = format!("{{container=\"{name}\",{place}}}");
        families[0].sample(&labels, seconds(nanoseconds));
        families[1].sample(&labels, bytes);
        let id = stats.attributes.as_ref().map(|a| a.id.as_str());
        let container = known.iter().flat_map(|k| &k.containers);
        let started = container
            .filter(|c| Some(c.id.as_str()) == id)
            .find_map(|c| c.started_at);
        if let Some(started) = started {
            families[2].sample(&labels, started.as_second());
        }
    }
    let labels = format!("{{{place}}}");
    families[5].sample(&labels, seconds(cpu));
    families[6].sample(&labels, memory);
}

/// Usage by pod and container.
pub(super) async fn summary(context: &Context) -> Response<Body> {
    let pods = match all(context).await {
        Ok(pods) => pods,
        Err(refusal) => return refusal,
    };
    let now = Timestamp::now().to_string();
    let pods: Vec<Value> = pods.iter().map(|pod| pod_summary(pod, &now)).collect();
    let mut node = json!({"nodeName": context.node_name});
    if let Some(usage) = context.cgroups.usage() {
        node["cpu"] = json!({
            "time": now,
            "usageNanoCores": context.cgroups.nano_cores(usage.cpu),
            "usageCoreNanoSeconds": u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX),
        });
        node["memory"] = json!({
            "time": now,
            "usageBytes": usage.memory_bytes,
            "workingSetBytes": usage.working_set_bytes,
            "rssBytes": usage.rss_bytes,
            "pageFaults": usage.page_faults,
            "majorPageFaults": usage.major_page_faults,
        });
        let capacity = context.node.memory_bytes;
        if let Ok(capacity) = u64::try_from(capacity) {
            node["memory"]["availableBytes"] =
                capacity.saturating_sub(usage.working_set_bytes).into();
        }
    }
    super::json(&json!({"node": node, "pods": pods}))
}

fn pod_summary(pod: &PodSandboxStats, now: &str) -> Value {
    let metadata = pod.attributes.as_ref().and_then(|a| a.metadata.clone());
    let metadata = metadata.unwrap_or_default();
    let containers = pod.linux.iter().flat_map(|l| &l.containers);
    let (mut cpu, mut memory) = (0, 0);
    let containers: Vec<Value> = containers
        .map(|container| {
            let (nanoseconds, bytes) = usage(container);
            cpu += nanoseconds;
            memory += bytes;
            json!({
                "name": label_of(container, label::CONTAINER_NAME),
                "cpu": {"time": now, "usageCoreNanoSeconds": nanoseconds},
                "memory": {"time": now, "workingSetBytes": bytes},
            })
        })
        .collect();
    json!({
        "podRef": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
        },
        "cpu": {"time": now, "usageCoreNanoSeconds": cpu},
        "memory": {"time": now, "workingSetBytes": memory},
        "containers": containers,
    })
}
