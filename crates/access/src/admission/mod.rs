//! Admission: rules about writes that need to know who writes, or what else there is.
//!
//! One table of plug-ins in upstream's order; each is a pair of functions over the request, the object and cached
//! objects. Start with [`admit`] (changes the object, then webhooks run) and [`validate`] (the last word).
//! Behaviour: `plugin/pkg/admission`, order: `pkg/kubeapiserver/options/plugins.go`.

mod certificates;
mod default_ingress_class;
mod default_toleration_seconds;
mod deny_service_external_ips;
pub mod event_rate_limit;
pub mod expression;
pub mod image_policy;
mod limit_ranger;
pub mod limited_resources;
pub mod manifests;
mod namespace_lifecycle;
mod node_declared_features;
mod node_restriction;
mod owner_references;
pub mod pod_node_selector;
mod pod_resize;
mod pod_rules;
pub mod pod_security;
pub mod pod_toleration_restriction;
mod pod_topology_labels;
pub mod policies;
mod priority;
mod request;
pub mod resource_quota;
pub mod review;
pub mod rules;
mod runtime_class;
mod service_account;
mod storage;
mod taint_nodes_by_condition;
pub mod webhook;

pub use request::{Notes, Operation, Request, Settings, TolerationSeconds};

use machinery::{ApiError, Object};

use crate::Lookup;

type Admit = fn(&Request, &mut Object, &dyn Lookup) -> Result<(), ApiError>;
type Validate = fn(&Request, &Object, &dyn Lookup) -> Result<(), ApiError>;

/// Groups and resources.
type Resources = &'static [(&'static str, &'static str)];

const NOTHING: Resources = &[];
const PODS: Resources = &[("", "pods")];
const NODES: Resources = &[("", "nodes")];
const CLAIMS: Resources = &[("", "persistentvolumeclaims")];
const INGRESSES: Resources = &[("networking.k8s.io", "ingresses")];
/// What is not removed while it is in use.
const PROTECTED: Resources = &[
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("storage.k8s.io", "volumeattributesclasses"),
];

/// A plug-in. For a delete the object is empty.
pub struct Plugin {
    /// Upstream's name.
    pub name: &'static str,
    /// May change the object, may refuse.
    pub admit: Option<Admit>,
    /// The resources whose objects `admit` may change, those posted to their sub-resources included: of all others it
    /// lets pass or refuses only.
    pub changes: Resources,
    /// May refuse.
    pub validate: Option<Validate>,
}

/// All plug-ins, in order.
pub static PLUGINS: &[Plugin] = &[
    Plugin {
        name: "NamespaceLifecycle",
        admit: Some(namespace_lifecycle::admit),
        changes: NOTHING,
        validate: None,
    },
    Plugin {
        name: "NamespaceExists",
        admit: None,
        changes: NOTHING,
        validate: Some(namespace_lifecycle::exists),
    },
    Plugin {
        name: "LimitPodHardAntiAffinityTopology",
        admit: None,
        changes: NOTHING,
        validate: Some(pod_rules::hard_anti_affinity),
    },
    Plugin {
        name: "LimitRanger",
        admit: Some(limit_ranger::admit),
        changes: PODS,
        validate: Some(limit_ranger::validate),
    },
    Plugin {
        name: "ServiceAccount",
        admit: Some(service_account::admit),
        changes: PODS,
        validate: Some(service_account::validate),
    },
    Plugin {
        name: "NodeRestriction",
        admit: Some(node_restriction::admit),
        changes: NOTHING,
        validate: None,
    },
    Plugin {
        name: "TaintNodesByCondition",
        admit: Some(taint_nodes_by_condition::admit),
        changes: NODES,
        validate: None,
    },
    Plugin {
        name: "AlwaysPullImages",
        admit: Some(pod_rules::pull_always),
        changes: PODS,
        validate: Some(pod_rules::pulls_always),
    },
    Plugin {
        name: "PodSecurity",
        admit: None,
        changes: NOTHING,
        validate: Some(pod_security::validate),
    },
    Plugin {
        name: "PodNodeSelector",
        admit: Some(pod_node_selector::admit),
        changes: PODS,
        validate: Some(pod_node_selector::validate),
    },
    Plugin {
        name: "Priority",
        admit: Some(priority::admit),
        changes: PODS,
        validate: Some(priority::validate),
    },
    Plugin {
        name: "DefaultTolerationSeconds",
        admit: Some(default_toleration_seconds::admit),
        changes: PODS,
        validate: None,
    },
    Plugin {
        name: "PodTolerationRestriction",
        admit: Some(pod_toleration_restriction::admit),
        changes: PODS,
        validate: Some(pod_toleration_restriction::validate),
    },
    Plugin {
        name: "ExtendedResourceToleration",
        admit: Some(pod_rules::tolerate_extended_resources),
        changes: PODS,
        validate: None,
    },
    Plugin {
        name: "DefaultStorageClass",
        admit: Some(storage::default_class),
        changes: CLAIMS,
        validate: None,
    },
    Plugin {
        name: "StorageObjectInUseProtection",
        admit: Some(storage::protect),
        changes: PROTECTED,
        validate: None,
    },
    Plugin {
        name: "OwnerReferencesPermissionEnforcement",
        admit: None,
        changes: NOTHING,
        validate: Some(owner_references::validate),
    },
    Plugin {
        name: "PersistentVolumeClaimResize",
        admit: None,
        changes: NOTHING,
        validate: Some(storage::resize),
    },
    Plugin {
        name: "RuntimeClass",
        admit: Some(runtime_class::admit),
        changes: PODS,
        validate: Some(runtime_class::validate),
    },
    Plugin {
        name: "CertificateApproval",
        admit: None,
        changes: NOTHING,
        validate: Some(certificates::approval),
    },
    Plugin {
        name: "CertificateSigning",
        admit: None,
        changes: NOTHING,
        validate: Some(certificates::signing),
    },
    Plugin {
        name: "ClusterTrustBundleAttest",
        admit: None,
        changes: NOTHING,
        validate: Some(certificates::attest),
    },
    Plugin {
        name: "CertificateSubjectRestriction",
        admit: None,
        changes: NOTHING,
        validate: Some(certificates::subject),
    },
    Plugin {
        name: "DefaultIngressClass",
        admit: Some(default_ingress_class::admit),
        changes: INGRESSES,
        validate: None,
    },
    Plugin {
        name: "DenyServiceExternalIPs",
        admit: None,
        changes: NOTHING,
        validate: Some(deny_service_external_ips::validate),
    },
    Plugin {
        name: "PodTopologyLabels",
        admit: Some(pod_topology_labels::admit),
        changes: PODS,
        validate: None,
    },
    Plugin {
        name: "NodeDeclaredFeatureValidator",
        admit: None,
        changes: NOTHING,
        validate: Some(node_declared_features::validate),
    },
    Plugin {
        name: "PodResizeValidator",
        admit: None,
        changes: NOTHING,
        validate: Some(pod_resize::validate),
    },
    Plugin {
        name: "AlwaysDeny",
        admit: Some(|request, object, _| Err(deny(request, object))),
        changes: NOTHING,
        validate: Some(|request, object, _| Err(deny(request, object))),
    },
];

