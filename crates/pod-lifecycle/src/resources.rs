//! Requests and limits as the kernel takes them, and as the downward API shows them.

use cri::v1::{HugepageLimit, LinuxContainerResources};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

use crate::pod;
use crate::quantity::{milli, milli_of, units, units_of};

/// The period of CPU quotas, in microseconds.
pub(crate) const QUOTA_PERIOD: i64 = 100_000;
/// The smallest quota the kernel takes.
const MIN_QUOTA: i64 = 1000;

/// CPU shares for an amount of CPU in thousandths.
pub fn cpu_shares(milli_cpu: i128) -> i64 {
    i64::try_from((milli_cpu * 1024 / 1000).clamp(2, 262_144)).unwrap_or(2)
}

/// CPU quota for an amount of CPU in thousandths; 0 is none.
fn cpu_quota(milli_cpu: i128) -> i64 {
    if milli_cpu == 0 {
        return 0;
    }
    let quota = milli_cpu * i128::from(QUOTA_PERIOD) / 1000;
    i64::try_from(quota).unwrap_or(i64::MAX).max(MIN_QUOTA)
}

/// The limits of one container.
pub fn of_container(
    pod: &Pod,
    container: &Container,
    node_memory_bytes: i128,
) -> LinuxContainerResources {
    let mut resources = of_requirements(container.resources.as_ref());
    resources.oom_score_adj = crate::qos::oom_score_adj(pod, container, node_memory_bytes);
    resources
}

fn of_requirements(requirements: Option<&ResourceRequirements>) -> LinuxContainerResources {
    let requests = requirements.and_then(|r| r.requests.as_ref());
    let limits = requirements.and_then(|r| r.limits.as_ref());
    let cpu_limit = milli_of(limits, "cpu");
    let requested = requests.is_some_and(|r| r.contains_key("cpu"));
    let cpu = if requested {
        milli_of(requests, "cpu")
    } else {
        cpu_limit
    };
    LinuxContainerResources {
        cpu_period: QUOTA_PERIOD,
        cpu_quota: cpu_quota(cpu_limit),
        cpu_shares: cpu_shares(cpu),
        memory_limit_in_bytes: clamp(units_of(limits, "memory")),
        hugepage_limits: hugepages(limits),
        ..Default::default()
    }
}

fn hugepages(limits: Option<&BTreeMap<String, Quantity>>) -> Vec<HugepageLimit> {
    let mut list = Vec::new();
    for (name, amount) in limits.into_iter().flatten() {
        if let Some(size) = name.strip_prefix("hugepages-") {
            list.push(HugepageLimit {
                page_size: size
                    .replace("Mi", "MB")
                    .replace("Gi", "GB")
                    .replace("Ki", "KB"),
                limit: u64::try_from(units(amount).unwrap_or(0)).unwrap_or(0),
            });
        }
    }
    list
}

/// The limits of the whole pod: the sum over its containers, a memory or CPU limit only if every container has one.
pub fn of_pod(pod: &Pod) -> LinuxContainerResources {
    let requests = pod_requests(pod);
    let limit = |name: &str| {
        let all = pod::lasting_containers(pod).all(|c| {
            let limits = c.resources.as_ref().and_then(|r| r.limits.as_ref());
            limits.is_some_and(|l| l.contains_key(name))
        });
        let whole = pod::spec(pod).resources.as_ref();
        let whole = whole
            .and_then(|r| r.limits.as_ref())
            .and_then(|l| l.get(name));
        match (whole, all) {
            (Some(quantity), _) => milli(quantity).unwrap_or(0),
            (None, true) => aggregate(pod, name, |r| r.limits.as_ref()),
            (None, false) => 0,
        }
    };
    LinuxContainerResources {
        cpu_period: QUOTA_PERIOD,
        cpu_quota: cpu_quota(limit("cpu")),
        cpu_shares: cpu_shares(requests.get("cpu").copied().unwrap_or(0)),
        memory_limit_in_bytes: clamp(limit("memory") / 1000),
        ..Default::default()
    }
}

/// What the pod takes from its node, in thousandths, by resource: the larger of what its containers need together and what
/// its init containers need one after the other, plus overhead.
pub fn pod_requests(pod: &Pod) -> BTreeMap<String, i128> {
    let mut names: Vec<&str> = pod::lasting_containers(pod)
        .filter_map(|c| c.resources.as_ref()?.requests.as_ref())
        .flat_map(|r| r.keys().map(String::as_str))
        .collect();
    let whole = pod::spec(pod)
        .resources
        .as_ref()
        .and_then(|r| r.requests.as_ref());
    names.extend(whole.iter().flat_map(|r| r.keys().map(String::as_str)));
    let overhead = pod::spec(pod).overhead.as_ref();
    names.extend(overhead.iter().flat_map(|r| r.keys().map(String::as_str)));
    names.sort_unstable();
    names.dedup();
    let total = |name: &str| {
        let own = match whole.and_then(|w| w.get(name)) {
            Some(quantity) => milli(quantity).unwrap_or(0),
            None => aggregate(pod, name, |r| r.requests.as_ref()),
        };
        own + milli_of(overhead, name)
    };
    names
        .into_iter()
        .map(|n| (n.to_owned(), total(n)))
        .collect()
}

/// Sums one resource the way containers of a pod share a node.
fn aggregate<'a>(
    pod: &'a Pod,
    name: &str,
    list: impl Fn(&'a ResourceRequirements) -> Option<&'a BTreeMap<String, Quantity>>,
) -> i128 {
    let of = |c: &'a Container| milli_of(c.resources.as_ref().and_then(&list), name);
    let (mut sidecars, mut init_peak) = (0, 0);
    for container in pod::init_containers(pod) {
        if pod::is_sidecar(container) {
            sidecars += of(container);
            init_peak = init_peak.max(sidecars);
        } else {
            init_peak = init_peak.max(sidecars + of(container));
        }
    }
    let together: i128 = pod::spec(pod).containers.iter().map(of).sum();
    (together + sidecars).max(init_peak)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
