//! What a pod refers to: one visitor for every rule about secrets, config maps and claims.
//!
//! Admission rules that each walk the containers themselves forget init containers, ephemeral containers, `envFrom` or
//! projected sources sooner or later (CVE-2023-2727, -2728, 2024-3177); so there is one walk, and rules look at its result.

use machinery::Object;
use serde_json::Value;

use crate::quote::quote;

/// The annotation of a mirror pod: the API's image of a static pod.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// What kind of container refers to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// `spec.initContainers`
    Init,
    /// `spec.containers`
    Main,
    /// `spec.ephemeralContainers`
    Ephemeral,
}

impl ContainerKind {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Init, "initContainers"),
        (Self::Main, "containers"),
        (Self::Ephemeral, "ephemeralContainers"),
    ];

    /// How messages call such a container.
    pub fn words(self) -> &'static str {
        match self {
            Self::Init => "init container",
            Self::Main => "container",
            Self::Ephemeral => "ephemeral container",
        }
    }
}

/// From where in the pod a reference comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source<'a> {
    /// `spec.imagePullSecrets[index]`
    ImagePull(usize),
    /// A variable of a container.
    Env(ContainerKind, &'a str, &'a str),
    /// All variables of a container.
    EnvFrom(ContainerKind, &'a str),
    /// A `secret` or `configMap` volume.
    Volume,
    /// A source of a projected volume.
    Projected,
    /// A volume of another type.
    OtherVolume,
}

/// An object in the pod's namespace that it refers to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reference<'a> {
    /// A secret.
    Secret(&'a str, Source<'a>),
    /// A config map.
    ConfigMap(&'a str, Source<'a>),
    /// A persistent volume claim.
    Claim(&'a str),
    /// The claim made for a generic ephemeral volume: its name is the pod's, a dash, and this.
    EphemeralClaim(&'a str),
    /// A resource claim.
    ResourceClaim(&'a str),
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    let found = path.iter().try_fold(value, |value, key| value.get(key))?;
    found.as_str().filter(|text| !text.is_empty())
}

/// All that the pod refers to; the service account is not among it.
pub fn references(pod: &Object) -> Vec<Reference<'_>> {
    let mut out = Vec::new();
    let Some(spec) = pod.0.get("spec") else {
        return out;
    };
    for (index, secret) in items(spec, "imagePullSecrets").enumerate() {
        if let Some(name) = text(secret, &["name"]) {
            out.push(Reference::Secret(name, Source::ImagePull(index)));
        }
    }
    for (kind, key) in ContainerKind::ALL {
        for container in items(spec, key) {
            of_container(kind, container, &mut out);
        }
    }
    for volume in items(spec, "volumes") {
        of_volume(volume, &mut out);
    }
    let statuses = pod
        .at(&["status", "resourceClaimStatuses"])
        .and_then(Value::as_array);
    for claim in items(spec, "resourceClaims") {
        let name = text(claim, &["resourceClaimName"]).or_else(|| {
            let mut statuses = statuses.into_iter().flatten();
            let status = statuses.find(|s| s.get("name") == claim.get("name"))?;
            text(status, &["resourceClaimName"])
        });
        out.extend(name.map(Reference::ResourceClaim));
    }
    let extended = pod.at(&["status", "extendedResourceClaimStatus"]);
    let extended = extended.and_then(|status| text(status, &["resourceClaimName"]));
    out.extend(extended.map(Reference::ResourceClaim));
    out
}

fn of_container<'a>(kind: ContainerKind, container: &'a Value, out: &mut Vec<Reference<'a>>) {
    let container_name = text(container, &["name"]).unwrap_or_default();
    for from in items(container, "envFrom") {
        let source = Source::EnvFrom(kind, container_name);
        out.extend(text(from, &["secretRef", "name"]).map(|n| Reference::Secret(n, source)));
        out.extend(text(from, &["configMapRef", "name"]).map(|n| Reference::ConfigMap(n, source)));
    }
    for variable in items(container, "env") {
        let source = Source::Env(
            kind,
            container_name,
            text(variable, &["name"]).unwrap_or_default(),
        );
        let secret = text(variable, &["valueFrom", "secretKeyRef", "name"]);
        out.extend(secret.map(|n| Reference::Secret(n, source)));
        let map = text(variable, &["valueFrom", "configMapKeyRef", "name"]);
        out.extend(map.map(|n| Reference::ConfigMap(n, source)));
    }
}

