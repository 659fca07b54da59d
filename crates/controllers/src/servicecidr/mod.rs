//! ServiceCIDRs stay while addresses need them, and say whether they are ready.
//!
//! One that is deleted goes when each of its networks lies in another ServiceCIDR, or when no address would be left
//! without any; and then only some seconds later, when every API server surely gives no more addresses out of it.
//!
//! Upstream: `pkg/controller/servicecidrs`.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::networking::ipaddress::{ALLOCATOR, MANAGED_BY};
use api::networking::servicecidr::{FINALIZER, READY, Range};
use control::{Action, Key, Look, Plan, Reconciler, StatusWrite, Wake};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// How long API servers may take to learn that one is on its way out.
const GRACE_SECONDS: i64 = 10;
const IN_USE: &str = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

/// The controller of ServiceCIDRs.
pub struct ServiceCidrController;

/// All that a decision may depend on.
pub struct Observed {
    /// The ServiceCIDR.
    pub cidr: Arc<ServiceCIDR>,
    /// The networks of all others.
    pub others: Vec<Range>,
    /// The addresses that were given out; looked up only for one that is deleted.
    pub addresses: Vec<IpAddr>,
    /// The moment of the decision.
    pub now: Timestamp,
}

impl Reconciler for ServiceCidrController {
    type Observed = Observed;

    const NAME: &'static str = "service-cidr-controller";
    const IDENTITY: &'static str = "service-cidrs-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<ServiceCIDR>()
            .on::<ServiceCIDR>(|change, caches| {
                let changed: Vec<Range> = change.sides().flat_map(networks).collect();
                let touches = |cidr: &ServiceCIDR| {
                    let own = networks(cidr);
                    own.iter()
                        .any(|own| changed.iter().any(|c| c.covers(own) || own.covers(c)))
                };
                keys(caches.of::<ServiceCIDR>().all(), touches)
            })
            .on::<IPAddress>(|change, caches| {
                let addresses: Vec<IpAddr> = change.sides().filter_map(given_out).collect();
                let leaves = |cidr: &ServiceCIDR| {
                    let mut own = networks(cidr).into_iter();
                    is_deleting(cidr) && own.any(|r| addresses.iter().any(|a| r.contains(*a)))
                };
                keys(caches.of::<ServiceCIDR>().all(), leaves)
            });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let all = look.caches.of::<ServiceCIDR>();
        let cidr = all.get(look.key)?;
        let others = all.all().into_iter();
        let others = others.filter(|other| other.metadata.name != cidr.metadata.name);
        let addresses = match is_deleting(&cidr) {
            true => look.caches.of::<IPAddress>().all(),
            false => Vec::new(),
        };
        Some(Observed {
            others: others.flat_map(|other| networks(&other)).collect(),
            addresses: addresses.iter().filter_map(|a| given_out(a)).collect(),
            now: look.now,
            cidr,
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        let finalizers = o.cidr.metadata.finalizers.iter().flatten();
        let held = finalizers.into_iter().any(|f| f == FINALIZER);
        let Some(deleted) = &o.cidr.metadata.deletion_timestamp else {
            return match held {
                true => condition(o, "True", "", "Kubernetes Service CIDR is ready"),
                false => protect(o),
            };
        };
        if !held {
            return Plan::idle("it is leaving and no longer protected");
        }
        if needed(o) {
            return condition(o, "False", "Terminating", IN_USE);
        }
        let waited = o.now.duration_since(deleted.0).as_secs();
        if let Ok(rest @ 1..) = u64::try_from(GRACE_SECONDS - waited) {
            return Plan {
                requeue_after: Some(Duration::from_secs(rest)),
                because: "API servers may still give addresses out of it".to_owned(),
                ..Plan::default()
            };
        }
        release(o)
    }
}

/// Whether an address would be left without a network if it went.
fn needed(o: &Observed) -> bool {
    let own = networks(&o.cidr);
    if own
        .iter()
        .all(|r| o.others.iter().any(|other| other.covers(r)))
    {
        return false;
    }
    let orphan = |address: &IpAddr| {
        own.iter().any(|r| r.contains(*address)) && !o.others.iter().any(|r| r.contains(*address))
    };
    o.addresses.iter().any(orphan)
}

fn protect(o: &Observed) -> Plan {
    let mut cidr = (*o.cidr).clone();
    let finalizers = cidr.metadata.finalizers.get_or_insert_default();
    finalizers.push(FINALIZER.to_owned());
    Plan {
        actions: vec![Action::update(&cidr, None)],
        because: "it is not protected yet".to_owned(),
        ..Plan::default()
    }
}

fn release(o: &Observed) -> Plan {
    let mut cidr = (*o.cidr).clone();
    let finalizers = cidr.metadata.finalizers.get_or_insert_default();
    finalizers.retain(|f| f != FINALIZER);
    Plan {
        actions: vec![Action::update(&cidr, None)],
        because: "no address needs it".to_owned(),
        ..Plan::default()
    }
}

fn condition(o: &Observed, status: &str, reason: &str, message: &str) -> Plan {
    let conditions = o.cidr.status.as_ref().and_then(|s| s.conditions.as_ref());
    let there = conditions.and_then(|all| all.iter().find(|c| c.type_ == READY));
    let same = |c: &Condition| c.status == status && c.reason == reason && c.message == message;
    if there.is_some_and(same) {
        return Plan::idle(message);
    }
    let mut cidr = (*o.cidr).clone();
    let own = cidr.status.get_or_insert_default();
    let conditions = own.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != READY);
    conditions.push(Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(o.now),
        observed_generation: None,
    });
    Plan {
        status: Some(StatusWrite::of(&cidr)),
        because: message.to_owned(),
        ..Plan::default()
    }
}

fn is_deleting(cidr: &ServiceCIDR) -> bool {
    cidr.metadata.deletion_timestamp.is_some()
}

fn networks(cidr: &ServiceCIDR) -> Vec<Range> {
    let cidrs = cidr.spec.as_ref().and_then(|s| s.cidrs.as_ref());
    let cidrs = cidrs.into_iter().flatten();
    cidrs.filter_map(|cidr| Range::parse(cidr)).collect()
}

/// The address of an IPAddress that API servers made for a Service.
fn given_out(address: &IPAddress) -> Option<IpAddr> {
    let labels = address.metadata.labels.as_ref()?;
    let is_given = labels.get(MANAGED_BY).is_some_and(|by| by == ALLOCATOR);
    let name = address.metadata.name.as_ref().filter(|_| is_given)?;
    name.parse().ok()
}

fn keys(all: Vec<Arc<ServiceCIDR>>, wanted: impl Fn(&ServiceCIDR) -> bool) -> Vec<Key> {
    let wanted = all.iter().filter(|cidr| wanted(cidr));
    wanted.map(|cidr| Key::of(cidr.as_ref())).collect()
}
