//! Quality of service: the class of a pod, the names of its cgroups, and who is killed first.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use crate::pod;
use crate::quantity::{milli_of, units_of};

/// The class of a pod: `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(pod: &Pod) -> &'static str {
    let mut any = false;
    let mut all_limited = true;
    let whole = pod::spec(pod).resources.as_ref();
    let each: Vec<_> = match whole {
        Some(resources) => vec![Some(resources)],
        None => pod::lasting_containers(pod)
            .map(|c| c.resources.as_ref())
            .collect(),
    };
    for resources in each {
        for name in ["cpu", "memory"] {
            let (request, limit) = request_and_limit(resources, name);
            any |= request > 0 || limit > 0;
            all_limited &= limit > 0 && (request == 0 || request == limit);
        }
    }
    match (any, all_limited) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn request_and_limit(resources: Option<&ResourceRequirements>, name: &str) -> (i128, i128) {
    let requests = resources.and_then(|r| r.requests.as_ref());
    let limits = resources.and_then(|r| r.limits.as_ref());
    (milli_of(requests, name), milli_of(limits, name))
}

/// The cgroup of a pod below the node's root, for the `cgroupfs` driver: `/kubepods/burstable/pod<uid>`.
pub fn cgroup_parent(pod: &Pod) -> String {
    let uid = pod::uid(pod);
    match class(pod) {
        "Guaranteed" => format!("/kubepods/pod{uid}"),
        "Burstable" => format!("/kubepods/burstable/pod{uid}"),
        _ => format!("/kubepods/besteffort/pod{uid}"),
    }
}

/// How readily the kernel kills a container when memory runs out.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory_bytes: i128) -> i64 {
    /// The priority from which pods are the node's own.
    const SYSTEM_CRITICAL: i32 = 2_000_000_000;
    if pod::spec(pod).priority.unwrap_or(0) >= SYSTEM_CRITICAL {
        return -997;
    }
    match class(pod) {
        "Guaranteed" => return -997,
        "BestEffort" => return 1000,
        _ => {}
    }
    let request = |c: &Container| {
        units_of(
            c.resources.as_ref().and_then(|r| r.requests.as_ref()),
            "memory",
        )
    };
    let score = |bytes: i128| 1000 - 1000 * bytes / node_memory_bytes.max(1);
    let mut adjust = score(request(container));
    if pod::is_sidecar(container) {
        let least = pod::spec(pod).containers.iter().map(request).min();
        adjust = adjust.min(score(least.unwrap_or(0)));
    }
    i64::try_from(adjust.clamp(3, 999)).unwrap_or(999)
}
