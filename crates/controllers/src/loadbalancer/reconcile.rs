//! What has to be written so that every Service has what it shall have.

use std::sync::Arc;

use control::plan::reference;
use control::{Action, Event, EventType, Patch, Plan, Target};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::addresses::{Given, give, present};
use super::observe::is_held;
use super::{ANNOUNCED_BY, FINALIZER, Observed};

/// Decides about all Services.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let mut plan = Plan::default();
    let (mut served, mut wrong, mut told) = (0, 0, o.since);
    for (balanced, given) in o.services.iter().zip(give(o)) {
        let service = &balanced.service;
        let mut complain = |reason: &str, text: &str| {
            let created = service.metadata.creation_timestamp.as_ref();
            // Once is enough, but what came later has not been told yet.
            let news = o
                .since
                .is_none_or(|since| created.is_some_and(|t| t.0 > since));
            told = Some(if news { o.now } else { told.unwrap_or(o.now) });
            news.then(|| say(service, EventType::Warning, reason, text))
        };
        match given {
            None => plan.actions.extend(release(service)),
            Some(Ok(given)) if given.addresses.is_empty() => {
                wrong += 1;
                let text = "There are no available nodes for LoadBalancer";
                plan.actions
                    .extend(complain("UnAvailableLoadBalancer", text));
            }
            Some(Ok(given)) => {
                served += 1;
                plan.actions.extend(ensure(service, &given));
            }
            Some(Err(why)) => {
                wrong += 1;
                let text =
                    format!("Error syncing load balancer: failed to ensure load balancer: {why}");
                plan.actions
                    .extend(complain("SyncLoadBalancerFailed", &text));
                // What it has been given before belongs to another one now.
                plan.actions.extend(release(service));
            }
        }
    }
    plan.since = told.filter(|_| wrong > 0);
    plan.because = format!("{served} services have their addresses, {wrong} cannot get any");
    plan
}

fn say(service: &Arc<Service>, event_type: EventType, reason: &str, message: &str) -> Action {
    Action::Event(Event {
        about: reference(service.as_ref()),
        event_type,
        reason: reason.to_owned(),
        message: message.to_owned(),
    })
}

/// One write of metadata and status: an address never stands there without the finalizer.
fn write(service: &Arc<Service>, finalizers: Vec<&str>, node: Value, status: Value) -> Action {
    let patch = json!({
        "metadata": {
            "uid": service.metadata.uid,
            "resourceVersion": service.metadata.resource_version,
            "finalizers": finalizers,
            "annotations": { ANNOUNCED_BY: node },
        },
        "status": { "loadBalancer": status },
    });
    Action::Patch {
        target: Target::of(service.as_ref()),
        patch: Patch::Merge(patch),
        subresource: Some("status"),
        report: None,
    }
}

fn other_finalizers(service: &Service) -> Vec<&str> {
    let all = service.metadata.finalizers.iter().flatten();
    all.map(String::as_str)
        .filter(|f| *f != FINALIZER)
        .collect()
}

fn announced_by(service: &Service) -> Option<&String> {
    service.metadata.annotations.as_ref()?.get(ANNOUNCED_BY)
}

fn ensure(service: &Arc<Service>, given: &Given) -> Vec<Action> {
    let same_addresses = present(service) == given.addresses;
    if same_addresses && is_held(service) && announced_by(service) == given.node.as_ref() {
        return Vec::new();
    }
    let mut finalizers = other_finalizers(service);
    finalizers.push(FINALIZER);
    let ingress = given.addresses.iter();
    let ingress: Vec<Value> = ingress
        .map(|ip| json!({ "ip": ip, "ipMode": "VIP" }))
        .collect();
    let node = given.node.as_deref().map_or(Value::Null, Value::from);
    let write = write(service, finalizers, node, json!({ "ingress": ingress }));
    let normal = |reason, text| say(service, EventType::Normal, reason, text);
    match is_held(service) {
        false => vec![
            normal("EnsuringLoadBalancer", "Ensuring load balancer"),
            write,
            normal("EnsuredLoadBalancer", "Ensured load balancer"),
        ],
        true => vec![
            write,
            normal(
                "UpdatedLoadBalancer",
                "Updated load balancer with new hosts",
            ),
        ],
    }
}

fn release(service: &Arc<Service>) -> Vec<Action> {
    if !is_held(service) {
        return Vec::new();
    }
    let normal = |reason, text| say(service, EventType::Normal, reason, text);
    let finalizers = other_finalizers(service);
    vec![
        normal("DeletingLoadBalancer", "Deleting load balancer"),
        write(service, finalizers, Value::Null, json!({ "ingress": null })),
        normal("DeletedLoadBalancer", "Deleted load balancer"),
    ]
}
