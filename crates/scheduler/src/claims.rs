//! What has to be written about a pod's claims before the pod is bound, and the wait until they are bound themselves.
//!
//! Nothing polls: the caches are looked at when something in them has changed. Behaviour:
//! `pkg/scheduler/framework/plugins/volumebinding/binder.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use client::watch::Reader;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::PostParams;
use kube::{Api, Client};
use scheduling::{PodInfo, VolumePlan};
use tokio::sync::watch;
use volumes::{annotation, has_annotation, matching, notes};

/// How long the binder and the provisioners have.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the scheduler sees of storage.
#[derive(Clone)]
pub(crate) struct Claims {
    pub(crate) client: Client,
    pub(crate) claims: Reader<PersistentVolumeClaim>,
    pub(crate) pods: Reader<Pod>,
    /// Moves on with every change of a claim or a pod.
    pub(crate) changed: watch::Receiver<u64>,
}

/// Why a pod's claims are not bound.
pub(crate) enum Unbound {
    /// The pod is gone: there is nothing left to do.
    PodGone,
    /// The pod is to be tried again.
    Failed(String),
}

impl From<String> for Unbound {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl Claims {
    /// Writes down what was decided, and waits until all of it has come true.
    pub(crate) async fn bind(
        mut self,
        pod: &PodInfo,
        node: &str,
        plan: VolumePlan,
    ) -> Result<(), Unbound> {
        if plan.is_empty() {
            return Ok(());
        }
        for (claim, volume) in &plan.bindings {
            self.reserve(claim, volume).await?;
        }
        for claim in &plan.provisions {
            self.select(claim, node).await?;
        }
        let bound = plan.bindings.into_iter().map(|(claim, _)| (claim, false));
        let made = plan.provisions.into_iter().map(|claim| (claim, true));
        let claims: Vec<(PersistentVolumeClaim, bool)> = bound.chain(made).collect();
        let wait = self.until_bound(pod, node, &claims);
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(done) => done,
            Err(_) => {
                let why = "binding volumes: context deadline exceeded".to_owned();
                Err(Unbound::Failed(why))
            }
        }
    }

    /// Gives a volume to a claim; the binder does the rest.
    async fn reserve(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), String> {
        let full = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        if full.is_some_and(|r| r.uid.is_some() && r.uid == claim.metadata.uid) {
            return Ok(());
        }
        let chosen_by_user = matching::is_bound_to(volume, claim);
        let mut volume = volume.clone();
        volume.spec.get_or_insert_default().claim_ref = Some(reference(claim));
        if !chosen_by_user {
            let annotations = volume.metadata.annotations.get_or_insert_default();
            annotations.insert(notes::BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        let name = volume.metadata.name.clone().unwrap_or_default();
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let done = api.replace(&name, &PostParams::default(), &volume).await;
        done.map(drop).map_err(|e| format!("binding volumes: {e}"))
    }

    /// Notes on a claim for which node it is to be provisioned.
    async fn select(&self, claim: &PersistentVolumeClaim, node: &str) -> Result<(), String> {
        if annotation(&claim.metadata, notes::SELECTED_NODE) == Some(node) {
            return Ok(());
        }
        let mut claim = claim.clone();
        let annotations: &mut BTreeMap<_, _> = claim.metadata.annotations.get_or_insert_default();
        annotations.insert(notes::SELECTED_NODE.to_owned(), node.to_owned());
        let name = claim.metadata.name.clone().unwrap_or_default();
        let namespace = claim.metadata.namespace.clone().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &namespace);
        let done = api.replace(&name, &PostParams::default(), &claim).await;
        match done {
            Ok(_) => Ok(()),
            // Another pod's decision, or the binder, was faster; what it wrote is looked at while waiting.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let there = api
                    .get(&name)
                    .await
                    .map_err(|e| format!("binding volumes: {e}"))?;
                match annotation(&there.metadata, notes::SELECTED_NODE) {
                    Some(selected) if selected == node => Ok(()),
                    _ => Err(format!("binding volumes: {}", status.message)),
                }
            }
            Err(error) => Err(format!("binding volumes: {error}")),
        }
    }

    async fn until_bound(
        &mut self,
        pod: &PodInfo,
        node: &str,
        claims: &[(PersistentVolumeClaim, bool)],
    ) -> Result<(), Unbound> {
        let mut noted = false;
        loop {
            self.changed.borrow_and_update();
            let there = self.pods.get(&pod.key.namespace, &pod.key.name);
            let there = there.and_then(|pod| pod.metadata.uid.clone());
            if there.as_deref() != Some(&pod.uid) {
                return Err(Unbound::PodGone);
            }
            if self.are_bound(node, claims, &mut noted)? {
                return Ok(());
            }
            if self.changed.changed().await.is_err() {
                return Err(Unbound::PodGone);
            }
        }
    }

    /// Whether all claims are bound; each comes with whether it is to be provisioned. `noted`: the cache has shown our own
    /// notes on those, so that their absence means something.
    fn are_bound(
        &self,
        node: &str,
        claims: &[(PersistentVolumeClaim, bool)],
        noted: &mut bool,
    ) -> Result<bool, String> {
        let mut all = true;
        let mut shown = true;
        for (old, provisioned) in claims {
            let (namespace, name) = scheduling::key_of(old);
            let Some(claim) = self.claims.get(&namespace, &name) else {
                return Err(format!(
                    "binding volumes: failed to get PVC from cache: persistentvolumeclaim \"{name}\" not found"
                ));
            };
            if claim.metadata.uid != old.metadata.uid {
                return Err(format!(
                    "binding volumes: PVC {namespace}/{name} has been replaced"
                ));
            }
            // The kubelet goes by the phase, which is the binder's last word: it would refuse the pod until then.
            let bound = !volumes::volume_name(&claim).is_empty()
                && has_annotation(&claim.metadata, notes::BIND_COMPLETED)
                && volumes::claim_phase(&claim) == "Bound";
            if bound {
                continue;
            }
            all = false;
            if !provisioned {
                continue;
            }
            match annotation(&claim.metadata, notes::SELECTED_NODE) {
                Some(selected) if selected != node => {
                    return Err(format!(
                        "binding volumes: provisioning failed for PVC \"{name}\": selectedNode annotation value \
                         \"{selected}\" not set to scheduled node \"{node}\""
                    ));
                }
                Some(_) => {}
                None if *noted => {
                    return Err(format!(
                        "binding volumes: provisioning failed for PVC \"{name}\""
                    ));
                }
                None => shown = false,
            }
        }
        *noted |= shown && !all;
        Ok(all)
    }
}

fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    let meta = &claim.metadata;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
