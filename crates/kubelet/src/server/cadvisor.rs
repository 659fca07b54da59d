//! `/metrics/cadvisor`: usage of the node, of pods and of their containers under cAdvisor's names, as far as the container
//! runtime tells it.
//!
//! Upstream: `github.com/google/cadvisor/metrics/prometheus.go`, `pkg/kubelet/server` (labels).

use std::fmt::Display;

use cri::v1::{
    ContainerStats, CpuUsage, MemoryUsage, NetworkInterfaceUsage, PodSandboxStats, UInt64Value,
};
use hyper::Response;
use jiff::Timestamp;
use machinery::metrics::{head_plain, line};
use pod_lifecycle::config::label;
use pod_lifecycle::qos;

use super::Body;
use super::stats::{all, figures, label_of, node_usage, seconds};
use crate::context::Context;
use crate::pods::Known;

/// The names in their order, with type and help.
const FAMILIES: [(&str, &str, &str); 13] = [
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
    ),
    (
        "container_memory_failures_total",
        "counter",
        "Cumulative count of memory allocation failures.",
    ),
    ("container_memory_rss", "gauge", "Size of RSS in bytes."),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
    ),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
    ),
    (
        "container_network_receive_bytes_total",
        "counter",
        "Cumulative count of bytes received",
    ),
    (
        "container_network_receive_errors_total",
        "counter",
        "Cumulative count of errors encountered while receiving",
    ),
    (
        "container_network_transmit_bytes_total",
        "counter",
        "Cumulative count of bytes transmitted",
    ),
    (
        "container_network_transmit_errors_total",
        "counter",
        "Cumulative count of errors encountered while transmitting",
    ),
    (
        "container_processes",
        "gauge",
        "Number of processes running inside the container.",
    ),
    (
        "container_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    ),
    (
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
    ),
    (
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
    ),
];

/// Samples by the place of their name in [`FAMILIES`].
struct Samples([String; FAMILIES.len()]);

impl Samples {
    /// One more; `moment` is when it was looked at, in milliseconds.
    fn add(&mut self, name: &str, labels: &str, value: impl Display, moment: Option<i64>) {
        let Some(at) = FAMILIES.iter().position(|(known, ..)| *known == name) else {
            debug_assert!(false, "{name} is not in the list");
            return;
        };
        match moment {
            Some(moment) => line(&mut self.0[at], name, labels, format!("{value} {moment}")),
            None => line(&mut self.0[at], name, labels, value),
        }
    }

    fn usage(&mut self, whose: &Whose<'_>, cpu: Option<&CpuUsage>, memory: Option<&MemoryUsage>) {
        if let Some(cpu) = cpu
            && let Some(nanoseconds) = &cpu.usage_core_nano_seconds
        {
            let labels = whose.labels("cpu=\"total\",");
            let value = seconds(nanoseconds.value);
            let name = "container_cpu_usage_seconds_total";
            self.add(name, &labels, value, moment(cpu.timestamp));
        }
        let Some(memory) = memory else { return };
        let at = moment(memory.timestamp);
        for (failure, count) in [
            ("pgfault", &memory.page_faults),
            ("pgmajfault", &memory.major_page_faults),
        ] {
            if let Some(count) = count {
                let labels = whose.labels(&format!("failure_type=\"{failure}\","));
                let labels = format!("{labels},scope=\"container\"");
                self.add("container_memory_failures_total", &labels, count.value, at);
            }
        }
        for (name, bytes) in [
            ("container_memory_rss", &memory.rss_bytes),
            ("container_memory_usage_bytes", &memory.usage_bytes),
            (
                "container_memory_working_set_bytes",
                &memory.working_set_bytes,
            ),
        ] {
            if let Some(bytes) = bytes {
                self.add(name, &whose.labels(""), bytes.value, at);
            }
        }
    }

    fn network(&mut self, whose: &Whose<'_>, of: &NetworkInterfaceUsage, at: Option<i64>) {
        let labels = whose.labels_by_interface(&of.name);
        let mut add = |name, value: &Option<UInt64Value>| {
            if let Some(value) = value {
                self.add(name, &labels, value.value, at);
            }
        };
        add("container_network_receive_bytes_total", &of.rx_bytes);
        add("container_network_receive_errors_total", &of.rx_errors);
        add("container_network_transmit_bytes_total", &of.tx_bytes);
        add("container_network_transmit_errors_total", &of.tx_errors);
    }
}

/// Nanoseconds since 1970 as milliseconds.
fn moment(nanoseconds: i64) -> Option<i64> {
    (nanoseconds > 0).then_some(nanoseconds / 1_000_000)
}

