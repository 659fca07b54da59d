//! Which pods belong together although they do not say so themselves: those of one service, and of one controller.
//!
//! Behaviour: `DefaultSelector` in `pkg/scheduler/framework/plugins/helper`.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use machinery::labels::Selector;

use crate::pod::PodInfo;

type Labels = BTreeMap<String, String>;

/// The controller of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Something that selects pods, as it came, changed or went.
#[derive(Clone, Debug)]
pub enum Group<'a> {
    /// A service.
    Service(&'a Service),
    /// A ReplicationController.
    ReplicationController(&'a ReplicationController),
    /// A ReplicaSet.
    ReplicaSet(&'a ReplicaSet),
    /// A StatefulSet.
    StatefulSet(&'a StatefulSet),
}

macro_rules! groups {
    ($($kind:ident,)*) => {$(
        impl<'a> From<&'a $kind> for Group<'a> {
            fn from(object: &'a $kind) -> Self {
                Self::$kind(object)
            }
        }
    )*};
}

groups! {
    Service,
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

/// All that select pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    /// By name-space and name.
    services: HashMap<String, BTreeMap<String, Labels>>,
    controllers: HashMap<(String, Owner), Selector>,
}

impl Groups {
    /// Takes in a group, or forgets it.
    pub(crate) fn set(&mut self, group: &Group<'_>, gone: bool) {
        let own = |selector: &LabelSelector| {
            Selector::from_label_selector(selector).unwrap_or_else(|_| Selector::nothing())
        };
        match group {
            Group::Service(service) => self.set_service(service, gone),
            Group::ReplicationController(rc) => {
                let labels = rc.spec.as_ref().and_then(|s| s.selector.clone());
                let selector = Selector::from_map(&labels.unwrap_or_default());
                self.set_controller("v1", "ReplicationController", &rc.metadata, selector, gone);
            }
            Group::ReplicaSet(set) => {
                let selector = own(&set.spec.selector);
                self.set_controller("apps/v1", "ReplicaSet", &set.metadata, selector, gone);
            }
            Group::StatefulSet(set) => {
                let selector = own(&set.spec.selector);
                self.set_controller("apps/v1", "StatefulSet", &set.metadata, selector, gone);
            }
        }
    }

    fn set_service(&mut self, service: &Service, gone: bool) {
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        let name = service.metadata.name.clone().unwrap_or_default();
        let labels = service.spec.as_ref().and_then(|s| s.selector.clone());
        let all = self.services.entry(namespace).or_default();
        match labels.filter(|labels| !gone && !labels.is_empty()) {
            Some(labels) => drop(all.insert(name, labels)),
            None => drop(all.remove(&name)),
        }
    }

    fn set_controller(
        &mut self,
        api_version: &str,
        kind: &str,
        meta: &ObjectMeta,
        selector: Selector,
        gone: bool,
    ) {
        let owner = Owner {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: meta.name.clone().unwrap_or_default(),
        };
        let key = (meta.namespace.clone().unwrap_or_default(), owner);
        match gone {
            true => drop(self.controllers.remove(&key)),
            false => drop(self.controllers.insert(key, selector)),
        }
    }

    /// The selector of the pods that a pod belongs with; `None` when it belongs with nobody.
    pub(crate) fn around(&self, pod: &PodInfo) -> Option<Selector> {
        let services = self.services.get(&pod.key.namespace);
        let covers = |labels: &&Labels| {
            labels
                .iter()
                .all(|(key, value)| pod.labels.get(key) == Some(value))
        };
        let mut labels = Labels::new();
        for selector in services
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(covers)
        {
            labels.extend(selector.clone());
        }
        let mut requirements = Selector::from_map(&labels).requirements().to_vec();
        if let Some(owner) = &pod.owner {
            let key = (pod.key.namespace.clone(), owner.clone());
            let own = self.controllers.get(&key);
            requirements.extend(own.into_iter().flat_map(Selector::requirements).cloned());
        }
        (!requirements.is_empty()).then(|| Selector::new(requirements))
    }
}
