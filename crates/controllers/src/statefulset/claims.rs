//! The claims of a pod: made before it, and owned as the retention policy says.

use control::plan::reference;
use control::{Action, Event, EventType, Report};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::Observed;
use super::identity::{claim_name, claim_templates, ordinal};
use super::observe::ordinals;
use crate::ownership::controller_reference;

/// Whether claims go with the set, and with pods that are scaled away.
#[derive(Clone, Copy)]
struct Retention {
    with_set: bool,
    with_scale: bool,
}

fn retention(set: &StatefulSet) -> Retention {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |text: Option<&String>| text.map(String::as_str) == Some("Delete");
    Retention {
        with_set: deletes(policy.and_then(|p| p.when_deleted.as_ref())),
        with_scale: deletes(policy.and_then(|p| p.when_scaled.as_ref())),
    }
}

/// What there is to do about the claims of a pod before it can be made.
pub(super) enum Missing {
    /// These have to be made, perhaps none.
    Create(Vec<Action>),
    /// One is on its way out.
    Deleting(String),
}

/// The claims that a pod still lacks.
pub(super) fn missing(o: &Observed, pod: &Pod) -> Missing {
    let set = o.root.as_ref();
    let Some(ordinal) = ordinal(pod) else {
        return Missing::Create(Vec::new());
    };
    let mut actions = Vec::new();
    for template in claim_templates(set) {
        let name = claim_name(set, template, ordinal);
        match o.claims.get(&name) {
            Some(claim) if claim.metadata.deletion_timestamp.is_some() => {
                return Missing::Deleting(name);
            }
            Some(_) => {}
            None => actions.push(create(set, template, &name, pod)),
        }
    }
    Missing::Create(actions)
}

fn create(set: &StatefulSet, template: &PersistentVolumeClaim, name: &str, pod: &Pod) -> Action {
    let mut labels = template.metadata.labels.clone().unwrap_or_default();
    labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels).filter(|l| !l.is_empty()),
            ..template.metadata.clone()
        },
        spec: template.spec.clone(),
        status: None,
    };
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    let owner = set.metadata.name.as_deref().unwrap_or_default();
    let report = Report {
        about: reference(set),
        success: Some((
            "SuccessfulCreate",
            format!("Create Claim {name} Pod {pod} in StatefulSet {owner} success"),
        )),
        failure: Some((
            "FailedCreate",
            format!("Create Claim {name} for Pod {pod} in StatefulSet {owner} failed error: "),
        )),
    };
    Action::create(&claim, Some(report))
}

/// Whether a claim is still owned by a pod of the same name that was there before: it will go with that one.
pub(super) fn is_stale(o: &Observed, pod: &Pod) -> bool {
    let set = o.root.as_ref();
    retention(set).with_scale
        && of_pod(o, pod)
            .iter()
            .any(|claim| has_stale_owner(claim, pod))
}

fn of_pod<'a>(o: &'a Observed, pod: &Pod) -> Vec<&'a PersistentVolumeClaim> {
    let set = o.root.as_ref();
    let Some(ordinal) = ordinal(pod) else {
        return Vec::new();
    };
    let templates = claim_templates(set).iter();
    let names = templates.map(|template| claim_name(set, template, ordinal));
    let claims = names.filter_map(|name| o.claims.get(&name));
    claims.map(AsRef::as_ref).collect()
}

fn owners(claim: &PersistentVolumeClaim) -> &[OwnerReference] {
    claim
        .metadata
        .owner_references
        .as_deref()
        .unwrap_or_default()
}

fn names<K: control::Kind>(reference: &OwnerReference, object: &K) -> bool {
    reference.api_version == K::API_VERSION
        && reference.kind == K::KIND
        && Some(&reference.name) == object.metadata().name.as_ref()
}

fn is<K: control::Kind>(reference: &OwnerReference, object: &K) -> bool {
    Some(&reference.uid) == object.metadata().uid.as_ref()
}

fn has_stale_owner<K: control::Kind>(claim: &PersistentVolumeClaim, object: &K) -> bool {
    let named = owners(claim).iter().find(|r| names(r, object));
    named.is_some_and(|r| !is(r, object))
}

/// Whether something else manages the claim, which is then left alone.
fn has_unexpected_controller(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    let policy = retention(set);
    if !policy.with_set && !policy.with_scale {
        return false;
    }
    owners(claim).iter().any(|r| {
        if names(r, set) {
            !is(r, set)
        } else if names(r, pod) {
            !is(r, pod)
        } else {
            r.controller == Some(true)
        }
    })
}

/// Who shall own a claim: the set, the pod.
fn wanted(set: &StatefulSet, pod: &Pod) -> (bool, bool) {
    let policy = retention(set);
    let scaled_away = ordinal(pod).is_none_or(|ordinal| !ordinals(set).contains(&ordinal));
    let of_pod = policy.with_scale && scaled_away;
    (policy.with_set && !of_pod, of_pod)
}

fn is_up_to_date(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    if has_stale_owner(claim, set) || has_stale_owner(claim, pod) {
        // The garbage collector will see to it.
        return true;
    }
    let has = (
        owners(claim).iter().any(|r| is(r, set)),
        owners(claim).iter().any(|r| is(r, pod)),
    );
    if has_unexpected_controller(claim, set, pod) {
        return has == (false, false);
    }
    let weak = |r: &OwnerReference| (is(r, set) || is(r, pod)) && r.controller != Some(true);
    !owners(claim).iter().any(weak) && has == wanted(set, pod)
}

/// Whether all claims of a pod are owned as they shall be.
pub(super) fn match_policy(o: &Observed, pod: &Pod) -> bool {
    let set = o.root.as_ref();
    of_pod(o, pod)
        .iter()
        .all(|claim| is_up_to_date(claim, set, pod))
}

/// Gives the claims of a pod their owners.
pub(super) fn own(o: &Observed, pod: &Pod) -> Vec<Action> {
    let set = o.root.as_ref();
    let mut actions = Vec::new();
    for claim in of_pod(o, pod) {
        let foreign = has_unexpected_controller(claim, set, pod);
        if foreign {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            actions.push(Action::Event(Event {
                about: reference(set),
                event_type: EventType::Warning,
                reason: "ConflictingController".to_owned(),
                message: format!(
                    "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a manging controller, \
                     the retention policy is ignored for this claim"
                ),
            }));
        }
        if is_up_to_date(claim, set, pod) {
            continue;
        }
        let mut references = owners(claim).to_vec();
        references.retain(|r| !names(r, set) && !names(r, pod));
        let (of_set, of_pod) = wanted(set, pod);
        if of_set && !foreign {
            references.push(controller_reference(set));
        }
        if of_pod && !foreign {
            references.push(controller_reference(pod));
        }
        let mut claim = claim.clone();
        claim.metadata.owner_references = Some(references);
        actions.push(Action::update(&claim, None));
    }
    actions
}
