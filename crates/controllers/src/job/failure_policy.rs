//! What a pod's failure means: `spec.podFailurePolicy`.

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

use control::Key;

/// The meaning of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It counts against the back-off limit.
    Counts,
    /// It does not.
    Ignored,
    /// The index has failed for good.
    FailsIndex,
    /// The Job has failed, for this reason.
    FailsJob(String),
}

/// Finds the first rule that fits.
pub(super) fn meaning(spec: &JobSpec, pod: &Pod) -> Meaning {
    let rules = spec.pod_failure_policy.as_ref().map(|p| &p.rules);
    for (at, rule) in rules.into_iter().flatten().enumerate() {
        let why = if let Some(codes) = &rule.on_exit_codes {
            matching_container(pod, codes).map(|(name, code)| {
                let key = Key::of(pod);
                format!("Container {name} for pod {key} failed with exit code {code}")
            })
        } else {
            let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
            matching_condition(pod, patterns)
                .map(|condition| format!("Pod {} has condition {}", Key::of(pod), condition.type_))
        };
        let Some(why) = why else { continue };
        let action = &rule.action;
        match action.as_str() {
            "Ignore" => return Meaning::Ignored,
            "FailIndex" => return Meaning::FailsIndex,
            "Count" => return Meaning::Counts,
            "FailJob" => {
                let message = format!("{why} matching {action} rule at index {at}");
                return Meaning::FailsJob(message);
            }
            _ => {}
        }
    }
    Meaning::Counts
}

fn matching_container<'a>(
    pod: &'a Pod,
    codes: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let regular = status.container_statuses.iter().flatten();
    let init = status.init_container_statuses.iter().flatten();
    let ended = |status: &'a ContainerStatus| {
        let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
        Some((status.name.as_str(), code))
    };
    let fits = |(name, code): &(&str, i32)| {
        let named = codes.container_name.as_deref().is_none_or(|n| n == *name);
        let listed = codes.values.contains(code);
        named
            && *code != 0
            && match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
    };
    regular.chain(init).filter_map(ended).find(fits)
}

fn matching_condition<'a>(
    pod: &'a Pod,
    patterns: &[PodFailurePolicyOnPodConditionsPattern],
) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let fits = |c: &&PodCondition| {
        let mut patterns = patterns.iter();
        patterns.any(|p| p.type_ == c.type_ && p.status.as_deref().unwrap_or("True") == c.status)
    };
    conditions.iter().find(fits)
}
