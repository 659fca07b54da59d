//! The certificates that the API server is checked by, as ClusterTrustBundle of `kubernetes.io/kube-apiserver-serving`.
//!
//! Invariant: of this signer there is one bundle, with exactly our content and named after it. Upstream:
//! `pkg/controller/certificates/clustertrustbundlepublisher`.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::{Action, Key, Look, Plan, Reconciler, Wake};
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, ClusterTrustBundleSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::digest;

/// Whom the bundle speaks for.
pub const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";
/// The one item there is: whatever wakes the controller, it looks at all bundles of the signer.
const ITEM: &str = SIGNER;
/// An object of every cluster, so that the first look does not wait for a bundle.
const ALWAYS: &str = "kube-system";
/// How much of the digest of its content is in the name of a bundle, in bytes.
const NAMED_BY: usize = 12;

/// The publisher of the API server's trust anchors.
pub struct ClusterTrustBundlePublisher {
    /// The certificates, PEM.
    pub certificates: Arc<str>,
}

/// All that a decision may depend on.
pub struct Observed {
    /// The signer's bundles.
    pub bundles: Vec<Arc<ClusterTrustBundle>>,
    /// The certificates, PEM.
    pub certificates: Arc<str>,
}

fn is_ours(bundle: &ClusterTrustBundle) -> bool {
    bundle.spec.signer_name.as_deref() == Some(SIGNER)
}

fn item(concerned: bool) -> Vec<Key> {
    concerned.then(|| Key::cluster(ITEM)).into_iter().collect()
}

impl Reconciler for ClusterTrustBundlePublisher {
    type Observed = Observed;

    const NAME: &'static str = "kube-apiserver-serving-clustertrustbundle-publisher";

    fn wake(on: &mut Wake<'_>) {
        on.on::<ClusterTrustBundle>(|change, _| item(is_ours(change.latest())))
            .on::<Namespace>(|change, _| {
                item(change.latest().metadata.name.as_deref() == Some(ALWAYS))
            })
            .trim::<ClusterTrustBundle>(|bundle| {
                if !is_ours(bundle) {
                    bundle.spec.trust_bundle = String::new();
                }
            });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let all = look.caches.of::<ClusterTrustBundle>().all();
        Some(Observed {
            bundles: all.into_iter().filter(|b| is_ours(b)).collect(),
            certificates: Arc::clone(&self.certificates),
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        let name = name(&o.certificates);
        let is_named = |bundle: &&Arc<ClusterTrustBundle>| {
            bundle.metadata.name.as_deref() == Some(name.as_str())
        };
        let mut actions = Vec::new();
        match o.bundles.iter().find(is_named) {
            None => actions.push(Action::create(&bundle(&name, &o.certificates), None)),
            Some(found) if *found.spec.trust_bundle != *o.certificates => {
                let mut found = ClusterTrustBundle::clone(found);
                found.spec.trust_bundle = o.certificates.to_string();
                actions.push(Action::update(&found, None));
            }
            Some(_) => {}
        }
        let others = o.bundles.iter().filter(|b| !is_named(b));
        actions.extend(others.map(|b| Action::delete(b.as_ref(), None)));
        match actions.is_empty() {
            true => Plan::idle("the certificates are published"),
            false => Plan {
                actions,
                because: "the certificates are not published as they are".to_owned(),
                ..Plan::default()
            },
        }
    }
}

fn name(certificates: &str) -> String {
    let digest = digest::digest(&digest::SHA256, certificates.as_bytes());
    let digest: String = digest.as_ref()[..NAMED_BY]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{}:{digest}", SIGNER.replace('/', ":"))
}

fn bundle(name: &str, certificates: &str) -> ClusterTrustBundle {
    ClusterTrustBundle {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: ClusterTrustBundleSpec {
            signer_name: Some(SIGNER.to_owned()),
            trust_bundle: certificates.to_owned(),
        },
    }
}
