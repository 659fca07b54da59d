//! Claims stay while pods use them: a finalizer keeps a deleted claim until no pod needs it, and a condition tells since
//! when a bound claim has had no pod.
//!
//! Before a claim is let go, the API itself is asked for the pods of its namespace: one that the cache does not know yet
//! may use it. Upstream: `pkg/controller/volume/pvcprotection`.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use control::{Action, Answer, Key, Look, Plan, Question, Reconciler, Resource, Target, Wake};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use volumes::notes::CLAIM_PROTECTION;

use crate::persistentvolume::{claim_keys_of_pod, index_pods, pods_of_claim};
use crate::pods;

const UNUSED: &str = "Unused";
/// How soon to look again when the cache lacks a pod that is there.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The protector of claims.
pub struct PvcProtectionController;

/// All that a decision may depend on.
pub struct Observed {
    /// The claim.
    pub claim: Arc<PersistentVolumeClaim>,
    /// The pods that use it, as far as the cache knows.
    pub pods: Vec<Arc<Pod>>,
    /// Whether the cache knows every pod of the namespace; `None` before the API was asked.
    pub knows_all_pods: Option<bool>,
    /// The moment of the decision.
    pub now: Timestamp,
}

impl Reconciler for PvcProtectionController {
    type Observed = Observed;

    const NAME: &'static str = "persistentvolumeclaim-protection-controller";
    const IDENTITY: &'static str = "pvc-protection-controller";

    fn wake(on: &mut Wake<'_>) {
        index_pods(on);
        on.on_root::<PersistentVolumeClaim>()
            .on::<Pod>(|change, _| claim_keys_of_pod(change));
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let claim = look.caches.of::<PersistentVolumeClaim>().get(look.key)?;
        let answer = look.answers.get(&question(look.key));
        let known: BTreeSet<String> = match answer {
            None => BTreeSet::new(),
            Some(_) => {
                let all = look.caches.of::<Pod>().in_namespace(&look.key.namespace);
                all.iter().filter_map(|p| p.metadata.uid.clone()).collect()
            }
        };
        let knows_all_pods = answer.map(|answer| match answer {
            Answer::Items(items) => items.iter().all(|item| {
                let uid = item["metadata"]["uid"].as_str().unwrap_or_default();
                known.contains(uid)
            }),
            _ => true,
        });
        Some(Observed {
            pods: pods_of_claim(look.caches, look.key),
            now: look.now,
            knows_all_pods,
            claim,
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        let held = has_finalizer(&o.claim);
        if o.claim.metadata.deletion_timestamp.is_none() {
            return match held {
                true => unused(o),
                false => protect(o),
            };
        }
        if !held {
            return Plan::idle("it is leaving and no longer protected");
        }
        if let Some(pod) = o.pods.iter().find(|pod| needs(pod, &o.claim)) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            return Plan::idle(format!("pod {name} uses it"));
        }
        match o.knows_all_pods {
            None => Plan {
                actions: vec![Action::Confirm(question(&Key::of(o.claim.as_ref())))],
                because: "no pod seems to use it, the API is asked".to_owned(),
                ..Plan::default()
            },
            Some(false) => Plan {
                requeue_after: Some(CATCH_UP),
                because: "there are pods that have not been seen yet".to_owned(),
                ..Plan::default()
            },
            Some(true) => release(o),
        }
    }
}

fn question(claim: &Key) -> Question {
    Question::List {
        resource: Resource::of::<Pod>(),
        namespace: claim.namespace.clone(),
    }
}

fn has_finalizer(claim: &PersistentVolumeClaim) -> bool {
    let finalizers = claim.metadata.finalizers.iter().flatten();
    finalizers.into_iter().any(|f| f == CLAIM_PROTECTION)
}

fn protect(o: &Observed) -> Plan {
    let mut claim = (*o.claim).clone();
    let finalizers = claim.metadata.finalizers.get_or_insert_default();
    finalizers.push(CLAIM_PROTECTION.to_owned());
    Plan {
        actions: vec![Action::update(&claim, None)],
        because: "it is not protected yet".to_owned(),
        ..Plan::default()
    }
}

fn release(o: &Observed) -> Plan {
    let mut claim = (*o.claim).clone();
    let finalizers = claim.metadata.finalizers.get_or_insert_default();
    finalizers.retain(|f| f != CLAIM_PROTECTION);
    Plan {
        actions: vec![Action::update(&claim, None)],
        because: "no pod uses it".to_owned(),
        ..Plan::default()
    }
}

/// Whether the pod refers to the claim: by name, or as the one that was made for it.
fn refers(pod: &Pod, claim: &PersistentVolumeClaim, made_counts: bool) -> bool {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let claims = volumes::claims_of(pod).into_iter();
    claims
        .filter(|(claim, _)| claim == name)
        .any(|(_, made)| !made || (made_counts && volumes::is_made_for(claim, pod)))
}

/// Whether the claim must stay for the pod: it has a node, and the kubelet may not be done with it.
fn needs(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let shut_down = pods::is_deleting(pod) && pod.metadata.deletion_grace_period_seconds == Some(0);
    !pods::node_name(pod).is_empty() && refers(pod, claim, !shut_down)
}

/// Keeps the condition that tells since when a bound claim has had no pod.
fn unused(o: &Observed) -> Plan {
    if volumes::claim_phase(&o.claim) != "Bound" {
        return Plan::idle("it is protected");
    }
    let mut pods = o.pods.iter().filter(|pod| !pods::is_terminal(pod));
    let used = pods.any(|pod| refers(pod, &o.claim, true));
    let conditions = o.claim.status.as_ref().and_then(|s| s.conditions.as_ref());
    let there = conditions.and_then(|all| all.iter().find(|c| c.type_ == UNUSED));
    let is_true = there.map(|condition| condition.status == "True");
    if is_true == Some(!used) {
        return Plan::idle("it is protected, and whether pods use it is told");
    }
    let (status, reason, message) = match used {
        true => (
            "False",
            "PodUsingPVC",
            "A pod is currently referencing this PVC",
        ),
        false => (
            "True",
            "NoPodsUsingPVC",
            "No pods are currently referencing this PVC",
        ),
    };
    let condition = PersistentVolumeClaimCondition {
        type_: UNUSED.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(o.now)),
        ..PersistentVolumeClaimCondition::default()
    };
    let mut claim = (*o.claim).clone();
    let own = claim.status.get_or_insert_default();
    let conditions = own.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != UNUSED);
    conditions.push(condition);
    Plan {
        actions: vec![Action::Update {
            target: Target::of(&claim),
            object: control::plan::to_value(&claim),
            subresource: Some("status"),
            report: None,
        }],
        because: message.to_owned(),
        ..Plan::default()
    }
}