/// Volume types whose secret stands in `secretRef.name`.
const WITH_SECRET_REF: [&str; 7] = [
    "cephfs",
    "cinder",
    "flexVolume",
    "rbd",
    "scaleIO",
    "iscsi",
    "storageos",
];

fn of_volume<'a>(volume: &'a Value, out: &mut Vec<Reference<'a>>) {
    let secret = |path: &[&str], source| text(volume, path).map(|n| Reference::Secret(n, source));
    out.extend(secret(&["secret", "secretName"], Source::Volume));
    out.extend(secret(&["azureFile", "secretName"], Source::OtherVolume));
    out.extend(secret(
        &["csi", "nodePublishSecretRef", "name"],
        Source::OtherVolume,
    ));
    for kind in WITH_SECRET_REF {
        out.extend(secret(&[kind, "secretRef", "name"], Source::OtherVolume));
    }
    let map = text(volume, &["configMap", "name"]);
    out.extend(map.map(|n| Reference::ConfigMap(n, Source::Volume)));
    for source in volume
        .get("projected")
        .into_iter()
        .flat_map(|p| items(p, "sources"))
    {
        let secret = text(source, &["secret", "name"]);
        out.extend(secret.map(|n| Reference::Secret(n, Source::Projected)));
        let map = text(source, &["configMap", "name"]);
        out.extend(map.map(|n| Reference::ConfigMap(n, Source::Projected)));
    }
    out.extend(text(volume, &["persistentVolumeClaim", "claimName"]).map(Reference::Claim));
    if volume.get("ephemeral").is_some_and(|e| !e.is_null()) {
        out.extend(text(volume, &["name"]).map(Reference::EphemeralClaim));
    }
}

/// The pod mirrors a static pod of its node.
pub fn is_mirror(pod: &Object) -> bool {
    pod.annotations().any(|(key, _)| key == MIRROR_ANNOTATION)
}

/// Volume types that need no other object of the API.
const LOCAL_VOLUMES: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// Volume types that need another object, and what messages call it.
const REMOTE_VOLUMES: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    (
        "ephemeral",
        "persistentvolumeclaims (via ephemeral volumes)",
    ),
    ("azureFile", "secrets (via azureFile volumes)"),
];

const REMOTE_PROJECTIONS: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    (
        "serviceAccountToken",
        "serviceaccounts (via projected volumes)",
    ),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

/// What other kind of object the pod needs, in the words of a refusal; `None`: nothing at all.
///
/// # Errors
/// A volume is of a type not known here, so nobody can tell.
pub fn needs_other_objects(pod: &Object) -> Result<Option<&'static str>, String> {
    if !pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    let all = references(pod);
    if all.iter().any(|r| matches!(r, Reference::Secret(..))) {
        return Ok(Some("secrets"));
    }
    if all.iter().any(|r| matches!(r, Reference::ConfigMap(..))) {
        return Ok(Some("configmaps"));
    }
    let Some(spec) = pod.0.get("spec") else {
        return Ok(None);
    };
    if items(spec, "resourceClaims").next().is_some() {
        return Ok(Some("resourceclaims"));
    }
    for volume in items(spec, "volumes") {
        let has = |key: &str| volume.get(key).is_some_and(|v| !v.is_null());
        if LOCAL_VOLUMES.iter().any(|key| has(key)) {
            continue;
        }
        if let Some((_, what)) = REMOTE_VOLUMES.iter().find(|(key, _)| has(key)) {
            return Ok(Some(what));
        }
        let name = quote(text(volume, &["name"]).unwrap_or_default());
        let Some(projected) = volume.get("projected").filter(|p| !p.is_null()) else {
            return Err(format!("unknown volume type for volume  {name}"));
        };
        for source in items(projected, "sources") {
            let has = |key: &str| source.get(key).is_some_and(|v| !v.is_null());
            if let Some((_, what)) = REMOTE_PROJECTIONS.iter().find(|(key, _)| has(key)) {
                return Ok(Some(what));
            }
            if !has("downwardAPI") {
                return Err(format!("unknown source for projected volume {name}"));
            }
        }
    }
    Ok(None)
}