/// A container, a pod as a whole or the node.
#[derive(Default)]
struct Whose<'a> {
    container: &'a str,
    id: &'a str,
    image: &'a str,
    name: &'a str,
    namespace: &'a str,
    pod: &'a str,
}

impl Whose<'_> {
    /// `more` comes after the container's name.
    fn labels(&self, more: &str) -> String {
        format!("container=\"{}\",{more}{}", self.container, self.rest(""))
    }

    fn labels_by_interface(&self, interface: &str) -> String {
        let interface = format!("interface=\"{interface}\",");
        format!("container=\"{}\",{}", self.container, self.rest(&interface))
    }

    fn rest(&self, interface: &str) -> String {
        let Self {
            id,
            image,
            name,
            namespace,
            pod,
            ..
        } = self;
        format!(
            "id=\"{id}\",image=\"{image}\",{interface}name=\"{name}\",namespace=\"{namespace}\",pod=\"{pod}\""
        )
    }
}

/// The page.
pub(super) async fn page(context: &Context) -> Response<Body> {
    let pods = match all(context).await {
        Ok(pods) => pods,
        Err(refusal) => return refusal,
    };
    let mut samples = Samples(Default::default());
    if let Some((cpu, memory)) = node_usage(context) {
        let root = Whose {
            id: "/",
            ..Whose::default()
        };
        let now = Some(Timestamp::now().as_millisecond());
        let labels = root.labels("cpu=\"total\",");
        samples.add(
            "container_cpu_usage_seconds_total",
            &labels,
            seconds(cpu),
            now,
        );
        let labels = root.labels("");
        samples.add("container_memory_working_set_bytes", &labels, memory, now);
    }
    for pod in &pods {
        let uid = pod.attributes.as_ref().and_then(|a| a.metadata.as_ref());
        let uid = uid.map_or("", |metadata| metadata.uid.as_str());
        let mailbox = context.pods.lock().get(uid).cloned();
        let parent = mailbox.as_ref().map(|m| qos::cgroup_parent(&m.pod()));
        let known = mailbox.map(|mailbox| mailbox.known());
        add_pod(
            &mut samples,
            pod,
            &parent.unwrap_or_default(),
            known.as_deref(),
        );
    }
    samples.add("container_scrape_error", "", 0, None);
    samples.add("machine_memory_bytes", "", context.node.memory_bytes, None);
    let mut out = String::new();
    for ((name, kind, help), text) in FAMILIES.into_iter().zip(samples.0) {
        if !text.is_empty() {
            head_plain(&mut out, name, kind, help);
            out.push_str(&text);
        }
    }
    figures(out)
}

fn add_pod(samples: &mut Samples, stats: &PodSandboxStats, parent: &str, known: Option<&Known>) {
    let metadata = stats.attributes.as_ref().and_then(|a| a.metadata.clone());
    let metadata = metadata.unwrap_or_default();
    let pod = Whose {
        id: parent,
        namespace: &metadata.namespace,
        pod: &metadata.name,
        ..Whose::default()
    };
    let Some(linux) = &stats.linux else { return };
    samples.usage(&pod, linux.cpu.as_ref(), linux.memory.as_ref());
    if let Some(network) = &linux.network {
        for interface in network.default_interface.iter().chain(&network.interfaces) {
            samples.network(&pod, interface, moment(network.timestamp));
        }
    }
    let process = linux.process.as_ref();
    if let Some(count) = process.and_then(|process| process.process_count.as_ref()) {
        let at = process.and_then(|process| moment(process.timestamp));
        samples.add("container_processes", &pod.labels(""), count.value, at);
    }
    for container in &linux.containers {
        add_container(samples, container, &pod, known);
    }
}

fn add_container(
    samples: &mut Samples,
    stats: &ContainerStats,
    pod: &Whose<'_>,
    known: Option<&Known>,
) {
    let id = stats.attributes.as_ref().map_or("", |a| a.id.as_str());
    let known = known.and_then(|known| known.containers.iter().find(|c| c.id == id));
    let path = format!("{}/{id}", pod.id);
    let whose = Whose {
        container: label_of(stats, label::CONTAINER_NAME),
        id: &path,
        image: known.map_or("", |known| known.image.as_str()),
        name: id,
        namespace: pod.namespace,
        pod: pod.pod,
    };
    samples.usage(&whose, stats.cpu.as_ref(), stats.memory.as_ref());
    if let Some(started) = known.and_then(|known| known.started_at) {
        let labels = whose.labels("");
        samples.add(
            "container_start_time_seconds",
            &labels,
            started.as_second(),
            None,
        );
    }
}
