//! What containers and pods use, read from their cgroups when somebody asks.

use std::path::Path;

use cri::Error;
use cri::v1::{self, ContainerState, UInt64Value};

use crate::events::now;
use crate::sandboxes::has_labels;
use crate::world::{Container, Runtime, Sandbox};

impl Runtime {
    pub(crate) fn stats_of(&self, container: &Container) -> v1::ContainerStats {
        let usage = self.hierarchies.group(&container.record.cgroup).usage();
        let config = &container.record.config;
        let upper = self.data_dir(&container.record.id).join("upper");
        let (bytes, inodes) = disk_usage(&upper);
        v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: container.record.id.clone(),
                metadata: config.metadata.clone(),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
            }),
            cpu: Some(cpu(&usage)),
            memory: Some(memory(&usage)),
            writable_layer: Some(v1::FilesystemUsage {
                timestamp: now(),
                fs_id: Some(v1::FilesystemIdentifier {
                    mountpoint: self.config.root.display().to_string(),
                }),
                used_bytes: value(bytes),
                inodes_used: value(inodes),
            }),
            swap: None,
        }
    }

    pub(crate) fn list_stats(&self, filter: &v1::ContainerStatsFilter) -> Vec<v1::ContainerStats> {
        let wanted: Vec<Container> = {
            let world = self.world();
            let all = world.containers.values().filter(|one| {
                one.state() == ContainerState::ContainerRunning
                    && one.record.id.starts_with(&filter.id)
                    && one.record.sandbox.starts_with(&filter.pod_sandbox_id)
                    && has_labels(&one.record.config.labels, &filter.label_selector)
            });
            all.cloned().collect()
        };
        wanted
            .iter()
            .map(|container| self.stats_of(container))
            .collect()
    }

    pub(crate) fn pod_stats(&self, sandbox: &Sandbox) -> Result<v1::PodSandboxStats, Error> {
        let config = &sandbox.record.config;
        let id = &sandbox.record.id;
        let usage = self
            .hierarchies
            .group(&sandbox.record.cgroup_parent)
            .usage();
        let filter = v1::ContainerStatsFilter {
            pod_sandbox_id: id.clone(),
            ..Default::default()
        };
        let linux = v1::LinuxPodSandboxStats {
            cpu: Some(cpu(&usage)),
            memory: Some(memory(&usage)),
            network: sandbox
                .live
                .as_ref()
                .and_then(|live| network(&live.network)),
            process: Some(v1::ProcessUsage {
                timestamp: now(),
                process_count: value(usage.pids),
            }),
            containers: self.list_stats(&filter),
        };
        Ok(v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: id.clone(),
                metadata: config.metadata.clone(),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
            }),
            linux: Some(linux),
            windows: None,
        })
    }
}

fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

fn cpu(usage: &linux::cgroup::Usage) -> v1::CpuUsage {
    let nanoseconds = u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX);
    v1::CpuUsage {
        timestamp: now(),
        usage_core_nano_seconds: value(nanoseconds),
        // A rate needs two looks; whoever asks twice has them.
        usage_nano_cores: None,
    }
}

fn memory(usage: &linux::cgroup::Usage) -> v1::MemoryUsage {
    let available = usage.memory_limit_bytes;
    v1::MemoryUsage {
        timestamp: now(),
        working_set_bytes: value(usage.working_set_bytes),
        available_bytes: available
            .and_then(|limit| value(limit.saturating_sub(usage.working_set_bytes))),
        usage_bytes: value(usage.memory_bytes),
        rss_bytes: value(usage.rss_bytes),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
    }
}

/// The counters of a pod's interfaces, as its own `/proc/net/dev` shows them.
fn network(namespace: &linux::namespace::Namespace) -> Option<v1::NetworkUsage> {
    let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
    let text = linux::namespace::run_in(namespace, read).ok()?.ok()?;
    let mut interfaces = text.lines().skip(2).filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        let get = |at: usize| counters.get(at).copied().and_then(value);
        Some(v1::NetworkInterfaceUsage {
            name: name.trim().to_owned(),
            rx_bytes: get(0),
            rx_errors: get(2),
            tx_bytes: get(8),
            tx_errors: get(10),
        })
    });
    let default = interfaces
        .by_ref()
        .find(|interface| interface.name == "eth0");
    let rest = interfaces
        .filter(|interface| interface.name != "lo")
        .collect();
    Some(v1::NetworkUsage {
        timestamp: now(),
        default_interface: default,
        interfaces: rest,
    })
}

/// Bytes and inodes that a directory tree takes; links are not followed.
pub(crate) fn disk_usage(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = path.symlink_metadata() else {
        return (0, 0);
    };
    let mut sum = (metadata.blocks() * 512, 1);
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let (bytes, inodes) = disk_usage(&entry.path());
            sum = (sum.0 + bytes, sum.1 + inodes);
        }
    }
    sum
}
