//! ClusterRoles that are the sum of others.
//!
//! Invariant: a role with an aggregation rule has exactly the rules of the roles that it selects, in the order of
//! their names, each once. Upstream: `pkg/controller/clusterroleaggregation`.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::{Action, Caches, Change, Key, Look, Plan, Reconciler, Wake};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use machinery::labels::Selector;
use serde_json::json;

/// The controller of aggregated ClusterRoles.
pub struct ClusterRoleAggregationController;

/// All that a decision may depend on.
pub struct Observed {
    /// The role.
    pub root: Arc<ClusterRole>,
    /// All others, by name.
    pub others: Vec<Arc<ClusterRole>>,
}

/// Nobody knows which roles a change concerns, and there are few: all aggregated ones.
fn keys(_: &Change<ClusterRole>, caches: &Caches) -> Vec<Key> {
    let roles = caches.of::<ClusterRole>().all();
    let aggregated = roles.iter().filter(|r| r.aggregation_rule.is_some());
    aggregated.map(|r| Key::of(r.as_ref())).collect()
}

impl Reconciler for ClusterRoleAggregationController {
    type Observed = Observed;

    const NAME: &'static str = "clusterrole-aggregation-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on::<ClusterRole>(keys);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let roles = look.caches.of::<ClusterRole>();
        let root = roles.get(look.key)?;
        let mut others = roles.all();
        others.retain(|r| r.metadata.name != root.metadata.name);
        Some(Observed { root, others })
    }

    fn reconcile(o: &Observed) -> Plan {
        let Some(rule) = &o.root.aggregation_rule else {
            return Plan::idle("it has no aggregation rule");
        };
        let mut rules: Vec<PolicyRule> = Vec::new();
        for selector in rule.cluster_role_selectors.iter().flatten() {
            let Ok(selector) = Selector::from_label_selector(selector) else {
                return Plan::idle("one of its selectors is not valid");
            };
            let selected = o
                .others
                .iter()
                .filter(|r| selector.matches_map(r.metadata.labels.as_ref()));
            for rule in selected.flat_map(|r| r.rules.iter().flatten()) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
        if o.root.rules.as_deref().unwrap_or_default() == rules {
            return Plan::idle("its rules are those of the selected roles");
        }
        let patch = json!({
            "metadata": { "uid": o.root.metadata.uid },
            "rules": rules,
        });
        Plan {
            because: format!("{} rules are selected", rules.len()),
            actions: vec![Action::merge(o.root.as_ref(), patch, None)],
            ..Plan::default()
        }
    }
}
