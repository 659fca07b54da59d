//! A node may write its own Node, the status of its own pods, and little else.
//!
//! Behaviour: `plugin/pkg/admission/noderestriction`. The checks of create and update are the same where they can be,
//! and owner references count as identity (CVE-2025-4563, CVE-2025-5187): a node that could have itself deleted could
//! come back with other labels and taints.

mod pod_certificate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use machinery::{ApiError, Object};
use serde_json::Value;
use volumes::local;

use super::{Operation, Request};
use crate::pod_references::{MIRROR_ANNOTATION, is_mirror, needs_other_objects};
use crate::quote::quote;
use crate::user::NODE_USER_PREFIX;
use crate::{Attributes, Lookup};

pub(super) fn admit(
    request: &Request,
    object: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if request.operation == Operation::Connect {
        return Ok(());
    }
    let Some(node) = request.user.node_name() else {
        // The group without a node's name is nobody in particular.
        return match request.user.name == NODE_USER_PREFIX && request.user.is_in("system:nodes") {
            true => {
                let user = quote(&request.user.name);
                let why = format!("could not determine node from user {user}");
                Err(request.forbidden(object, why))
            }
            false => Ok(()),
        };
    };
    let check = Check {
        request,
        object,
        node,
        lookup,
    };
    match (request.group, request.resource) {
        ("", "pods") => match request.subresource {
            "" => check.pod(),
            "status" => check.pod_status(),
            "eviction" => check.eviction(),
            other => check.refuse(format!(
                "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
                quote(other)
            )),
        },
        ("", "nodes") => check.node(),
        ("", "persistentvolumeclaims") if request.subresource == "status" => check.claim_status(),
        ("", "persistentvolumeclaims") => check.refuse("may only update PVC status"),
        ("", "persistentvolumes") => check.local_volume(),
        ("", "serviceaccounts") => check.token(),
        ("coordination.k8s.io", "leases") => check.lease(),
        ("storage.k8s.io", "csinodes") => check.own_name("CSINode"),
        ("resource.k8s.io", "resourceslices") => check.resource_slice(),
        ("certificates.k8s.io", "podcertificaterequests") => check.pod_certificate(),
        _ => Ok(()),
    }
}

struct Check<'a> {
    request: &'a Request<'a>,
    object: &'a Object,
    node: &'a str,
    lookup: &'a dyn Lookup,
}

