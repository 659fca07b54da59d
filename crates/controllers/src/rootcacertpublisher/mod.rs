//! The certificate authority of the API server in every namespace, as ConfigMap `kube-root-ca.crt`.
//!
//! Invariant: active namespaces have it, with exactly our content. Upstream:
//! `pkg/controller/certificates/rootcacertpublisher`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use control::{Action, Key, Look, Plan, Reconciler, Wake};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when \
    using internal endpoints such as the internal service IP or kubernetes.default.svc. No other \
    usage is guaranteed across distributions of Kubernetes clusters.";

/// The publisher of the root certificate.
pub struct RootCaCertPublisher {
    /// The certificates, PEM.
    pub certificates: Arc<str>,
}

/// All that a decision may depend on.
pub struct Observed {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// Its ConfigMap.
    pub config_map: Option<Arc<ConfigMap>>,
    /// The certificates, PEM.
    pub certificates: Arc<str>,
}

impl Reconciler for RootCaCertPublisher {
    type Observed = Observed;

    const NAME: &'static str = "root-ca-cert-publisher";

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<Namespace>()
            .on::<ConfigMap>(|change, _| {
                let key = Key::of(change.latest());
                let ours = key.name == NAME;
                ours.then(|| Key::cluster(key.namespace))
                    .into_iter()
                    .collect()
            })
            .trim::<ConfigMap>(|map| {
                let signed = crate::bootstraptokens::signer::is_info(map);
                if map.metadata.name.as_deref() != Some(NAME) && !signed {
                    map.data = None;
                    map.binary_data = None;
                }
            });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        Some(Observed {
            namespace: look.caches.of::<Namespace>().get(look.key)?,
            config_map: look.caches.of::<ConfigMap>().named(&look.key.name, NAME),
            certificates: Arc::clone(&self.certificates),
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        if !crate::namespace::is_active(&o.namespace) {
            return Plan::idle("the namespace is not active");
        }
        let data = BTreeMap::from([("ca.crt".to_owned(), o.certificates.to_string())]);
        let described = |m: &ConfigMap| {
            let annotations = m.metadata.annotations.as_ref();
            annotations.is_some_and(|a| a.get(DESCRIPTION_KEY).is_some_and(|d| !d.is_empty()))
        };
        let old = o.config_map.as_deref();
        if old.is_some_and(|m| m.data.as_ref() == Some(&data) && described(m)) {
            return Plan::idle("the certificates are published");
        }
        let mut map = old.cloned().unwrap_or_else(|| ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: o.namespace.metadata.name.clone(),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        });
        map.data = Some(data);
        let annotations = map.metadata.annotations.get_or_insert_default();
        annotations.insert(DESCRIPTION_KEY.to_owned(), DESCRIPTION.to_owned());
        let action = match old {
            Some(_) => Action::update(&map, None),
            None => Action::create(&map, None),
        };
        Plan {
            actions: vec![action],
            because: "the certificates are not published as they are".to_owned(),
            ..Plan::default()
        }
    }
}
