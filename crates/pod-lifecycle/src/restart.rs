//! Whether a container that ended runs again.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod;

/// What the restart policies say about a container that ended with `exit_code`: first the container's rules, then its own
/// policy, then the pod's.
pub fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else {
            continue;
        };
        let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
        let hit = if codes.operator == "NotIn" {
            !listed
        } else {
            listed
        };
        if hit && rule.action == "Restart" {
            return true;
        }
    }
    by_policy(effective_policy(pod, container), exit_code)
}

/// The policy that holds for a container.
pub fn effective_policy<'a>(pod: &'a Pod, container: &'a Container) -> &'a str {
    let own = container.restart_policy.as_deref();
    own.unwrap_or_else(|| pod_policy_for(pod, container))
}

/// The pod's policy as it holds for one container: an init container that succeeded is done.
fn pod_policy_for<'a>(pod: &'a Pod, container: &Container) -> &'a str {
    let is_init = pod::init_containers(pod)
        .iter()
        .any(|c| c.name == container.name);
    match pod::restart_policy(pod) {
        "Always" if is_init => "OnFailure",
        other => other,
    }
}

fn by_policy(policy: &str, exit_code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}
