//! Which nodes shall run the pod, and which may keep it.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, PodSpec, Toleration};
use machinery::placement;

/// Taints that come over a node by itself; daemons bear them.
const BORNE: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NO_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// What a DaemonSet asks of nodes.
pub(super) struct Fit<'a> {
    spec: &'a PodSpec,
    tolerations: Vec<Toleration>,
}

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// It shall run the pod.
    pub(super) runs: bool,
    /// It may keep the pod that it has.
    pub(super) keeps: bool,
}

impl<'a> Fit<'a> {
    pub(super) fn of(set: &'a DaemonSet) -> Option<Self> {
        let spec = set.spec.template.spec.as_ref()?;
        Some(Self {
            spec,
            tolerations: tolerations(spec),
        })
    }

    pub(super) fn verdict(&self, node: &Node) -> Verdict {
        let verdict = |runs, keeps| Verdict { runs, keeps };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let bound = self.spec.node_name.as_deref().unwrap_or_default();
        if (!bound.is_empty() && bound != name) || !self.matches(node, name) {
            return verdict(false, false);
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
        let untolerated = |effects: &[&str]| {
            let mut taints = taints.into_iter().flatten();
            taints.any(|taint| {
                effects.contains(&taint.effect.as_str())
                    && !self
                        .tolerations
                        .iter()
                        .any(|t| placement::tolerates(t, taint))
            })
        };
        if untolerated(&["NoExecute", "NoSchedule"]) {
            return verdict(false, !untolerated(&["NoExecute"]));
        }
        verdict(true, true)
    }

    fn matches(&self, node: &Node, name: &str) -> bool {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let mut selected = self.spec.node_selector.iter().flatten();
        let affinity = self.spec.affinity.as_ref();
        let affinity = affinity.and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        selected.all(|(key, value)| labels.get(key) == Some(value))
            && required.is_none_or(|r| placement::matches(r, name, &labels))
    }
}

/// The tolerations of the pods: those of the template, and those of every daemon.
pub(super) fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let host = spec.host_network == Some(true);
    let borne = BORNE.iter().chain(host.then_some(&NO_NETWORK));
    for (key, effect) in borne {
        let toleration = Toleration {
            key: Some((*key).to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some((*effect).to_owned()),
            ..Toleration::default()
        };
        // The value has no part in what makes two of them the same.
        let same = |t: &&mut Toleration| {
            t.key == toleration.key
                && t.operator == toleration.operator
                && t.effect == toleration.effect
                && t.value.as_deref().unwrap_or_default().is_empty()
        };
        match all.iter_mut().find(same) {
            Some(there) => *there = toleration,
            None => all.push(toleration),
        }
    }
    all
}
