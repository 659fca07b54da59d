//! Volumes behind claims: which persistent volume a pod's claim is bound to, and where it lies on this node.
//!
//! What is found is kept for as long as the pod's volumes are there, so that its containers mount what was checked.
//! Messages are upstream's (`pkg/kubelet/volumemanager/populator`, `pkg/volume`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::Api;
use parking_lot::Mutex;
use pod_lifecycle::pod as parts;
use volumes::{affinity, local, notes};

use super::{VolumeError, group, host_path, local as own, remote};
use crate::context::Context;

/// Where the claims' volumes of this node's pods lie, by pod and name of the volume in the pod.
#[derive(Default)]
pub(crate) struct Claimed(Mutex<HashMap<(String, String), Place>>);

/// A volume that is ready to be mounted into containers.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Nobody writes through this pod's claim.
    pub(super) read_only: bool,
}

impl Claimed {
    /// Where a volume lies that has been made ready.
    pub(super) fn get(&self, pod: &str, volume: &str) -> Option<Place> {
        let key = (pod.to_owned(), volume.to_owned());
        self.0.lock().get(&key).cloned()
    }

    fn set(&self, pod: &str, volume: &str, place: Place) {
        let key = (pod.to_owned(), volume.to_owned());
        self.0.lock().insert(key, place);
    }

    /// Forgets the volumes of a pod.
    pub(crate) fn forget(&self, pod: &str) {
        self.0.lock().retain(|(uid, _), _| uid != pod);
    }
}

/// Makes the volume behind a claim ready.
pub(super) async fn set_up(
    context: &Context,
    pod: &Pod,
    volume: &Volume,
) -> Result<(), VolumeError> {
    let (claim_name, made) = volumes::claim_name(parts::name(pod), volume).unwrap_or_default();
    let namespace = parts::namespace(pod);
    let unprocessed = |why: String| {
        let why = format!("error processing PVC {namespace}/{claim_name}: {why}");
        VolumeError::unprocessed(&volume.name, &why)
    };
    let claim = get_claim(context, namespace, &claim_name).await;
    let claim = claim.map_err(unprocessed)?;
    if made && !volumes::is_made_for(&claim, pod) {
        let name = parts::name(pod);
        let why = format!(
            "PVC {namespace}/{claim_name} was not created for pod {namespace}/{name} (pod is not owner)"
        );
        return Err(VolumeError::unprocessed(&volume.name, &why));
    }
    let persistent = get_volume(context, &claim).await.map_err(unprocessed)?;
    check_mode(pod, volume, &persistent)
        .map_err(|why| VolumeError::unprocessed(&volume.name, &why))?;
    let source = volume.persistent_volume_claim.as_ref();
    let read_only = source.is_some_and(|s| s.read_only == Some(true));
    let path = ready(context, pod, &persistent, read_only).await?;
    let place = Place { path, read_only };
    context.claimed.set(parts::uid(pod), &volume.name, place);
    Ok(())
}

async fn get_claim(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<PersistentVolumeClaim, String> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let claim = api.get(name).await;
    let claim = claim.map_err(|e| format!("failed to fetch PVC from API server: {}", told(&e)))?;
    let mut finalizers = claim.metadata.finalizers.iter().flatten();
    let protected = finalizers.any(|f| f == notes::CLAIM_PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() && !protected {
        return Err("PVC is being deleted".to_owned());
    }
    if volumes::claim_phase(&claim) != "Bound" {
        return Err("PVC is not bound".to_owned());
    }
    if volumes::volume_name(&claim).is_empty() {
        return Err("PVC has empty pvc.Spec.VolumeName".to_owned());
    }
    Ok(claim)
}

async fn get_volume(
    context: &Context,
    claim: &PersistentVolumeClaim,
) -> Result<PersistentVolume, String> {
    let name = volumes::volume_name(claim);
    let api: Api<PersistentVolume> = Api::all(context.client.clone());
    let volume = api.get(name).await;
    let volume =
        volume.map_err(|e| format!("failed to fetch PV {name} from API server: {}", told(&e)))?;
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let Some(reference) = reference else {
        return Err(format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        ));
    };
    if reference.uid != claim.metadata.uid {
        let (theirs, ours) = (reference.uid.as_deref(), claim.metadata.uid.as_deref());
        return Err(format!(
            "found PV object {name} but its pv.Spec.ClaimRef.UID {} does not point to claim.UID {}",
            theirs.unwrap_or_default(),
            ours.unwrap_or_default()
        ));
    }
    Ok(volume)
}

