//! One budget, its pods, and how many replicas their controllers want.

use std::sync::Arc;

use control::{Caches, Change, Key, Look, Wake};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use machinery::labels::Selector;

use crate::ownership::controller_of;

/// All that a decision may depend on.
pub struct Observed {
    /// The budget.
    pub budget: Arc<PodDisruptionBudget>,
    /// The pods that it selects, each with its controller.
    pub pods: Vec<(Arc<Pod>, Controller)>,
    /// The selector is malformed.
    pub malformed: Option<String>,
    /// The moment of the decision.
    pub now: Timestamp,
}

/// Who controls a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Controller {
    /// Nobody.
    None,
    /// This one, which wants so many replicas.
    Scaled {
        /// Its UID.
        uid: String,
        /// Wanted replicas.
        replicas: i32,
    },
    /// It is not there (any more).
    Missing,
    /// It has no number of replicas; why.
    Unscaled(String),
}

pub(super) fn wake(on: &mut Wake<'_>) {
    on.on_root::<PodDisruptionBudget>()
        .on::<Pod>(budgets_of_pod)
        .reads::<ReplicationController>()
        .reads::<ReplicaSet>()
        .reads::<Deployment>()
        .reads::<StatefulSet>();
}

fn budgets_of_pod(change: &Change<Pod>, caches: &Caches) -> Vec<Key> {
    let namespace = change
        .latest()
        .metadata
        .namespace
        .as_deref()
        .unwrap_or_default();
    let budgets = caches.of::<PodDisruptionBudget>().in_namespace(namespace);
    let covers = |budget: &Arc<PodDisruptionBudget>| {
        let selector = selector(budget).ok()?;
        let mut sides = change.sides();
        sides
            .any(|pod| selector.matches_map(pod.metadata.labels.as_ref()))
            .then(|| Key::of(budget.as_ref()))
    };
    budgets.iter().filter_map(covers).collect()
}

fn selector(budget: &PodDisruptionBudget) -> Result<Selector, String> {
    Selector::from_optional(budget.spec.as_ref().and_then(|s| s.selector.as_ref()))
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let budget = look.caches.of::<PodDisruptionBudget>().get(look.key)?;
    let (selector, malformed) = match selector(&budget) {
        Ok(selector) => (selector, None),
        Err(why) => (Selector::nothing(), Some(why)),
    };
    let pods = look.caches.of::<Pod>().in_namespace(&look.key.namespace);
    let pods = pods
        .into_iter()
        .filter(|pod| selector.matches_map(pod.metadata.labels.as_ref()))
        .map(|pod| {
            let controller = match controller_of(&pod.metadata) {
                None => Controller::None,
                Some(owner) => controller(look.caches, &look.key.namespace, owner),
            };
            (pod, controller)
        });
    Some(Observed {
        pods: pods.collect(),
        budget,
        malformed,
        now: look.now,
    })
}

/// The controller behind a reference; that of a ReplicaSet is its Deployment, where it has one.
fn controller(caches: &Caches, namespace: &str, owner: &OwnerReference) -> Controller {
    let (group, _) = owner.api_version.split_once('/').unwrap_or(("", ""));
    let scaled = |uid: &Option<String>, replicas: Option<i32>, wanted: &str| match uid {
        Some(uid) if uid == wanted => Controller::Scaled {
            uid: uid.clone(),
            replicas: replicas.unwrap_or(1),
        },
        _ => Controller::Missing,
    };
    let missing = Controller::Missing;
    match (group, owner.kind.as_str()) {
        ("", "ReplicationController") => {
            let found = caches
                .of::<ReplicationController>()
                .named(namespace, &owner.name);
            found.map_or(missing, |rc| {
                let replicas = rc.spec.as_ref().and_then(|s| s.replicas);
                scaled(&rc.metadata.uid, replicas, &owner.uid)
            })
        }
        ("apps" | "extensions", "ReplicaSet") => {
            let found = caches.of::<ReplicaSet>().named(namespace, &owner.name);
            let found = found.filter(|rs| rs.metadata.uid.as_deref() == Some(&owner.uid));
            let Some(set) = found else { return missing };
            match controller_of(&set.metadata).filter(|c| c.kind == "Deployment") {
                None => scaled(&set.metadata.uid, set.spec.replicas, &owner.uid),
                Some(above) => {
                    let found = caches.of::<Deployment>().named(namespace, &above.name);
                    found.map_or(missing, |deployment| {
                        let replicas = deployment.spec.replicas;
                        scaled(&deployment.metadata.uid, replicas, &above.uid)
                    })
                }
            }
        }
        ("apps", "StatefulSet") => {
            let found = caches.of::<StatefulSet>().named(namespace, &owner.name);
            found.map_or(missing, |set| {
                let replicas = set.spec.replicas;
                scaled(&set.metadata.uid, replicas, &owner.uid)
            })
        }
        _ => Controller::Unscaled(unscaled(caches, group, owner)),
    }
}

fn unscaled(caches: &Caches, group: &str, owner: &OwnerReference) -> String {
    let catalog = caches.catalog();
    let known = catalog
        .iter()
        .map(|found| &found.resource)
        .find(|r| r.group == group && r.kind == owner.kind);
    match known {
        Some(resource) => format!("{resource} does not implement the scale subresource"),
        None => format!(
            "no matches for kind {:?} in version {:?}",
            owner.kind, owner.api_version
        ),
    }
}
