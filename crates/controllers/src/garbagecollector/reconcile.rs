//! Whether an object goes, and what has to happen to its references before.

use control::{Action, Event, EventType, Meta, Patch, Plan, Propagation, Question};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::{FOREGROUND, ORPHAN, Observed, OwnerState};

/// Decides about one object.
pub(super) fn reconcile(o: &Observed) -> Plan {
    if o.item.deleting {
        if o.item.has_finalizer(ORPHAN) {
            return orphan_dependents(o);
        }
        if o.item.waits_for_dependents() {
            return wait_for_dependents(o);
        }
        return Plan::idle("it is being deleted");
    }
    if o.owners.is_empty() {
        return Plan::idle("it has no owner");
    }
    let questions = questions(o);
    if !questions.is_empty() {
        return Plan {
            because: format!("asking the API about {} owners", questions.len()),
            actions: questions,
            ..Plan::default()
        };
    }
    let is = |state: &OwnerState, wanted: &[OwnerState]| wanted.contains(state);
    let solid = o
        .owners
        .iter()
        .any(|(_, s)| is(s, &[OwnerState::Solid, OwnerState::Unknown]));
    let waiting = o
        .owners
        .iter()
        .any(|(_, s)| is(s, &[OwnerState::WaitsForDependents]));
    if solid {
        drop_references(o)
    } else if waiting && !o.dependents.is_empty() {
        delete_in_foreground(o)
    } else {
        delete(o)
    }
}

fn questions(o: &Observed) -> Vec<Action> {
    let targets = o.owners.iter().filter_map(|(_, state)| match state {
        OwnerState::Unconfirmed(target) => Some(target.clone()),
        _ => None,
    });
    let questions = targets.map(|t| Action::Confirm(Question::Get(t)));
    questions.collect()
}

/// Dependents lose the reference, and only then the owner its finalizer.
fn orphan_dependents(o: &Observed) -> Plan {
    let uid = &o.item.uid;
    let mut actions: Vec<Action> = o
        .dependents
        .iter()
        .map(|d| set_owners(d, d.owners.iter().filter(|owner| owner.uid != *uid)))
        .collect();
    actions.push(remove_finalizer(&o.item, ORPHAN));
    Plan {
        because: format!("{} dependents are orphaned", o.dependents.len()),
        actions,
        ..Plan::default()
    }
}

fn wait_for_dependents(o: &Observed) -> Plan {
    let blocks = |d: &&std::sync::Arc<Meta>| {
        let owners = d.owners.iter();
        owners
            .into_iter()
            .any(|r| r.uid == o.item.uid && r.block_owner_deletion == Some(true))
    };
    let blocking = o.dependents.iter().filter(blocks).count();
    if blocking > 0 {
        return Plan::idle(format!("waiting for {blocking} dependents to go"));
    }
    Plan {
        actions: vec![remove_finalizer(&o.item, FOREGROUND)],
        because: "no dependent blocks its deletion any more".to_owned(),
        ..Plan::default()
    }
}

/// It stays, without references to owners that are gone or waiting for it.
fn drop_references(o: &Observed) -> Plan {
    let stays = |state: &OwnerState| matches!(state, OwnerState::Solid | OwnerState::Unknown);
    if o.owners.iter().all(|(_, state)| stays(state)) {
        return Plan::idle("its owners exist");
    }
    let kept = o.owners.iter().filter(|(_, state)| stays(state));
    Plan {
        actions: vec![set_owners(&o.item, kept.map(|(owner, _)| owner))],
        because: "some of its owners are gone, others exist".to_owned(),
        ..Plan::default()
    }
}

/// An owner waits for it, and it has dependents itself. Where one of these waits as well there may be a circle: then
/// it stops blocking its owners first.
fn delete_in_foreground(o: &Observed) -> Plan {
    let blocks = |owner: &OwnerReference| owner.block_owner_deletion == Some(true);
    let circle = o.dependents.iter().any(|d| d.waits_for_dependents());
    if circle && o.item.owners.iter().any(blocks) {
        let owners: Vec<OwnerReference> = o
            .item
            .owners
            .iter()
            .cloned()
            .map(|owner| OwnerReference {
                block_owner_deletion: Some(false),
                ..owner
            })
            .collect();
        return Plan {
            actions: vec![set_owners(&o.item, owners.iter())],
            because: "owners and dependents may wait for each other".to_owned(),
            ..Plan::default()
        };
    }
    Plan {
        actions: vec![delete_with(&o.item, Propagation::Foreground)],
        because: "an owner waits for it, and it has dependents".to_owned(),
        ..Plan::default()
    }
}

fn delete(o: &Observed) -> Plan {
    let propagation = if o.item.has_finalizer(ORPHAN) {
        Propagation::Orphan
    } else if o.item.has_finalizer(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    let waiting = |s: &OwnerState| *s == OwnerState::WaitsForDependents;
    let waits = o.owners.iter().any(|(_, state)| waiting(state));
    let elsewhere = o.owners.iter().filter(|(_, s)| *s == OwnerState::Elsewhere);
    let mut actions: Vec<Action> = elsewhere
        .map(|(owner, _)| complain(&o.item, owner))
        .collect();
    actions.push(delete_with(&o.item, propagation));
    Plan {
        actions,
        because: if waits {
            "its owner waits for it to go".to_owned()
        } else {
            "all its owners are gone".to_owned()
        },
        ..Plan::default()
    }
}

fn delete_with(item: &Meta, propagation: Propagation) -> Action {
    Action::Delete {
        target: item.target.clone(),
        uid: item.uid.clone(),
        resource_version: Some(item.resource_version.clone()),
        propagation: Some(propagation),
        grace_seconds: None,
        report: None,
    }
}

fn patch(item: &Meta, mut metadata: Value) -> Action {
    metadata["uid"] = item.uid.as_str().into();
    metadata["resourceVersion"] = item.resource_version.as_str().into();
    Action::Patch {
        target: item.target.clone(),
        patch: Patch::Merge(json!({ "metadata": metadata })),
        subresource: None,
        report: None,
    }
}

fn set_owners<'a>(item: &Meta, owners: impl Iterator<Item = &'a OwnerReference>) -> Action {
    let owners: Vec<&OwnerReference> = owners.collect();
    patch(item, json!({ "ownerReferences": owners }))
}

fn remove_finalizer(item: &Meta, finalizer: &str) -> Action {
    let rest: Vec<&String> = item.finalizers.iter().filter(|f| *f != finalizer).collect();
    patch(item, json!({ "finalizers": rest }))
}

/// An owner of that UID lives in another namespace, which is never allowed.
fn complain(item: &Meta, owner: &OwnerReference) -> Action {
    let target = &item.target;
    let namespace = &target.key.namespace;
    let (api_version, kind) = (&owner.api_version, &owner.kind);
    let (name, uid) = (&owner.name, &owner.uid);
    Action::Event(Event {
        about: ObjectReference {
            api_version: Some(target.resource.api_version()),
            kind: Some(target.resource.kind.to_string()),
            namespace: Some(namespace.clone()),
            name: Some(target.key.name.clone()),
            uid: Some(item.uid.clone()),
            ..ObjectReference::default()
        },
        event_type: EventType::Warning,
        reason: "OwnerRefInvalidNamespace".to_owned(),
        message: format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] \
             does not exist in namespace {namespace:?}"
        ),
    })
}