fn deny(request: &Request, object: &Object) -> ApiError {
    request.forbidden(object, "admission control is denying all modifications")
}

/// Plug-ins that are used only when the operator names them.
pub static OFF_BY_DEFAULT: &[&str] = &[
    "NamespaceAutoProvision",
    "NamespaceExists",
    "LimitPodHardAntiAffinityTopology",
    "NodeRestriction",
    "AlwaysPullImages",
    "ImagePolicyWebhook",
    "PodNodeSelector",
    "PodTolerationRestriction",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "OwnerReferencesPermissionEnforcement",
    "DenyServiceExternalIPs",
    "AlwaysDeny",
];

/// Further names that an operator may use: parts of the server that are no functions over one request, `AlwaysAdmit`, which
/// does nothing, and `PodGroupProtection`, which does nothing either as long as its kind is not on by default.
pub static ELSEWHERE: &[&str] = &[
    "AlwaysAdmit",
    "EventRateLimit",
    "ImagePolicyWebhook",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceAutoProvision",
    "PodGroupProtection",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
];

/// Whether an operator's document is the settings that it should be.
fn settings_of(file: &serde_json::Value, api_version: &str, kind: &str) -> Result<(), String> {
    let (found, of) = (&file["kind"], &file["apiVersion"]);
    match found == kind && of == api_version {
        true => Ok(()),
        false => Err(format!("no kind {found} is registered for version {of}")),
    }
}

/// Whether [`admit`] may change objects of a resource, or what is posted to their sub-resources.
pub fn may_change(group: &str, resource: &str) -> bool {
    PLUGINS
        .iter()
        .any(|plugin| plugin.changes.contains(&(group, resource)))
}

fn chosen(request: &Request) -> impl Iterator<Item = &'static Plugin> {
    let without = &request.settings.without;
    PLUGINS
        .iter()
        .filter(|plugin| !without.contains(plugin.name))
}

/// Lets every plug-in change the object; `asked` hears of each that was asked, and whether it refused.
///
/// # Errors
/// The first refusal.
pub fn admit(
    request: &Request,
    object: &mut Object,
    lookup: &dyn Lookup,
    mut asked: impl FnMut(&'static str, bool),
) -> Result<(), ApiError> {
    let mut plugins = chosen(request).filter_map(|plugin| Some((plugin.name, plugin.admit?)));
    plugins.try_for_each(|(name, admit)| {
        let answer = admit(request, object, lookup);
        asked(name, answer.is_err());
        answer
    })
}

/// Asks every plug-in about the object as it is going to be stored; `asked` as for [`admit`].
///
/// # Errors
/// The first refusal.
pub fn validate(
    request: &Request,
    object: &Object,
    lookup: &dyn Lookup,
    mut asked: impl FnMut(&'static str, bool),
) -> Result<(), ApiError> {
    let mut plugins = chosen(request).filter_map(|plugin| Some((plugin.name, plugin.validate?)));
    plugins.try_for_each(|(name, validate)| {
        let answer = validate(request, object, lookup);
        asked(name, answer.is_err());
        answer
    })
}

/// An object that a controller is about to make, without which the request would be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Plural resource name, in the core group.
    pub resource: &'static str,
    /// Namespace, empty for cluster scope.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What the server should wait for (a second at most) before it calls [`admit`]: the namespace of a new object when a
/// cache may lag behind its creation, the service account `default` of a new namespace. Nothing for the sake of a plug-in
/// that is left out.
pub fn awaits(request: &Request, object: &Object, lookup: &dyn Lookup) -> Option<Awaited> {
    let has = |plugin| request.settings.has(plugin);
    let namespace = has("NamespaceLifecycle").then(|| namespace_lifecycle::awaits(request, lookup));
    namespace.flatten().or_else(|| {
        let account = has("ServiceAccount");
        account.then(|| service_account::awaits(request, object, lookup))?
    })
}

#[cfg(test)]
mod tests;