impl Check<'_> {
    fn refuse(&self, why: impl std::fmt::Display) -> Result<(), ApiError> {
        Err(self.request.forbidden(self.object, why))
    }

    fn unexpected_operation(&self) -> Result<(), ApiError> {
        let operation = quote(self.request.operation.as_str());
        self.refuse(format!("unexpected operation {operation}"))
    }

    fn me(&self) -> String {
        quote(self.node)
    }

    fn find_pod(&self, name: &str) -> Result<Arc<Object>, ApiError> {
        let found = self.lookup.get("", "pods", self.request.namespace, name);
        found.ok_or_else(|| ApiError::not_found("", "pod", name))
    }

    fn runs_here(&self, pod: &Object) -> bool {
        pod.str_at(&["spec", "nodeName"]) == self.node
    }

    fn pod(&self) -> Result<(), ApiError> {
        let me = self.me();
        match self.request.operation {
            Operation::Create => self.new_pod(),
            Operation::Delete => {
                let pod = self.find_pod(self.request.name)?;
                match self.runs_here(&pod) {
                    true => Ok(()),
                    false => self.refuse(format!(
                        "node {me} can only delete pods with spec.nodeName set to itself"
                    )),
                }
            }
            other => self.refuse(format!(
                "unexpected operation {}, node {me} can only create and delete mirror pods",
                quote(other.as_str())
            )),
        }
    }

    fn new_pod(&self) -> Result<(), ApiError> {
        let (me, pod) = (self.me(), self.object);
        if !is_mirror(pod) {
            return self.refuse(format!(
                "pod does not have {} annotation, node {me} can only create mirror pods",
                quote(MIRROR_ANNOTATION)
            ));
        }
        if !self.runs_here(pod) {
            let why = format!("node {me} can only create pods with spec.nodeName set to itself");
            return self.refuse(why);
        }
        self.owned_by_me(pod)?;
        match needs_other_objects(pod) {
            Ok(None) => Ok(()),
            Ok(Some(what)) => self.refuse(format!(
                "node {me} can not create pods that reference {what}"
            )),
            Err(why) => self.refuse(format!(
                "error checking mirror pod for API references: {why}"
            )),
        }
    }

    /// A node may take its own finalizer off a local volume that it holds the data of, and do nothing else to volumes.
    fn local_volume(&self) -> Result<(), ApiError> {
        let (me, new) = (self.me(), self.object);
        let (Operation::Update, "", Some(old)) = (
            self.request.operation,
            self.request.subresource,
            self.request.old,
        ) else {
            return self.unexpected_operation();
        };
        let volume = |object: &Object| object.view::<PersistentVolume>().ok();
        let own = volume(old).is_some_and(|v| local::node_of(&v) == Some(self.node));
        if !own {
            return self.refuse(format!(
                "node {me} can only update local volumes that it holds the data of"
            ));
        }
        let without_ours = |object: &Object| {
            let mut object = object.clone();
            let rest = object.finalizers().filter(|f| *f != local::FINALIZER);
            let rest: Vec<Value> = rest.map(Value::from).collect();
            let metadata = object.metadata_mut();
            metadata.insert("finalizers".into(), rest.into());
            for key in ["resourceVersion", "managedFields"] {
                metadata.remove(key);
            }
            object
        };
        let leaving = old.deletion_timestamp().is_some();
        let held = new.finalizers().any(|f| f == local::FINALIZER);
        match leaving && !held && without_ours(old) == without_ours(new) {
            true => Ok(()),
            false => self.refuse(format!(
                "node {me} can only take its finalizer off a local volume that is being deleted"
            )),
        }
    }

    fn owned_by_me(&self, pod: &Object) -> Result<(), ApiError> {
        let me = self.me();
        let owners = pod
            .at(&["metadata", "ownerReferences"])
            .and_then(Value::as_array);
        let owner = match owners.map(Vec::as_slice).unwrap_or_default() {
            [one] => one,
            [] => {
                return self.refuse(format!(
                    "node {me} can only create pods with an owner reference set to itself"
                ));
            }
            _ => {
                return self.refuse(format!(
                    "node {me} can only create pods with a single owner reference set to itself"
                ));
            }
        };
        let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        let is = |key: &str| owner.get(key).and_then(Value::as_bool).unwrap_or(false);
        if text("apiVersion") != "v1" || text("kind") != "Node" || text("name") != self.node {
            return self.refuse(format!(
                "node {me} can only create pods with an owner reference set to itself"
            ));
        }
        if !is("controller") {
            return self.refuse(format!(
                "node {me} can only create pods with a controller owner reference set to itself"
            ));
        }
        if is("blockOwnerDeletion") {
            return self.refuse(format!(
                "node {me} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let Some(node) = self.lookup.get("", "nodes", "", self.node) else {
            return Err(ApiError::not_found("", "node", self.node));
        };
        let (expected, got) = (text("uid"), node.uid());
        match expected == got {
            true => Ok(()),
            false => self.refuse(format!(
                "node {} UID mismatch: expected {expected} got {got}",
                self.node
            )),
        }
    }

    fn pod_status(&self) -> Result<(), ApiError> {
        let (Operation::Update, Some(old)) = (self.request.operation, self.request.old) else {
            return self.unexpected_operation();
        };
        let (me, new) = (self.me(), self.object);
        if !self.runs_here(old) {
            return self.refuse(format!(
                "node {me} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        let pairs = |o: &Object| -> BTreeMap<String, String> {
            o.labels()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect()
        };
        if pairs(old) != pairs(new) {
            return self.refuse(format!("node {me} cannot update labels through pod status"));
        }
        let same = |key: &str| given(old.at(&["status", key])) == given(new.at(&["status", key]));
        for (key, what) in [
            ("resourceClaimStatuses", "resource claim statues"),
            (
                "extendedResourceClaimStatus",
                "extended resource claim status",
            ),
            (
                "nodeAllocatableResourceClaimStatuses",
                "node allocatable resource claim statuses",
            ),
        ] {
            if !same(key) {
                return self.refuse(format!("node {me} cannot update {what}"));
            }
        }
        Ok(())
    }

    fn eviction(&self) -> Result<(), ApiError> {
        if self.request.operation != Operation::Create {
            let operation = self.request.operation.as_str();
            return self.refuse(format!("unexpected operation {operation}"));
        }
        let names = [self.request.name, self.object.name()];
        let Some(name) = names.into_iter().find(|name| !name.is_empty()) else {
            return self.refuse("could not determine pod from request data");
        };
        match self.runs_here(&*self.find_pod(name)?) {
            true => Ok(()),
            false => self.refuse(format!(
                "node {} can only evict pods with spec.nodeName set to itself",
                self.node
            )),
        }
    }

    fn claim_status(&self) -> Result<(), ApiError> {
        let (Operation::Update, Some(old)) = (self.request.operation, self.request.old) else {
            return self.unexpected_operation();
        };
        let stripped = |claim: &Object| {
            let mut copy = claim.clone();
            copy.metadata_mut().remove("resourceVersion");
            copy.metadata_mut().remove("managedFields");
            let status = copy.object_at_mut(&["status"]);
            for key in [
                "capacity",
                "conditions",
                "allocatedResourceStatuses",
                "allocatedResources",
            ] {
                status.remove(key);
            }
            copy
        };
        match stripped(old) == stripped(self.object) {
            true => Ok(()),
            false => self.refuse(format!(
                "node {} is not allowed to update fields other than status.quantity and status.conditions",
                self.me()
            )),
        }
    }

    fn node(&self) -> Result<(), ApiError> {
        let (me, new) = (self.me(), self.object);
        let asked = match (self.request.name, self.request.operation) {
            ("", Operation::Create) => new.name(),
            (name, _) => name,
        };
        if asked != self.node {
            let asked = quote(asked);
            return self.refuse(format!("node {me} is not allowed to modify node {asked}"));
        }
        let config = |o: &Object| given(o.at(&["spec", "configSource"])).cloned();
        match (self.request.operation, self.request.old) {
            (Operation::Create, _) => {
                if config(new).is_some() {
                    return self.refuse(format!(
                        "node {me} is not allowed to create pods with a non-nil configSource"
                    ));
                }
                // A new node names no owner either, or it could arrange to be collected and to come back.
                if given(new.at(&["metadata", "ownerReferences"])).is_some() {
                    let why = format!("node {me} is not allowed to modify ownerReferences");
                    return self.refuse(why);
                }
                let forbidden = forbidden_labels(new, None);
                match forbidden.is_empty() {
                    true => Ok(()),
                    false => self.refuse(format!(
                        "node {me} is not allowed to set the following labels: {}",
                        forbidden.join(", ")
                    )),
                }
            }
            (Operation::Update, Some(old)) => self.changed_node(old),
            _ => Ok(()),
        }
    }

    fn changed_node(&self, old: &Object) -> Result<(), ApiError> {
        let (me, new) = (self.me(), self.object);
        let same = |path: &[&str]| given(old.at(path)) == given(new.at(path));
        let config = ["spec", "configSource"];
        if given(new.at(&config)).is_some() && !same(&config) {
            return self.refuse(format!(
                "node {me} is not allowed to update configSource to a new non-nil configSource"
            ));
        }
        if !same(&["spec", "taints"]) {
            return self.refuse(format!("node {me} is not allowed to modify taints"));
        }
        if !same(&["metadata", "ownerReferences"]) {
            return self.refuse(format!(
                "node {me} is not allowed to modify ownerReferences"
            ));
        }
        let forbidden = forbidden_labels(new, Some(old));
        match forbidden.is_empty() {
            true => Ok(()),
            false => self.refuse(format!(
                "is not allowed to modify labels: {}",
                forbidden.join(", ")
            )),
        }
    }

    fn token(&self) -> Result<(), ApiError> {
        if self.request.operation != Operation::Create || self.request.subresource != "token" {
            return Ok(());
        }
        let reference = |key: &str| self.object.str_at(&["spec", "boundObjectRef", key]);
        let (name, uid) = (reference("name"), reference("uid"));
        if reference("apiVersion") != "v1" || reference("kind") != "Pod" || name.is_empty() {
            return self.refuse("node requested token not bound to a pod");
        }
        if uid.is_empty() {
            return self.refuse("node requested token with a pod binding without a uid");
        }
        let pod = self.find_pod(name)?;
        if uid != pod.uid() {
            return self.refuse(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        if !self.runs_here(&pod) {
            let why = "node requested token bound to a pod scheduled on a different node";
            return self.refuse(why);
        }
        self.token_audience(&pod)
    }

    /// A node asks only for audiences that the pod itself asks for, or that policy gives it.
    fn token_audience(&self, pod: &Object) -> Result<(), ApiError> {
        let audiences = self
            .object
            .at(&["spec", "audiences"])
            .and_then(Value::as_array);
        let audience = match audiences.map(Vec::as_slice).unwrap_or_default() {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return self.refuse("node may only request 0 or 1 audiences"),
        };
        if self.mounts_audience(pod, audience) {
            return Ok(());
        }
        let verb = "request-serviceaccounts-token-audience";
        let user = self.request.user;
        let mut attributes = Attributes::resource(user, verb, self.request.group, audience);
        attributes.api_version = "v1".to_owned();
        attributes.namespace = self.request.namespace.to_owned();
        attributes.name = self.request.name.to_owned();
        match self.request.authorizer.authorize(&attributes).is_allowed() {
            true => Ok(()),
            false => self.refuse(format!(
                "{} is not authorized to request tokens for audience {}",
                user.name,
                quote(audience)
            )),
        }
    }

    fn mounts_audience(&self, pod: &Object, audience: &str) -> bool {
        let volumes = pod.at(&["spec", "volumes"]).and_then(Value::as_array);
        volumes.into_iter().flatten().any(|volume| {
            let sources = volume.get("projected").and_then(|p| p.get("sources"));
            let mut tokens = sources
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|source| source.get("serviceAccountToken"))
                .filter(|token| token.is_object());
            let of =
                |t: &Value| t.get("audience").and_then(Value::as_str).unwrap_or("") == audience;
            tokens.any(of) || self.driver_wants_audience(pod, volume, audience)
        })
    }

    fn driver_wants_audience(&self, pod: &Object, volume: &Value, audience: &str) -> bool {
        let text = |path: &[&str]| {
            path.iter()
                .try_fold(volume, |v, key| v.get(key))
                .and_then(Value::as_str)
        };
        let of_claim = |claim: &str| {
            let claim = self
                .lookup
                .get("", "persistentvolumeclaims", pod.namespace(), claim)?;
            let volume = claim.str_at(&["spec", "volumeName"]);
            let volume = self.lookup.get("", "persistentvolumes", "", volume)?;
            Some(volume.str_at(&["spec", "csi", "driver"]).to_owned())
        };
        let driver = if volume.get("ephemeral").is_some_and(Value::is_object) {
            of_claim(&format!(
                "{}-{}",
                pod.name(),
                text(&["name"]).unwrap_or_default()
            ))
        } else if let Some(claim) = text(&["persistentVolumeClaim", "claimName"]) {
            of_claim(claim)
        } else {
            text(&["csi", "driver"]).map(str::to_owned)
        };
        let Some(driver) = driver.filter(|d| !d.is_empty()) else {
            return false;
        };
        let Some(driver) = self.lookup.get("storage.k8s.io", "csidrivers", "", &driver) else {
            return false;
        };
        let wanted = driver
            .at(&["spec", "tokenRequests"])
            .and_then(Value::as_array);
        let of = |t: &Value| t.get("audience").and_then(Value::as_str).unwrap_or("") == audience;
        wanted.into_iter().flatten().any(of)
    }

    fn lease(&self) -> Result<(), ApiError> {
        if self.request.namespace != "kube-node-lease" {
            let why = "can only access leases in the \"kube-node-lease\" system namespace";
            return self.refuse(why);
        }
        self.own_name("node lease")
    }

    /// The object has the node's name.
    fn own_name(&self, what: &str) -> Result<(), ApiError> {
        let name = match self.request.operation {
            Operation::Create => self.object.name(),
            _ => self.request.name,
        };
        match name == self.node {
            true => Ok(()),
            false => self.refuse(format!(
                "can only access {what} with the same name as the requesting node"
            )),
        }
    }

    fn resource_slice(&self) -> Result<(), ApiError> {
        let (slice, verb) = match (self.request.operation, self.request.old) {
            (Operation::Create, _) => (self.object, "create"),
            (Operation::Delete, Some(old)) => (old, "delete"),
            _ => return Ok(()),
        };
        match self.runs_here(slice) {
            true => Ok(()),
            false => self.refuse(format!(
                "can only {verb} ResourceSlice with the same NodeName as the requesting node"
            )),
        }
    }
}

/// A value that says something: absent, null and empty are the same.
fn given(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    })
}

/// Labels of the `kubernetes.io` and `k8s.io` families that a kubelet sets itself.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// The labels that differ and that a node may not set, sorted.
fn forbidden_labels(new: &Object, old: Option<&Object>) -> Vec<String> {
    let pairs = |o: &Object| -> BTreeSet<(String, String)> {
        o.labels()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    };
    let (new, old) = (pairs(new), old.map(pairs).unwrap_or_default());
    let changed: BTreeSet<&str> = new
        .symmetric_difference(&old)
        .map(|(k, _)| k.as_str())
        .collect();
    changed
        .into_iter()
        .filter(|key| is_forbidden(key))
        .map(str::to_owned)
        .collect()
}

fn is_forbidden(label: &str) -> bool {
    let prefix = label.split_once('/').map_or("", |(prefix, _)| prefix);
    let under = |domain: &str| {
        prefix == domain
            || prefix
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    let of_kubelet = KUBELET_LABELS.contains(&label)
        || under("kubelet.kubernetes.io")
        || under("node.kubernetes.io");
    under("node-restriction.kubernetes.io")
        || ((under("kubernetes.io") || under("k8s.io")) && !of_kubelet)
}
