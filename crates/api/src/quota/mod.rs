//! What objects count for quotas: the amounts that one uses, which quotas are about it, and what a quota demands of it.
//!
//! Admission asks this about a write, the quota controller about everything that is there. Every resource is counted as
//! `count/<resource>.<group>`; pods, services and claims are measured too.
//! Upstream: `pkg/quota/v1`, `k8s.io/apiserver/pkg/quota/v1`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, ResourceQuota, ScopedResourceSelectorRequirement, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::Object;
use machinery::quantity::{Format, Quantity};

use crate::view::Items;

mod claims;
mod pods;
mod services;
#[cfg(test)]
mod tests;

pub use pods::{limits_of_pod, requests_of_pod, whole_requests_of_pod};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Resources of the core group that are counted under their bare name too.
const ALIASED: &[&str] = &[
    "configmaps",
    "resourcequotas",
    "replicationcontrollers",
    "secrets",
];
/// Resources that no quota counts: they are never kept, or always were free.
const IGNORED: &[(&str, &str)] = &[
    ("", "bindings"),
    ("", "componentstatuses"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
];

/// A resource as quotas see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    group: String,
    resource: String,
}

/// One object, in the form that its resource is measured by.
pub enum Item {
    /// A pod.
    Pod(Box<Pod>),
    /// A service.
    Service(Box<Service>),
    /// A claim.
    Claim(Box<PersistentVolumeClaim>),
    /// Anything else counts as one.
    Other,
}

impl Counted {
    /// The resource, unless no quota counts it.
    pub fn new(group: &str, resource: &str) -> Option<Self> {
        let ignored = IGNORED.contains(&(group, resource));
        (!ignored).then(|| Self {
            group: group.to_owned(),
            resource: resource.to_owned(),
        })
    }

    /// The resource that a name of the form `count/<resource>.<group>`, or one of the system's own, is about.
    pub fn by(name: &str) -> Option<Self> {
        if let Some(counted) = name.strip_prefix("count/") {
            let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
            return Self::new(group, resource);
        }
        let core = |resource: &str| Self::new("", resource);
        let all = ["pods", "services", "persistentvolumeclaims"];
        let measured = all.into_iter().filter_map(core).find(|c| c.measures(name));
        measured.or_else(|| {
            let alias = ALIASED.iter().find(|alias| **alias == name);
            alias.and_then(|alias| core(alias))
        })
    }

    /// API group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Plural resource name.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// `count/pods`
    pub fn count_name(&self) -> String {
        match self.group.as_str() {
            "" => format!("count/{}", self.resource),
            group => format!("count/{}.{group}", self.resource),
        }
    }

    fn is_core(&self, resource: &str) -> bool {
        self.group.is_empty() && self.resource == resource
    }

    /// The object in the form that is measured; `None` when it does not have the shape of its kind.
    pub fn item(&self, object: &Object) -> Option<Item> {
        Some(match self.resource.as_str() {
            "pods" if self.group.is_empty() => Item::Pod(Box::new(object.view().ok()?)),
            "services" if self.group.is_empty() => Item::Service(Box::new(object.view().ok()?)),
            "persistentvolumeclaims" if self.group.is_empty() => {
                Item::Claim(Box::new(object.view().ok()?))
            }
            _ => Item::Other,
        })
    }

    /// Whether a quota's resource of this name measures objects of this resource.
    pub fn measures(&self, name: &str) -> bool {
        if name == self.count_name() {
            return true;
        }
        match self.resource.as_str() {
            _ if !self.group.is_empty() => false,
            "pods" => pods::measures(name),
            "services" => services::MEASURED.contains(&name),
            "persistentvolumeclaims" => claims::measures(name),
            resource => resource == name && ALIASED.contains(&resource),
        }
    }

