//! The `default` service account of every namespace.
//!
//! Invariant: an active namespace has one; nothing else is touched. Upstream: `pkg/controller/serviceaccount`.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::{Action, Key, Look, Plan, Reconciler, Wake};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

const DEFAULT: &str = "default";

/// The controller of default service accounts.
pub struct ServiceAccountsController;

/// All that a decision may depend on.
pub struct Observed {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// Whether its default account is there.
    pub exists: bool,
}

impl Reconciler for ServiceAccountsController {
    type Observed = Observed;

    const NAME: &'static str = "serviceaccount-controller";
    const IDENTITY: &'static str = "service-account-controller";

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<Namespace>().on::<ServiceAccount>(|change, _| {
            let key = Key::of(change.latest());
            let wakes = change.is_deletion() && key.name == DEFAULT;
            wakes
                .then(|| Key::cluster(key.namespace))
                .into_iter()
                .collect()
        });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let accounts = look.caches.of::<ServiceAccount>();
        Some(Observed {
            namespace: look.caches.of::<Namespace>().get(look.key)?,
            exists: accounts.named(&look.key.name, DEFAULT).is_some(),
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        if !crate::namespace::is_active(&o.namespace) {
            return Plan::idle("the namespace is not active");
        }
        if o.exists {
            return Plan::idle("the default service account is there");
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(DEFAULT.to_owned()),
                namespace: o.namespace.metadata.name.clone(),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        Plan {
            actions: vec![Action::create(&account, None)],
            because: "the default service account is missing".to_owned(),
            ..Plan::default()
        }
    }
}
