//! Which node needs which object: kept as two maps, from pods to what they need and back to nodes.

use std::collections::{BTreeSet, HashMap};

use machinery::Object;
use serde_json::Value;

use crate::pod_references::{Reference, is_mirror, references};

/// Namespace (empty for cluster-scoped) and name.
type Key = (String, String);

/// A kind of object that belongs to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    ResourceClaim,
    ServiceAccount,
    Attachment,
    Slice,
    CertificateRequest,
}

type Thing = (Kind, Key);

/// What every node needs.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Owner (a pod, an attachment, a slice, a request for a certificate) -> its node and all it gives the node access to, itself included.
    owners: HashMap<Thing, (String, Vec<Thing>)>,
    /// Thing -> node -> how many owners on the node give access to it.
    nodes: HashMap<Thing, HashMap<String, usize>>,
    /// Persistent volume -> claim it is bound to, and secrets its mounting needs.
    volumes: HashMap<String, (Key, Vec<Key>)>,
    /// Secret -> persistent volumes whose mounting needs it.
    volumes_by_secret: HashMap<Key, BTreeSet<String>>,
}

impl Graph {
    /// Takes over the newest state of a Pod, PersistentVolume, VolumeAttachment, ResourceSlice or PodCertificateRequest; others
    /// are left alone.
    pub fn apply(&mut self, object: &Object) {
        let (namespace, name) = (object.namespace(), object.name());
        self.delete(object.kind(), namespace, name);
        let node = object.str_at(&["spec", "nodeName"]);
        match object.kind() {
            "Pod" if !node.is_empty() => {
                self.add((Kind::Pod, key(namespace, name)), node, needs(object));
            }
            "VolumeAttachment" if !node.is_empty() => {
                self.add((Kind::Attachment, key("", name)), node, Vec::new());
            }
            "ResourceSlice" if !node.is_empty() => {
                self.add((Kind::Slice, key("", name)), node, Vec::new());
            }
            "PodCertificateRequest" if !node.is_empty() => {
                let owner = (Kind::CertificateRequest, key(namespace, name));
                self.add(owner, node, Vec::new());
            }
            "PersistentVolume" => self.add_volume(object),
            _ => {}
        }
    }

    /// Forgets an object.
    pub fn delete(&mut self, kind: &str, namespace: &str, name: &str) {
        match kind {
            "Pod" => self.remove(&(Kind::Pod, key(namespace, name))),
            "VolumeAttachment" => self.remove(&(Kind::Attachment, key("", name))),
            "ResourceSlice" => self.remove(&(Kind::Slice, key("", name))),
            "PodCertificateRequest" => {
                self.remove(&(Kind::CertificateRequest, key(namespace, name)));
            }
            "PersistentVolume" => self.remove_volume(name),
            _ => {}
        }
    }

    fn add(&mut self, owner: Thing, node: &str, mut gives: Vec<Thing>) {
        gives.push(owner.clone());
        for thing in &gives {
            let nodes = self.nodes.entry(thing.clone()).or_default();
            *nodes.entry(node.to_owned()).or_default() += 1;
        }
        self.owners.insert(owner, (node.to_owned(), gives));
    }