    /// What an object uses.
    pub fn usage(&self, item: &Item, now: Timestamp) -> Amounts {
        let mut used = match item {
            Item::Pod(pod) => pods::usage(pod, now),
            Item::Service(service) => services::usage(service),
            Item::Claim(claim) => claims::usage(claim),
            Item::Other => Amounts::new(),
        };
        used.insert(self.count_name(), whole(1));
        if ALIASED.iter().any(|alias| self.is_core(alias)) {
            used.insert(self.resource.clone(), whole(1));
        }
        used
    }

    /// Whether a write can change what is used: a new object, or a change of what is measured. `old` is there for
    /// updates only.
    pub fn is_touched(&self, subresource: &str, new: &Item, old: Option<&Item>) -> bool {
        match (new, old) {
            (Item::Pod(new), Some(Item::Pod(old))) => match subresource {
                "" => pods::is_terminating(new) != pods::is_terminating(old),
                part => part == "resize",
            },
            (Item::Claim(new), Some(Item::Claim(old))) if subresource == "status" => {
                claims::is_replenished(new, old)
            }
            (Item::Service(_) | Item::Claim(_), Some(_)) | (_, None) => subresource.is_empty(),
            _ => false,
        }
    }

    /// Whether a quota is about this object: it limits something that objects of this resource use, as `hard` tells, and
    /// all its scopes fit.
    pub fn is_covered(&self, item: &Item, quota: &ResourceQuota, hard: &Amounts) -> bool {
        hard.keys().any(|name| self.measures(name))
            && scopes(quota).iter().all(|scope| in_scope(item, scope))
    }

    /// Whether an object is in a scope.
    pub fn is_in_scope(&self, item: &Item, scope: &ScopedResourceSelectorRequirement) -> bool {
        in_scope(item, scope)
    }

    /// Why an object cannot be counted: it says nothing about a resource that the quota wants to know of.
    pub fn shortfall(&self, item: &Item, required: &[&str]) -> Option<String> {
        match item {
            Item::Pod(pod) => pods::shortfall(pod, required),
            _ => None,
        }
    }
}

/// The scopes of a quota in one form.
pub fn scopes(quota: &ResourceQuota) -> Vec<ScopedResourceSelectorRequirement> {
    let spec = quota.spec.clone().unwrap_or_default();
    let plain = spec.scopes.items().iter().map(|scope| {
        let operator = "Exists".to_owned();
        ScopedResourceSelectorRequirement {
            operator,
            scope_name: scope.clone(),
            values: None,
        }
    });
    let selector = spec.scope_selector.and_then(|s| s.match_expressions);
    plain.chain(selector.into_iter().flatten()).collect()
}

fn in_scope(item: &Item, scope: &ScopedResourceSelectorRequirement) -> bool {
    match item {
        Item::Pod(pod) => pods::in_scope(pod, scope),
        Item::Claim(claim) => claims::in_scope(claim, scope),
        Item::Service(_) | Item::Other => false,
    }
}

/// Whether a requirement about names holds for those that are there.
fn selects(scope: &ScopedResourceSelectorRequirement, there: &[&str]) -> bool {
    let listed = || {
        let values = scope.values.items();
        there.iter().any(|name| values.iter().any(|v| v == name))
    };
    match scope.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => !there.is_empty(),
        "DoesNotExist" => there.is_empty(),
        _ => false,
    }
}

/// A whole number.
pub fn whole(value: usize) -> Quantity {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    Quantity::from_int(value, Format::DecimalSi)
}

/// Amounts of a typed object; what is no quantity is left out.
pub fn amounts(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    let parsed = list.into_iter().flatten();
    parsed
        .filter_map(|(name, text)| Some((name.clone(), Quantity::of(text).ok()?)))
        .collect()
}

/// Amounts for a typed object.
pub fn texts(amounts: &Amounts) -> BTreeMap<String, Text> {
    let text = |(name, amount): (&String, &Quantity)| (name.clone(), Text(amount.to_string()));
    amounts.iter().map(text).collect()
}

/// Adds all of `more`.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match total.get_mut(name) {
            Some(slot) => slot.add(amount),
            None => drop(total.insert(name.clone(), amount.clone())),
        }
    }
}
