//! The table of all kinds. Adding a kind is one line here and one module.

use crate::kind::{AnyKind, Erased};
use crate::{
    admissionregistration, apiextensions, apiregistration, apps, authentication, authorization,
    autoscaling, batch, certificates, coordination, core, discovery, events, flowcontrol,
    networking, node, policy, rbac, resource, scheduling, storage, storagemigration,
};

/// Every kind served as a resource, in discovery order (core first, then groups).
pub static KINDS: &[&dyn AnyKind] = &[
    &Erased::<core::binding::Binding>::new(),
    &Erased::<core::componentstatus::ComponentStatus>::new(),
    &Erased::<core::configmap::ConfigMap>::new(),
    &Erased::<core::endpoints::Endpoints>::new(),
    &Erased::<core::event::Event>::new(),
    &Erased::<core::limitrange::LimitRange>::new(),
    &Erased::<core::namespace::Namespace>::new(),
    &Erased::<core::node::Node>::new(),
    &Erased::<core::persistentvolumeclaim::PersistentVolumeClaim>::new(),
    &Erased::<core::persistentvolume::PersistentVolume>::new(),
    &Erased::<core::pod::Pod>::new(),
    &Erased::<core::podtemplate::PodTemplate>::new(),
    &Erased::<core::replicationcontroller::ReplicationController>::new(),
    &Erased::<core::resourcequota::ResourceQuota>::new(),
    &Erased::<core::secret::Secret>::new(),
    &Erased::<core::service::Service>::new(),
    &Erased::<core::serviceaccount::ServiceAccount>::new(),
    &Erased::<apiregistration::apiservice::ApiService>::new(),
    &Erased::<events::event::Event>::new(),
    &Erased::<authentication::SelfSubjectReview>::new(),
    &Erased::<authentication::TokenReview>::new(),
    &Erased::<authorization::LocalSubjectAccessReview>::new(),
    &Erased::<authorization::SelfSubjectAccessReview>::new(),
    &Erased::<authorization::SelfSubjectRulesReview>::new(),
    &Erased::<authorization::SubjectAccessReview>::new(),
    &Erased::<apps::controllerrevision::ControllerRevision>::new(),
    &Erased::<apps::daemonset::DaemonSet>::new(),
    &Erased::<apps::deployment::Deployment>::new(),
    &Erased::<apps::replicaset::ReplicaSet>::new(),
    &Erased::<apps::statefulset::StatefulSet>::new(),
    &Erased::<autoscaling::horizontalpodautoscaler::HorizontalPodAutoscaler>::new(),
    &Erased::<autoscaling::horizontalpodautoscaler::v1::HorizontalPodAutoscaler>::new(),
    &Erased::<batch::cronjob::CronJob>::new(),
    &Erased::<batch::job::Job>::new(),
    &Erased::<networking::ingress::Ingress>::new(),
    &Erased::<networking::ingressclass::IngressClass>::new(),
    &Erased::<networking::ipaddress::IpAddress>::new(),
    &Erased::<networking::networkpolicy::NetworkPolicy>::new(),
    &Erased::<networking::servicecidr::ServiceCidr>::new(),
    &Erased::<policy::poddisruptionbudget::PodDisruptionBudget>::new(),
    &Erased::<certificates::certificatesigningrequest::CertificateSigningRequest>::new(),
    &Erased::<certificates::clustertrustbundle::ClusterTrustBundle>::new(),
    &Erased::<certificates::podcertificaterequest::PodCertificateRequest>::new(),
    &Erased::<rbac::binding::ClusterRoleBinding>::new(),
    &Erased::<rbac::role::ClusterRole>::new(),
    &Erased::<rbac::binding::RoleBinding>::new(),
    &Erased::<rbac::role::Role>::new(),
    &Erased::<storage::csidriver::CSIDriver>::new(),
    &Erased::<storage::csinode::CSINode>::new(),
    &Erased::<storage::csistoragecapacity::CSIStorageCapacity>::new(),
    &Erased::<storage::storageclass::StorageClass>::new(),
    &Erased::<storage::volumeattachment::VolumeAttachment>::new(),
    &Erased::<storage::volumeattributesclass::VolumeAttributesClass>::new(),
    &Erased::<admissionregistration::webhook::mutating::MutatingWebhookConfiguration>::new(),
    &Erased::<admissionregistration::webhook::validating::ValidatingWebhookConfiguration>::new(),
    &Erased::<coordination::lease::Lease>::new(),
    &Erased::<node::runtimeclass::RuntimeClass>::new(),
    &Erased::<discovery::endpointslice::EndpointSlice>::new(),
    &Erased::<flowcontrol::flowschema::FlowSchema>::new(),
    &Erased::<flowcontrol::prioritylevelconfiguration::PriorityLevelConfiguration>::new(),
    &Erased::<scheduling::priorityclass::PriorityClass>::new(),
    &Erased::<resource::deviceclass::DeviceClass>::new(),
    &Erased::<resource::devicetaintrule::DeviceTaintRule>::new(),
    &Erased::<resource::resourceclaim::ResourceClaim>::new(),
    &Erased::<resource::resourceclaimtemplate::ResourceClaimTemplate>::new(),
    &Erased::<resource::resourceslice::ResourceSlice>::new(),
    &Erased::<storagemigration::storageversionmigration::StorageVersionMigration>::new(),
    &Erased::<admissionregistration::validatingadmissionpolicy::ValidatingAdmissionPolicy>::new(),
    &Erased::<admissionregistration::binding::ValidatingAdmissionPolicyBinding>::new(),
    &Erased::<admissionregistration::mutatingadmissionpolicy::MutatingAdmissionPolicy>::new(),
    &Erased::<admissionregistration::binding::MutatingAdmissionPolicyBinding>::new(),
    &Erased::<apiextensions::customresourcedefinition::CustomResourceDefinition>::new(),
];

/// Kinds that are only bodies of sub-resources: `serviceaccounts/token`, `pods/eviction`, `*/scale`.
pub static BODIES: &[&dyn AnyKind] = &[
    &Erased::<authentication::TokenRequest>::new(),
    &Erased::<autoscaling::Scale>::new(),
    &Erased::<policy::Eviction>::new(),
];

/// The kind that serves `group/version/plural`.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static dyn AnyKind> {
    KINDS.iter().copied().find(|k| {
        let names = k.names();
        names.plural == plural && names.group == group && names.version == version
    })
}

/// The kind with this group, version and CamelCase name, those of bodies included.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static dyn AnyKind> {
    KINDS.iter().chain(BODIES).copied().find(|k| {
        let names = k.names();
        names.kind == kind && names.group == group && names.version == version
    })
}
