//! The control groups of pods, in which the runtime puts their containers: `kubepods`, one group per quality of service, one
//! group per pod with the limits of the whole pod.
//!
//! (Upstream: `pkg/kubelet/cm`.) What the numbers are is decided in `pod_lifecycle::resources`.

use std::path::Path;
use std::time::{Duration, Instant};

use cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::Pod;
use linux::cgroup::{Cgroup, Hierarchies, Usage};
use parking_lot::Mutex;
use pod_lifecycle::{pod as parts, qos, resources};

/// The groups below `kubepods` whose members are pods; the first is for pods of the class Guaranteed.
const CLASSES: &[&str] = &["", "/burstable", "/besteffort"];

/// See the module.
pub(crate) struct Cgroups {
    /// `None`: somebody else looks after control groups.
    place: Option<(Hierarchies, String)>,
    load: Mutex<Load>,
}

/// How much of the processors the node has used between two questions.
struct Load {
    since: Instant,
    /// At that time.
    cpu: Duration,
    nano_cores: u64,
}

/// Questions that come sooner than that get the answer of before: too short a time says nothing.
const LOAD_OVER: Duration = Duration::from_secs(5);

impl Cgroups {
    /// `root` is the group of this node; `None`: leave control groups alone.
    pub(crate) fn new(root: Option<&str>) -> linux::Result<Cgroups> {
        let place = match root {
            None => None,
            Some(root) => Some((linux::cgroup::detect()?, root.trim_matches('/').to_owned())),
        };
        let load = Load {
            since: Instant::now(),
            cpu: Duration::ZERO,
            nano_cores: 0,
        };
        let own = Cgroups {
            place,
            load: Mutex::new(load),
        };
        if let Some(usage) = own.usage() {
            own.load.lock().cpu = usage.cpu;
        }
        Ok(own)
    }

    /// Of the processors, so many billionths of one were in use since it was asked for last; `cpu` is what
    /// [`Cgroups::usage`] says at the moment.
    pub(crate) fn nano_cores(&self, cpu: Duration) -> u64 {
        let mut load = self.load.lock();
        let over = load.since.elapsed();
        if over >= LOAD_OVER || load.nano_cores == 0 {
            let used = cpu.saturating_sub(load.cpu).as_secs_f64();
            *load = Load {
                since: Instant::now(),
                cpu,
                nano_cores: (used / over.as_secs_f64() * 1e9) as u64,
            };
        }
        load.nano_cores
    }

    fn group(&self, path: &str) -> Option<Cgroup> {
        let (hierarchies, root) = self.place.as_ref()?;
        let path = format!("{root}/{}", path.trim_matches('/'));
        Some(hierarchies.group(path.trim_matches('/')))
    }

    /// What all of this node uses.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let (hierarchies, root) = self.place.as_ref()?;
        Some(hierarchies.group(root).usage())
    }

    /// Makes the group of a pod. `all` are the pods of this node, this one too.
    pub(crate) fn prepare(&self, pod: &Pod, all: &[impl AsRef<Pod>]) -> linux::Result<()> {
        let Some(group) = self.group(&qos::cgroup_parent(pod)) else {
            return Ok(());
        };
        group.create()?;
        let mut limits = resources::of_pod(pod);
        if qos::class(pod) == "BestEffort" {
            limits.cpu_shares = LEAST_SHARES;
        }
        limit(&group, &limits)?;
        self.share(all)
    }

    /// Lets the containers of a pod have any limits: those of its own group hold no longer.
    pub(crate) fn lift(&self, pod: &Pod) -> linux::Result<()> {
        let Some(group) = self.group(&qos::cgroup_parent(pod)) else {
            return Ok(());
        };
        let none = LinuxContainerResources {
            cpu_quota: 0,
            memory_limit_in_bytes: 0,
            ..resources::of_pod(pod)
        };
        limit(&group, &none)
    }

    /// Gives the groups of the classes their parts of the CPU: what their pods asked for together.
    fn share(&self, all: &[impl AsRef<Pod>]) -> linux::Result<()> {
        let burstable = all.iter().map(AsRef::as_ref);
        let burstable =
            burstable.filter(|p| qos::class(p) == "Burstable" && !parts::is_terminal(p));
        let asked = burstable.map(|p| {
            let requests = resources::pod_requests(p);
            requests.get("cpu").copied().unwrap_or(0)
        });
        let shares = resources::cpu_shares(asked.sum());
        for (class, shares) in [("/burstable", shares), ("/besteffort", LEAST_SHARES)] {
            let group = self.group(&format!("kubepods{class}"));
            if let Some(group) = group.filter(Cgroup::exists) {
                write_shares(&group, shares)?;
            }
        }
        Ok(())
    }

    /// Removes the group of a pod; its containers are gone.
    pub(crate) fn remove(&self, pod: &Pod) {
        if let Some(group) = self.group(&qos::cgroup_parent(pod)) {
            remove(&group);
        }
    }

    /// Removes the groups of pods that are not in `uids`.
    pub(crate) fn remove_orphans(&self, known: impl Fn(&str) -> bool) {
        for class in CLASSES {
            let Some(parent) = self.group(&format!("kubepods{class}")) else {
                return;
            };
            for name in pods_in(&parent.first_dir()) {
                let uid = name.trim_start_matches("pod");
                if !known(uid) {
                    remove(&parent.child(&name));
                }
            }
        }
    }
}

/// The weight of those who asked for nothing.
const LEAST_SHARES: i64 = 2;

fn pods_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.starts_with("pod")).collect()
}

fn remove(group: &Cgroup) {
    if let Err(error) = group.remove() {
        let error = cri::chain(&error);
        tracing::debug!(group = group.path(), error, "control group not removed");
    }
}

fn limit(group: &Cgroup, limits: &LinuxContainerResources) -> linux::Result<()> {
    write_shares(group, limits.cpu_shares)?;
    let (quota, period) = (limits.cpu_quota, limits.cpu_period);
    let memory = limits.memory_limit_in_bytes;
    if group.is_v2() {
        let or_max = |value: i64| match value {
            0 => "max".to_owned(),
            value => value.to_string(),
        };
        write(
            group,
            "cpu",
            "cpu.max",
            &format!("{} {period}", or_max(quota)),
        )?;
        return write(group, "memory", "memory.max", &or_max(memory));
    }
    let or_none = |value: i64| if value == 0 { -1 } else { value };
    write(group, "cpu", "cpu.cfs_period_us", &period.to_string())?;
    write(
        group,
        "cpu",
        "cpu.cfs_quota_us",
        &or_none(quota).to_string(),
    )?;
    write(
        group,
        "memory",
        "memory.limit_in_bytes",
        &or_none(memory).to_string(),
    )
}

fn write_shares(group: &Cgroup, shares: i64) -> linux::Result<()> {
    if group.is_v2() {
        // From 2..262144 to 1..10000.
        let weight = 1 + (shares - 2) * 9999 / 262_142;
        return write(group, "cpu", "cpu.weight", &weight.to_string());
    }
    write(group, "cpu", "cpu.shares", &shares.to_string())
}

/// A controller that the machine does not have limits nothing.
fn write(group: &Cgroup, controller: &str, file: &str, value: &str) -> linux::Result<()> {
    match group.dir(controller) {
        Some(dir) if dir.join(file).exists() => group.write(controller, file, value),
        _ => Ok(()),
    }
}
