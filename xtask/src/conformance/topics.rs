//! Which of the conformance tests ask for nothing but an API server and controllers.
//!
//! They create no pod, or pods that need not run. The list names topics and beginnings, so that it outlives the renaming of a
//! test; what stands here and does need a node fails by itself.

/// Topics by the group of people that keep the tests; regular expressions.
const TOPICS: &[(&str, &[&str])] = &[
    (
        "api-machinery",
        &[
            "API chunking",
            "API priority and fairness",
            "AggregatedDiscovery",
            "CustomResourceDefinition (Watch|resources)",
            "CustomResourcePublishOpenAPI",
            "Discovery should",
            "FieldValidation",
            "Garbage collector should (delete|keep|not delete|orphan)",
            "MutatingAdmissionPolicy",
            "Namespaces should (apply|ensure that all services|patch)",
            "ResourceQuota should (apply|be able|manage)",
            "ResourceQuota .* (calculated|configMap|replica set|replication controller|secret|service)",
            "Table transformation",
            "ValidatingAdmissionPolicy",
            "Watchers",
            "server version",
        ],
    ),
    (
        "apps",
        &[
            "CronJob",
            "DisruptionController (Listing|should create)",
            "ReplicationController should (get and update|release|surface)",
        ],
    ),
    ("architecture", &["Conformance Tests"]),
    (
        "auth",
        &[
            "Certificates API",
            "ServiceAccounts should (create|guarantee|run|update)",
            "SubjectReview",
        ],
    ),
    (
        "cli",
        &["Kubectl (api-versions|cluster-info|diff|run pod|server-side dry-run|version)"],
    ),
    ("instrumentation", &["Events"]),
    (
        "network",
        &[
            "API Server",
            "EndpointSlice should (create and|support creating)",
            "EndpointSliceMirroring",
            "Endpoints should",
            "EndpointsController should create and",
            "Ingress",
            "ServiceCIDR",
        ],
    ),
    (
        "node",
        &[
            "(ConfigMap|Secrets) should (fail to create|patch|run)",
            "DRA",
            "Lease",
            "Node Lifecycle",
            "PodTemplates",
            "RuntimeClass should support",
        ],
    ),
    (
        "scheduling",
        &["LimitRange should list", "PriorityClass endpoints"],
    ),
    (
        "storage",
        &[
            "CSIInlineVolumes",
            "CSINodes",
            "CSIStorageCapacity",
            "PersistentVolumes",
            "StorageClass",
            "VolumeAttachment",
            "VolumeAttributesClass",
            "immutable",
        ],
    ),
];

/// The regular expression that selects them.
pub(super) fn focus() -> String {
    let groups = TOPICS.iter().map(|(group, topics)| {
        format!(r"\[sig-{group}\].*({}).*\[Conformance\]", topics.join("|"))
    });
    groups.collect::<Vec<_>>().join("|")
}
