//! Usage of pods and containers, from the runtime: `/stats/summary`, `/metrics/resource`, `/metrics`.

use std::fmt::Write;

use cri::v1::{ContainerStats, ListPodSandboxStatsRequest, PodSandboxStats};
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use pod_lifecycle::config::label;
use pod_lifecycle::view::State;
use serde_json::{Value, json};

use super::{Body, text, with_type};
use crate::context::Context;

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How many pods and containers run here.
pub(super) fn metrics(context: &Context) -> Response<Body> {
    let pods: Vec<_> = context.pods.lock().values().map(|m| m.known()).collect();
    let sandboxes = pods.iter().flat_map(|p| &p.sandboxes).filter(|s| s.ready);
    let containers = pods.iter().flat_map(|p| &p.containers);
    let running = containers.filter(|c| c.state == State::Running);
    let out = format!(
        "# HELP kubelet_running_pods [STABLE] Number of pods that have a running pod sandbox\n\
         # TYPE kubelet_running_pods gauge\n\
         kubelet_running_pods {}\n\
         # HELP kubelet_running_containers [STABLE] Number of containers currently running\n\
         # TYPE kubelet_running_containers gauge\n\
         kubelet_running_containers{{container_state=\"running\"}} {}\n",
        sandboxes.count(),
        running.count()
    );
    with_type(StatusCode::OK, FORMAT, out.into_bytes())
}

async fn all(context: &Context) -> Result<Vec<PodSandboxStats>, Response<Body>> {
    let request = ListPodSandboxStatsRequest { filter: None };
    match context.runtime.list_pod_sandbox_stats(request).await {
        Ok(answer) => Ok(answer.stats),
        Err(error) => Err(text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

fn label_of<'a>(stats: &'a ContainerStats, key: &str) -> &'a str {
    let labels = stats.attributes.as_ref().map(|a| &a.labels);
    labels.and_then(|l| l.get(key)).map_or("", String::as_str)
}

/// CPU time in nanoseconds and memory in use in bytes.
fn usage(stats: &ContainerStats) -> (u64, u64) {
    let cpu = stats
        .cpu
        .as_ref()
        .and_then(|c| c.usage_core_nano_seconds.as_ref());
    let memory = stats
        .memory
        .as_ref()
        .and_then(|m| m.working_set_bytes.as_ref());
    (cpu.map_or(0, |v| v.value), memory.map_or(0, |v| v.value))
}

/// What a metrics server asks for.
pub(super) async fn resource(context: &Context) -> Response<Body> {
    let pods = match all(context).await {
        Ok(pods) => pods,
        Err(refusal) => return refusal,
    };
    let mut cpu = String::from(
        "# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds\n\
         # TYPE container_cpu_usage_seconds_total counter\n",
    );
    let mut memory = String::from(
        "# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes\n\
         # TYPE container_memory_working_set_bytes gauge\n",
    );
    let containers = pods
        .iter()
        .flat_map(|p| p.linux.iter().flat_map(|l| &l.containers));
    for container in containers {
        let labels = format!(
            "container=\"{}\",namespace=\"{}\",pod=\"{}\"",
            label_of(container, label::CONTAINER_NAME),
            label_of(container, label::POD_NAMESPACE),
            label_of(container, label::POD_NAME)
        );
        let (nanoseconds, bytes) = usage(container);
        let (whole, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        // Writing to a string does not fail.
        writeln!(
            cpu,
            "container_cpu_usage_seconds_total{{{labels}}} {whole}.{rest:09}"
        )
        .ok();
        writeln!(
            memory,
            "container_memory_working_set_bytes{{{labels}}} {bytes}"
        )
        .ok();
    }
    with_type(StatusCode::OK, FORMAT, (cpu + &memory).into_bytes())
}

/// Usage by pod and container.
pub(super) async fn summary(context: &Context) -> Response<Body> {
    let pods = match all(context).await {
        Ok(pods) => pods,
        Err(refusal) => return refusal,
    };
    let now = Timestamp::now().to_string();
    let pods: Vec<Value> = pods.iter().map(|pod| pod_summary(pod, &now)).collect();
    super::json(&json!({
        "node": {"nodeName": context.node_name, "startTime": now},
        "pods": pods,
    }))
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