    fn remove(&mut self, owner: &Thing) {
        let Some((node, gives)) = self.owners.remove(owner) else {
            return;
        };
        for thing in gives {
            let Some(nodes) = self.nodes.get_mut(&thing) else {
                continue;
            };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.nodes.remove(&thing);
            }
        }
    }

    fn add_volume(&mut self, volume: &Object) {
        let claim_name = volume.str_at(&["spec", "claimRef", "name"]);
        if claim_name.is_empty() {
            return;
        }
        let claim = key(
            volume.str_at(&["spec", "claimRef", "namespace"]),
            claim_name,
        );
        let secrets = volume_secrets(volume, &claim.0);
        for secret in &secrets {
            let volumes = self.volumes_by_secret.entry(secret.clone()).or_default();
            volumes.insert(volume.name().to_owned());
        }
        self.volumes
            .insert(volume.name().to_owned(), (claim, secrets));
    }

    fn remove_volume(&mut self, name: &str) {
        let Some((_, secrets)) = self.volumes.remove(name) else {
            return;
        };
        for secret in secrets {
            if let Some(volumes) = self.volumes_by_secret.get_mut(&secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.volumes_by_secret.remove(&secret);
                }
            }
        }
    }

    /// Something on the node needs the object.
    pub(super) fn needs(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let wanted = key(namespace, name);
        let through_volume = || {
            let volumes = self.volumes_by_secret.get(&wanted).into_iter().flatten();
            kind == Kind::Secret && volumes.into_iter().any(|v| self.needs_volume(node, v))
        };
        self.is_needed(node, &(kind, wanted.clone())) || through_volume()
    }

    /// Something on the node needs the persistent volume: its claim, that is.
    pub(super) fn needs_volume(&self, node: &str, name: &str) -> bool {
        let claim = self
            .volumes
            .get(name)
            .map(|(claim, _)| (Kind::Claim, claim.clone()));
        claim.is_some_and(|claim| self.is_needed(node, &claim))
    }

    fn is_needed(&self, node: &str, thing: &Thing) -> bool {
        self.nodes
            .get(thing)
            .is_some_and(|nodes| nodes.contains_key(node))
    }
}

fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}

/// What a pod gives its node access to. A mirror pod gives nothing: the node itself wrote it.
fn needs(pod: &Object) -> Vec<Thing> {
    if is_mirror(pod) {
        return Vec::new();
    }
    let namespace = pod.namespace();
    let mut out: Vec<Thing> = references(pod)
        .into_iter()
        .map(|reference| match reference {
            Reference::Secret(name, _) => (Kind::Secret, key(namespace, name)),
            Reference::ConfigMap(name, _) => (Kind::ConfigMap, key(namespace, name)),
            Reference::Claim(name) => (Kind::Claim, key(namespace, name)),
            Reference::EphemeralClaim(volume) => (
                Kind::Claim,
                key(namespace, &format!("{}-{volume}", pod.name())),
            ),
            Reference::ResourceClaim(name) => (Kind::ResourceClaim, key(namespace, name)),
        })
        .collect();
    let account = pod.str_at(&["spec", "serviceAccountName"]);
    if !account.is_empty() {
        out.push((Kind::ServiceAccount, key(namespace, account)));
    }
    out
}

/// Where a persistent volume names secrets that the kubelet needs: the volume type and the path of the reference.
const VOLUME_SECRETS: [(&str, &str); 10] = [
    ("cephfs", "secretRef"),
    ("cinder", "secretRef"),
    ("flexVolume", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("iscsi", "secretRef"),
    ("storageos", "secretRef"),
    ("csi", "nodePublishSecretRef"),
    ("csi", "nodeStageSecretRef"),
    ("csi", "nodeExpandSecretRef"),
];

/// The secrets the kubelet needs to mount a persistent volume.
fn volume_secrets(volume: &Object, claim_namespace: &str) -> Vec<Key> {
    let own_or = |namespace: Option<&Value>| {
        let own = namespace.and_then(Value::as_str).filter(|n| !n.is_empty());
        own.unwrap_or(claim_namespace).to_owned()
    };
    let mut out = Vec::new();
    for (kind, field) in VOLUME_SECRETS {
        let Some(reference) = volume.at(&["spec", kind, field]) else {
            continue;
        };
        if let Some(name) = reference.get("name").and_then(Value::as_str) {
            out.push((own_or(reference.get("namespace")), name.to_owned()));
        }
    }
    let azure = volume.str_at(&["spec", "azureFile", "secretName"]);
    if !azure.is_empty() {
        let namespace = volume.at(&["spec", "azureFile", "secretNamespace"]);
        out.push((own_or(namespace), azure.to_owned()));
    }
    out
}