/// What the API server said, or what else went wrong.
fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// A volume is used as a file system or as a device, as it says; devices are not handed into containers here.
fn check_mode(pod: &Pod, volume: &Volume, persistent: &PersistentVolume) -> Result<(), String> {
    let spec = persistent.spec.as_ref();
    let mode = spec.and_then(|s| s.volume_mode.as_deref());
    let mode = mode.unwrap_or("Filesystem");
    let name = &volume.name;
    let mut mounts = parts::lasting_containers(pod).flat_map(|c| c.volume_mounts.iter().flatten());
    let mut devices =
        parts::lasting_containers(pod).flat_map(|c| c.volume_devices.iter().flatten());
    if mode != "Filesystem" && mounts.any(|m| m.name == *name) {
        return Err(format!(
            "volume {name} has volumeMode {mode}, but is specified in volumeMounts"
        ));
    }
    if mode != "Block" && devices.any(|d| d.name == *name) {
        return Err(format!(
            "volume {name} has volumeMode {mode}, but is specified in volumeDevices"
        ));
    }
    match mode {
        "Filesystem" => Ok(()),
        _ => Err(format!(
            "volume {name} has volumeMode {mode}, which this node does not support"
        )),
    }
}

/// Makes a persistent volume ready, and says where it lies.
async fn ready(
    context: &Context,
    pod: &Pod,
    volume: &PersistentVolume,
    read_only: bool,
) -> Result<PathBuf, VolumeError> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let failed = |why: String| VolumeError::set_up(name, &why);
    if !is_usable_here(context, volume).await {
        let why = "no matching NodeSelectorTerms".to_owned();
        let why = format!("MountVolume.NodeAffinity check failed for volume \"{name}\" : {why}");
        return Err(VolumeError::told(why));
    }
    let Some(spec) = volume.spec.as_ref() else {
        return Err(failed("no volume plugin matched".to_owned()));
    };
    if let Some(source) = &spec.host_path {
        host_path::check(source).map_err(failed)?;
        return Ok(PathBuf::from(&source.path));
    }
    let Some(source) = &spec.local else {
        return Err(remote::refusal_of_persistent(name, spec));
    };
    let path = match local::node_of(volume) {
        Some(_) => own::make(&context.root_dir, name).map_err(failed)?,
        None => PathBuf::from(&source.path),
    };
    check_local(&path).map_err(failed)?;
    if !read_only {
        let change = group::Change::of(pod);
        let place = path.clone();
        let done = tokio::task::spawn_blocking(move || group::apply(&place, &change)).await;
        let done = done.map_err(|lost| failed(lost.to_string()))?;
        done.map_err(|error| {
            failed(format!(
                "applyFSGroup failed for vol {name}: {}",
                cri::chain(&error)
            ))
        })?;
    }
    Ok(path)
}

async fn is_usable_here(context: &Context, volume: &PersistentVolume) -> bool {
    if !context.nodes.synced().await {
        return true;
    }
    let node = context.nodes.get("", &context.node_name);
    node.is_none_or(|node| {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let place = affinity::Place {
            name: &context.node_name,
            labels: &labels,
        };
        affinity::allows(volume, place)
    })
}

/// A local volume is a directory that is there.
fn check_local(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let parents = path.components();
    if parents
        .into_iter()
        .any(|c| c == std::path::Component::ParentDir)
    {
        return Err(format!("invalid path: {shown} must not contain '..'"));
    }
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err("only directory and block device are supported".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("path \"{shown}\" does not exist"))
        }
        Err(error) => Err(format!("{shown}: {error}")),
    }
}
