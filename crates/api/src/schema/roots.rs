//! The types that schemas start from: every kind, its list, and what bodies and answers are made of besides.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// How to name a type and how to write its schema and all below it into a generator.
struct Root {
    name: fn() -> String,
    write: fn(&mut SchemaGenerator),
}

const fn root<T: JsonSchema>() -> Root {
    Root {
        name: || T::schema_name().into_owned(),
        write: |generator| {
            generator.subschema_for::<T>();
        },
    }
}

/// The list of a kind; the crate's generic list has no schema.
const fn list<T: JsonSchema>() -> Root {
    Root {
        name: list_name::<T>,
        write: |generator| {
            let items = generator.subschema_for::<T>();
            let metadata = generator.subschema_for::<ListMeta>();
            let schema = list_schema(&T::schema_name(), items.into(), metadata.into());
            generator.definitions_mut().insert(list_name::<T>(), schema);
        },
    }
}

fn list_name<T: JsonSchema>() -> String {
    format!("{}List", T::schema_name())
}

pub(super) fn list_schema(name: &str, items: Value, mut metadata: Value) -> Value {
    const CONVENTIONS: &str =
        "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
    let kind = name.rsplit('.').next().unwrap_or(name);
    metadata["description"] =
        format!("Standard list metadata. More info: {CONVENTIONS}#types-kinds").into();
    json!({
        "description": format!("{kind}List is a list of {kind} objects."),
        "type": "object",
        "properties": {
            "apiVersion": {
                "description": format!("APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: {CONVENTIONS}#resources"),
                "type": "string",
            },
            "items": {
                "description": format!("List of {kind} objects."),
                "type": "array",
                "items": items,
            },
            "kind": {
                "description": format!("Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: {CONVENTIONS}#types-kinds"),
                "type": "string",
            },
            "metadata": metadata,
        },
        "required": ["items"],
    })
}

/// The JSON schemas of the named type and of all that it refers to.
pub(super) fn build(name: &str) -> Option<Map<String, Value>> {
    let all = KINDS.iter().chain(LISTS).chain(OTHERS);
    let root = all.into_iter().find(|root| (root.name)() == name)?;
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    (root.write)(&mut generator);
    Some(generator.take_definitions(false))
}

/// The names of all types that schemas start from.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = String> {
    let all = KINDS.iter().chain(LISTS).chain(OTHERS);
    all.map(|root| (root.name)())
}

macro_rules! roots {
    ($($kind:path,)*) => {
        static KINDS: &[Root] = &[$(root::<$kind>(),)*];
        static LISTS: &[Root] = &[$(list::<$kind>(),)*];
    };
}

roots! {
        api::admissionregistration::v1::MutatingAdmissionPolicy,
        api::admissionregistration::v1::MutatingAdmissionPolicyBinding,
        api::admissionregistration::v1::MutatingWebhookConfiguration,
        api::admissionregistration::v1::ValidatingAdmissionPolicy,
        api::admissionregistration::v1::ValidatingAdmissionPolicyBinding,
        api::admissionregistration::v1::ValidatingWebhookConfiguration,
        api::apps::v1::ControllerRevision,
        api::apps::v1::DaemonSet,
        api::apps::v1::Deployment,
        api::apps::v1::ReplicaSet,
        api::apps::v1::StatefulSet,
        api::autoscaling::v1::HorizontalPodAutoscaler,
        api::autoscaling::v2::HorizontalPodAutoscaler,
        api::batch::v1::CronJob,
        api::batch::v1::Job,
        api::certificates::v1::CertificateSigningRequest,
        api::certificates::v1::ClusterTrustBundle,
        api::certificates::v1::PodCertificateRequest,
        api::coordination::v1::Lease,
        api::core::v1::ComponentStatus,
        api::core::v1::ConfigMap,
        api::core::v1::Endpoints,
        api::core::v1::Event,
        api::core::v1::LimitRange,
        api::core::v1::Namespace,
        api::core::v1::Node,
        api::core::v1::PersistentVolume,
        api::core::v1::PersistentVolumeClaim,
        api::core::v1::Pod,
        api::core::v1::PodTemplate,
        api::core::v1::ReplicationController,
        api::core::v1::ResourceQuota,
        api::core::v1::Secret,
        api::core::v1::Service,
        api::core::v1::ServiceAccount,
        api::discovery::v1::EndpointSlice,
        api::events::v1::Event,
        api::flowcontrol::v1::FlowSchema,
        api::flowcontrol::v1::PriorityLevelConfiguration,
        api::networking::v1::Ingress,
        api::networking::v1::IngressClass,
        api::networking::v1::IPAddress,
        api::networking::v1::NetworkPolicy,
        api::networking::v1::ServiceCIDR,
        api::node::v1::RuntimeClass,
        api::policy::v1::PodDisruptionBudget,
        api::rbac::v1::ClusterRole,
        api::rbac::v1::ClusterRoleBinding,
        api::rbac::v1::Role,
        api::rbac::v1::RoleBinding,
        api::resource::v1::DeviceClass,
        api::resource::v1::DeviceTaintRule,
        api::resource::v1::ResourceClaim,
        api::resource::v1::ResourceClaimTemplate,
        api::resource::v1::ResourceSlice,
        api::scheduling::v1::PriorityClass,
        api::storage::v1::CSIDriver,
        api::storage::v1::CSINode,
        api::storage::v1::CSIStorageCapacity,
        api::storage::v1::StorageClass,
        api::storage::v1::VolumeAttachment,
        api::storage::v1::VolumeAttributesClass,
        api::storagemigration::v1::StorageVersionMigration,
        apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
        kube_aggregator::pkg::apis::apiregistration::v1::APIService,
}

static OTHERS: &[Root] = &[
    root::<api::authentication::v1::SelfSubjectReview>(),
    root::<api::authentication::v1::TokenRequest>(),
    root::<api::authentication::v1::TokenReview>(),
    root::<api::authorization::v1::LocalSubjectAccessReview>(),
    root::<api::authorization::v1::SelfSubjectAccessReview>(),
    root::<api::authorization::v1::SelfSubjectRulesReview>(),
    root::<api::authorization::v1::SubjectAccessReview>(),
    root::<api::autoscaling::v1::Scale>(),
    root::<api::core::v1::Binding>(),
    root::<api::policy::v1::Eviction>(),
    root::<apimachinery::pkg::apis::meta::v1::APIGroup>(),
    root::<apimachinery::pkg::apis::meta::v1::APIGroupList>(),
    root::<apimachinery::pkg::apis::meta::v1::APIResourceList>(),
    root::<apimachinery::pkg::apis::meta::v1::APIVersions>(),
    root::<apimachinery::pkg::version::Info>(),
    root::<apimachinery::pkg::apis::meta::v1::DeleteOptions>(),
    root::<apimachinery::pkg::apis::meta::v1::Patch>(),
    root::<apimachinery::pkg::apis::meta::v1::Status>(),
    root::<apimachinery::pkg::apis::meta::v1::WatchEvent<apimachinery::pkg::runtime::RawExtension>>(
    ),
];
