//! A node asks for certificates of pods that run on it, for signers that these pods name.
//!
//! Where a cache may lag behind, the answer is no refusal but an error that is worth another try.

use machinery::{ApiError, Object};
use serde_json::Value;

use super::{Check, Operation};
use crate::Attributes;
use crate::pod_references::is_mirror;
use crate::quote::quote;

impl Check<'_> {
    pub(super) fn pod_certificate(&self) -> Result<(), ApiError> {
        let operation = self.request.operation;
        if operation != Operation::Create {
            return self.refuse(format!("unexpected operation {}", operation.as_str()));
        }
        if !self.request.subresource.is_empty() {
            let subresource = self.request.subresource;
            return self.refuse(format!("unexpected subresource {subresource}"));
        }
        self.certified_node()?;
        let pod = self.certified_pod()?;
        self.certified_account(&pod)?;
        let signer = self.asked("signerName");
        if names_signer(&pod, signer) || self.may_ask(signer) {
            return Ok(());
        }
        self.refuse(format!(
            "pod {} does not mount a podCertificate projected volume for signer {}",
            self.certified(self.asked("podName")),
            quote(signer)
        ))
    }

    fn asked(&self, key: &str) -> &str {
        self.object.str_at(&["spec", key])
    }

    /// Namespace and name, as messages have them.
    fn certified(&self, name: &str) -> String {
        quote(&format!("{}/{name}", self.request.namespace))
    }

    fn certified_node(&self) -> Result<(), ApiError> {
        let (name, uid) = (self.asked("nodeName"), self.asked("nodeUID"));
        if name != self.node {
            return self.refuse(format!(
                "PodCertificateRequest.Spec.NodeName={}, which is not the requesting node {}",
                quote(name),
                self.me()
            ));
        }
        let Some(node) = self.lookup.get("", "nodes", "", name) else {
            return Err(not_there("node", &quote(name), name));
        };
        match node.uid() == uid {
            true => Ok(()),
            false => Err(try_again(format!(
                "PodCertificateRequest for pod {} names node UID {}, inconsistent with the running node ({})",
                self.certified(self.asked("podName")),
                quote(uid),
                quote(node.uid())
            ))),
        }
    }

    fn certified_pod(&self) -> Result<std::sync::Arc<Object>, ApiError> {
        let (name, uid) = (self.asked("podName"), self.asked("podUID"));
        let shown = self.certified(name);
        let Some(pod) = self.lookup.get("", "pods", self.request.namespace, name) else {
            return Err(not_there("pod", &shown, name));
        };
        if pod.uid() != uid {
            return Err(try_again(format!(
                "PodCertificateRequest for pod {shown} contains pod UID ({}) which differs from running pod {}",
                quote(uid),
                quote(pod.uid())
            )));
        }
        if !self.runs_here(&pod) {
            self.refuse(format!(
                "pod {shown} is not running on node {} named in the PodCertificateRequest",
                self.me()
            ))?;
        }
        if is_mirror(&pod) {
            self.refuse(format!("pod {shown} is a mirror pod"))?;
        }
        Ok(pod)
    }

    fn certified_account(&self, pod: &Object) -> Result<(), ApiError> {
        let (name, uid) = (
            self.asked("serviceAccountName"),
            self.asked("serviceAccountUID"),
        );
        let own = pod.str_at(&["spec", "serviceAccountName"]);
        let shown = self.certified(self.asked("podName"));
        if name != own {
            return self.refuse(format!(
                "PodCertificateRequest for pod {shown} contains serviceAccountName ({}) that differs from running pod ({})",
                quote(name),
                quote(own)
            ));
        }
        let namespace = self.request.namespace;
        let Some(account) = self.lookup.get("", "serviceaccounts", namespace, name) else {
            return Err(not_there("service account", &self.certified(name), name));
        };
        match account.uid() == uid {
            true => Ok(()),
            false => Err(try_again(format!(
                "PodCertificateRequest for pod {shown} names service account UID {}, which differs from the running service account ({})",
                quote(uid),
                quote(account.uid())
            ))),
        }
    }

    /// Somebody who may ask for other signers than the pod names: those of drivers, say.
    fn may_ask(&self, signer: &str) -> bool {
        let request = self.request;
        let verb = "request-serviceaccounts-podcertificate-signer";
        // Names of resources have no slashes.
        let resource = signer.replace('/', ":");
        let mut attributes = Attributes::resource(request.user, verb, request.group, &resource);
        attributes.api_version = "v1".to_owned();
        attributes.namespace = request.namespace.to_owned();
        attributes.name = self.asked("serviceAccountName").to_owned();
        request.authorizer.authorize(&attributes).is_allowed()
    }
}

fn names_signer(pod: &Object, signer: &str) -> bool {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let volumes = list(pod.at(&["spec", "volumes"]));
    volumes.iter().any(|volume| {
        let sources = volume.get("projected").and_then(|p| p.get("sources"));
        list(sources).iter().any(|source| {
            let named = source.get("podCertificate");
            let named = named.and_then(|c| c.get("signerName"));
            named.and_then(Value::as_str) == Some(signer)
        })
    })
}

fn try_again(why: String) -> ApiError {
    ApiError::new(500, "", why)
}

fn not_there(what: &str, shown: &str, name: &str) -> ApiError {
    let kind = what.replace("service account", "serviceaccount");
    try_again(format!(
        "while retrieving {what} {shown} named in the PodCertificateRequest: {kind} {} not found",
        quote(name)
    ))
}
