//! Disruption budgets, as far as preemption looks at them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use machinery::labels::Selector;

use crate::pod::{PodInfo, PodKey};

/// One budget.
#[derive(Clone, Debug)]
struct Budget {
    selector: Selector,
    allowed: i32,
    /// Pods that count as gone already.
    disrupted: BTreeSet<String>,
}

/// All budgets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgets(BTreeMap<PodKey, Budget>);

impl Budgets {
    pub(crate) fn set(&mut self, budget: &PodDisruptionBudget) {
        let spec = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
        let status = budget.status.clone().unwrap_or_default();
        let selector = Selector::from_optional(spec).unwrap_or_else(|_| Selector::nothing());
        let known = Budget {
            selector,
            allowed: status.disruptions_allowed.unwrap_or(0),
            disrupted: status
                .disrupted_pods
                .unwrap_or_default()
                .into_keys()
                .collect(),
        };
        self.0.insert(key(budget), known);
    }

    pub(crate) fn remove(&mut self, budget: &PodDisruptionBudget) {
        self.0.remove(&key(budget));
    }

    /// Which of the pods, taken in this order, would go although a budget has no room left.
    pub(crate) fn breaking(&self, pods: &[PodInfo]) -> BTreeSet<PodKey> {
        let mut left: BTreeMap<&PodKey, i32> = self.0.iter().map(|(k, b)| (k, b.allowed)).collect();
        let mut breaking = BTreeSet::new();
        for pod in pods.iter().filter(|pod| !pod.labels.is_empty()) {
            for (key, budget) in &self.0 {
                let covers = key.namespace == pod.key.namespace
                    && !budget.selector.is_everything()
                    && budget.selector.matches_map(Some(&pod.labels))
                    && !budget.disrupted.contains(&pod.key.name);
                if !covers {
                    continue;
                }
                let left = left.entry(key).or_insert(0);
                *left -= 1;
                if *left < 0 {
                    breaking.insert(pod.key.clone());
                    break;
                }
            }
        }
        breaking
    }
}

fn key(budget: &PodDisruptionBudget) -> PodKey {
    PodKey {
        namespace: budget.metadata.namespace.clone().unwrap_or_default(),
        name: budget.metadata.name.clone().unwrap_or_default(),
    }
}
