//! What has to be deleted next.

use std::collections::{BTreeMap, BTreeSet};

use control::{Action, Plan, Question, Resource, StatusWrite, Target};
use k8s_openapi::api::core::v1::Namespace;

use super::status::{self, Remaining};
use super::{FINALIZER, Observed};

/// Decides about one namespace.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let namespace = o.namespace.as_ref();
    if namespace.metadata.deletion_timestamp.is_none() {
        return Plan::idle("it is not being deleted");
    }
    let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
    if phase != Some("Terminating") {
        return begin(namespace);
    }
    if !finalizers(namespace).iter().any(|f| f == FINALIZER) {
        return Plan::idle("others still have to finalize it");
    }
    if !o.content.is_empty() {
        return delete_known(o);
    }
    if o.kinds.iter().any(|(_, listed)| listed.is_none()) {
        return ask(o, Vec::new());
    }
    let left = o
        .kinds
        .iter()
        .filter(|(_, listed)| listed.as_ref().is_some_and(|l| !l.is_empty()));
    let left: Vec<Resource> = left.map(|(resource, _)| resource.clone()).collect();
    if left.is_empty() {
        return finalize(namespace);
    }
    delete_listed(o, &left)
}

fn finalizers(namespace: &Namespace) -> Vec<String> {
    let spec = namespace.spec.as_ref();
    spec.and_then(|s| s.finalizers.clone()).unwrap_or_default()
}

fn begin(namespace: &Namespace) -> Plan {
    let mut namespace = namespace.clone();
    let status = namespace.status.get_or_insert_default();
    status.phase = Some("Terminating".to_owned());
    Plan {
        status: Some(StatusWrite::of(&namespace)),
        because: "its deletion begins".to_owned(),
        ..Plan::default()
    }
}

/// Deletes what the cache knows: pods first, everything else when they are gone.
fn delete_known(o: &Observed) -> Plan {
    let is_pod = |r: &Resource| r.group.is_empty() && r.plural == "pods";
    let pods = o.content.iter().any(|m| is_pod(&m.target.resource));
    let turn = |r: &Resource| !pods || is_pod(r);
    let mut remaining = Remaining::default();
    let mut begun = BTreeSet::new();
    for object in o.content.iter().filter(|m| turn(&m.target.resource)) {
        remaining.count(&object.target.resource, object.finalizers.iter());
        if !object.deleting {
            begun.insert(object.target.resource.clone());
        }
    }
    let count = o.content.len();
    Plan {
        actions: delete_all(o, begun),
        status: status::write(o, &remaining),
        because: if pods {
            format!("waiting for pods to go before the rest, {count} objects are left")
        } else {
            format!("waiting for {count} objects to go")
        },
        ..Plan::default()
    }
}

/// Asks the API what there is of every kind.
fn ask(o: &Observed, mut actions: Vec<Action>) -> Plan {
    let questions = o.kinds.iter().map(|(resource, _)| {
        Action::Confirm(Question::List {
            resource: resource.clone(),
            namespace: name(o),
        })
    });
    actions.extend(questions);
    Plan {
        actions,
        because: "making sure that nothing is left".to_owned(),
        ..Plan::default()
    }
}

/// The API knows of something that the cache does not: kinds that are not watched, or what has just come.
fn delete_listed(o: &Observed, left: &[Resource]) -> Plan {
    let mut remaining = Remaining::default();
    let mut begun = BTreeSet::new();
    for (resource, listed) in &o.kinds {
        for item in listed.iter().flatten() {
            let meta = &item["metadata"];
            let finalizers = meta["finalizers"].as_array();
            let finalizers: Vec<String> = finalizers
                .into_iter()
                .flatten()
                .filter_map(|f| f.as_str().map(str::to_owned))
                .collect();
            remaining.count(resource, finalizers.iter());
            if meta["deletionTimestamp"].is_null() {
                begun.insert(resource.clone());
            }
        }
    }
    let because = format!("{} kinds are not empty yet", left.len());
    if begun.is_empty() {
        // The cache will tell when they go; kinds that it does not hold have to be asked for again.
        return Plan {
            status: status::write(o, &remaining),
            requeue_after: Some(std::time::Duration::from_secs(5)),
            because,
            ..Plan::default()
        };
    }
    Plan {
        because,
        ..ask(o, delete_all(o, begun))
    }
}

fn delete_all(o: &Observed, kinds: BTreeSet<Resource>) -> Vec<Action> {
    let delete = |resource| Action::DeleteCollection {
        resource,
        namespace: name(o),
    };
    kinds.into_iter().map(delete).collect()
}

fn name(o: &Observed) -> String {
    o.namespace.metadata.name.clone().unwrap_or_default()
}

fn finalize(namespace: &Namespace) -> Plan {
    let mut object = namespace.clone();
    let mut finalizers = finalizers(namespace);
    finalizers.retain(|f| f != FINALIZER);
    object.spec.get_or_insert_default().finalizers = Some(finalizers);
    Plan {
        actions: vec![Action::Update {
            target: Target::of(namespace),
            object: control::plan::to_value(&object),
            subresource: Some("finalize"),
            report: None,
        }],
        because: "nothing is left in it".to_owned(),
        ..Plan::default()
    }
}

/// Counts by kind, for tests and messages alike.
pub(super) type Counts = BTreeMap<String, usize>;
