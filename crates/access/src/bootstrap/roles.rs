//! The default cluster roles: facts of the API, written as rows.
//!
//! Source of the facts: `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go` and `namespace_policy.go`.

use super::rows::{EVENTS, RoleRow, RuleRow, at, named, on};

/// Cluster roles, by name.
pub(super) const CLUSTER_ROLES: &[RoleRow] = &[
    RoleRow {
        name: "admin",
        joins: "",
        gathers: "admin",
        rules: &[],
    },
    RoleRow {
        name: "cluster-admin",
        joins: "",
        gathers: "",
        rules: &[on("*", "*", "*"), at("*", "*")],
    },
    RoleRow {
        name: "edit",
        joins: "admin",
        gathers: "edit",
        rules: &[],
    },
    RoleRow {
        name: "system:aggregate-to-admin",
        joins: "admin",
        gathers: "",
        rules: &[
            on(
                "create",
                "authorization.k8s.io",
                "localsubjectaccessreviews",
            ),
            on(
                "create delete deletecollection get list patch update watch",
                "rbac.authorization.k8s.io",
                "rolebindings roles",
            ),
        ],
    },
    RoleRow {
        name: "system:aggregate-to-edit",
        joins: "edit",
        gathers: "",
        rules: &[
            on(
                "get list watch",
                "core",
                "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
            ),
            on("impersonate", "core", "serviceaccounts"),
            on(
                "create delete deletecollection patch update",
                "core",
                "pods pods/attach pods/exec pods/portforward pods/proxy",
            ),
            on("create", "core", "pods/eviction"),
            on(
                "create delete deletecollection patch update",
                "core",
                "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy",
            ),
            on("create", "core", "serviceaccounts/token"),
            on(
                "create delete deletecollection patch update",
                "core events.k8s.io",
                "events",
            ),
            on(
                "create delete deletecollection patch update",
                "apps",
                "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale",
            ),
            on(
                "create delete deletecollection patch update",
                "autoscaling",
                "horizontalpodautoscalers",
            ),
            on(
                "create delete deletecollection patch update",
                "batch",
                "cronjobs jobs",
            ),
            on(
                "create delete deletecollection patch update",
                "extensions",
                "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale",
            ),
            on(
                "create delete deletecollection patch update",
                "policy",
                "poddisruptionbudgets",
            ),
            on(
                "create delete deletecollection patch update",
                "networking.k8s.io",
                "ingresses networkpolicies",
            ),
            on(
                "create delete deletecollection get list patch update watch",
                "coordination.k8s.io",
                "leases",
            ),
            on(
                "create delete deletecollection patch update",
                "resource.k8s.io",
                "resourceclaims resourceclaimtemplates",
            ),
        ],
    },
    RoleRow {
        name: "system:aggregate-to-view",
        joins: "view",
        gathers: "",
        rules: &[
            on(
                "get list watch",
                "core",
                "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
            ),
            on(
                "get list watch",
                "core",
                "bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status",
            ),
            on("get list watch", "core", "namespaces"),
            on("get list watch", "core events.k8s.io", "events"),
            on("get list watch", "discovery.k8s.io", "endpointslices"),
            on(
                "get list watch",
                "apps",
                "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
            ),
            on(
                "get list watch",
                "autoscaling",
                "horizontalpodautoscalers horizontalpodautoscalers/status",
            ),
            on(
                "get list watch",
                "batch",
                "cronjobs cronjobs/status jobs jobs/status",
            ),
            on(
                "get list watch",
                "extensions",
                "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
            ),
            on(
                "get list watch",
                "policy",
                "poddisruptionbudgets poddisruptionbudgets/status",
            ),
            on(
                "get list watch",
                "networking.k8s.io",
                "ingresses ingresses/status networkpolicies",
            ),
            on(
                "get list watch",
                "resource.k8s.io",
                "resourceclaims resourceclaims/status resourceclaimtemplates",
            ),
        ],
    },
    RoleRow {
        name: "system:auth-delegator",
        joins: "",
        gathers: "",
        rules: &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    },
    RoleRow {
        name: "system:basic-user",
        joins: "",
        gathers: "",
        rules: &[
            on(
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
            ),
            on("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    },
    RoleRow {
        name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        joins: "",
        gathers: "",
        rules: &[on(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/nodeclient",
        )],
    },
    RoleRow {
        name: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        joins: "",
        gathers: "",
        rules: &[on(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/selfnodeclient",
        )],
    },
    RoleRow {
        name: "system:certificates.k8s.io:kube-apiserver-client-approver",
        joins: "",
        gathers: "",
        rules: &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client",
        )],
    },
    RoleRow {
        name: "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        joins: "",
        gathers: "",
        rules: &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client-kubelet",
        )],
    },
    RoleRow {
        name: "system:certificates.k8s.io:kubelet-serving-approver",
        joins: "",
        gathers: "",
        rules: &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kubelet-serving",
        )],
    },
    RoleRow {
        name: "system:certificates.k8s.io:legacy-unknown-approver",
        joins: "",
        gathers: "",
        rules: &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/legacy-unknown",
        )],
    },
    RoleRow {
        name: "system:cluster-trust-bundle-discovery",
        joins: "",
        gathers: "",
        rules: &[on(
            "get list watch",
            "certificates.k8s.io",
            "clustertrustbundles",
        )],
    },
    RoleRow {
        name: "system:discovery",
        joins: "",
        gathers: "",
        rules: &[at(
            "get",
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
        )],
    },
    RoleRow {
        name: "system:heapster",
        joins: "",
        gathers: "",
        rules: &[
            on("get list watch", "core", "events namespaces nodes pods"),
            on("get list watch", "extensions", "deployments"),
        ],
    },
    RoleRow {
        name: "system:kube-aggregator",
        joins: "",
        gathers: "",
        rules: &[on("get list watch", "core", "endpoints services")],
    },
    RoleRow {
        name: "system:kube-controller-manager",
        joins: "",
        gathers: "",
        rules: &[
            EVENTS,
            on("create", "coordination.k8s.io", "leases"),
            named(
                "get update",
                "coordination.k8s.io",
                "leases",
                "kube-controller-manager",
            ),
            on("create", "core", "secrets serviceaccounts"),
            on("delete", "core", "secrets"),
            on(
                "get",
                "core",
                "configmaps namespaces secrets serviceaccounts",
            ),
            on("update", "core", "secrets serviceaccounts"),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            on("list watch", "*", "*"),
            on("create", "core", "serviceaccounts/token"),
        ],
    },
    RoleRow {
        name: "system:kube-dns",
        joins: "",
        gathers: "",
        rules: &[on("list watch", "core", "endpoints services")],
    },
    RoleRow {
        name: "system:kube-scheduler",
        joins: "",
        gathers: "",
        rules: &[
            EVENTS,
            on("create", "coordination.k8s.io", "leases"),
            named(
                "get list update watch",
                "coordination.k8s.io",
                "leases",
                "kube-scheduler",
            ),
            on(
                "create delete deletecollection get list patch update watch",
                "coordination.k8s.io",
                "leasecandidates",
            ),
            on("get list watch", "core", "nodes"),
            on("delete get list watch", "core", "pods"),
            on("create", "core", "bindings pods/binding"),
            on("patch update", "core", "pods/status"),
            on("get list watch", "core", "replicationcontrollers services"),
            on("get list watch", "apps extensions", "replicasets"),
            on("get list watch", "apps", "statefulsets"),
            on("get list watch", "policy", "poddisruptionbudgets"),
            on(
                "get list watch",
                "core",
                "persistentvolumeclaims persistentvolumes",
            ),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            on("get list watch", "storage.k8s.io", "csinodes"),
            on("get list watch", "storage.k8s.io", "volumeattachments"),
            on("get list watch", "core", "namespaces"),
            on("get list watch", "storage.k8s.io", "csidrivers"),
            on("get list watch", "storage.k8s.io", "csistoragecapacities"),
            on("get list watch", "resource.k8s.io", "deviceclasses"),
            on(
                "get list patch update watch",
                "resource.k8s.io",
                "resourceclaims",
            ),
            on(
                "get list patch update watch",
                "resource.k8s.io",
                "resourceclaims/status",
            ),
            on("update", "core", "pods/finalizers"),
            on("get list watch", "resource.k8s.io", "resourceslices"),
            on("create delete", "resource.k8s.io", "resourceclaims"),
            on("get list watch", "resource.k8s.io", "devicetaintrules"),
            on("patch update", "resource.k8s.io", "resourceclaims/binding"),
        ],
    },
    RoleRow {
        name: "system:kubelet-api-admin",
        joins: "",
        gathers: "",
        rules: &[
            on("get list watch", "core", "nodes"),
            on("proxy", "core", "nodes"),
            on(
                "*",
                "core",
                "nodes/log nodes/metrics nodes/proxy nodes/stats",
            ),
            on("*", "core", "nodes/configz nodes/healthz nodes/pods"),
        ],
    },
    RoleRow {
        name: "system:monitoring",
        joins: "",
        gathers: "",
        rules: &[
            at(
                "get",
                "/flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz",
            ),
            on("get", "core", "nodes/metrics"),
        ],
    },
    RoleRow {
        name: "system:node",
        joins: "",
        gathers: "",
        rules: &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on(
                "create",
                "authorization.k8s.io",
                "localsubjectaccessreviews subjectaccessreviews",
            ),
            on("get list watch", "core", "services"),
            on("create get list watch", "core", "nodes"),
            on("patch update", "core", "nodes/status"),
            on("patch update", "core", "nodes"),
            EVENTS,
            on("get list watch", "core", "pods"),
            on("create delete", "core", "pods"),
            on("patch update", "core", "pods/status"),
            on("create", "core", "pods/eviction"),
            on("get list watch", "core", "configmaps secrets"),
            on("get", "core", "persistentvolumeclaims persistentvolumes"),
            on("get", "core", "endpoints"),
            on(
                "create get list watch",
                "certificates.k8s.io",
                "certificatesigningrequests",
            ),
            on(
                "create delete get patch update",
                "coordination.k8s.io",
                "leases",
            ),
            on("get", "storage.k8s.io", "volumeattachments"),
            on("create", "core", "serviceaccounts/token"),
            on("get patch update", "core", "persistentvolumeclaims/status"),
            on("get list watch", "storage.k8s.io", "csidrivers"),
            on(
                "create delete get patch update",
                "storage.k8s.io",
                "csinodes",
            ),
            on("get list watch", "node.k8s.io", "runtimeclasses"),
            on("get", "resource.k8s.io", "resourceclaims"),
            on("deletecollection", "resource.k8s.io", "resourceslices"),
            on(
                "get list watch",
                "certificates.k8s.io",
                "clustertrustbundles",
            ),
            on("get", "core", "serviceaccounts"),
            on(
                "create get list watch",
                "certificates.k8s.io",
                "podcertificaterequests",
            ),
        ],
    },
    RoleRow {
        name: "system:node-bootstrapper",
        joins: "",
        gathers: "",
        rules: &[on(
            "create get list watch",
            "certificates.k8s.io",
            "certificatesigningrequests",
        )],
    },
    RoleRow {
        name: "system:node-problem-detector",
        joins: "",
        gathers: "",
        rules: &[
            on("get", "core", "nodes"),
            on("patch", "core", "nodes/status"),
            EVENTS,
        ],
    },
    RoleRow {
        name: "system:node-proxier",
        joins: "",
        gathers: "",
        rules: &[
            on("list watch", "core", "endpoints services"),
            on("get list watch", "core", "nodes"),
            EVENTS,
            on("list watch", "networking.k8s.io", "servicecidrs"),
            on("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    },
    RoleRow {
        name: "system:persistent-volume-provisioner",
        joins: "",
        gathers: "",
        rules: &[
            on("create delete get list watch", "core", "persistentvolumes"),
            on("get list update watch", "core", "persistentvolumeclaims"),
            on("get list watch", "storage.k8s.io", "storageclasses"),
            on("watch", "core", "events"),
            EVENTS,
        ],
    },
    RoleRow {
        name: "system:public-info-viewer",
        joins: "",
        gathers: "",
        rules: &[at("get", "/healthz /livez /readyz /version /version/")],
    },
    RoleRow {
        name: "system:service-account-issuer-discovery",
        joins: "",
        gathers: "",
        rules: &[at(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    },
    // Not one of upstream's, where whoever checks the types of policies reads the OpenAPI documents.
    RoleRow {
        name: "system:validatingadmissionpolicy-type-checker",
        joins: "",
        gathers: "",
        rules: &[on(
            "get",
            "apiextensions.k8s.io",
            "customresourcedefinitions",
        )],
    },
    RoleRow {
        name: "system:volume-scheduler",
        joins: "",
        gathers: "",
        rules: &[
            on("get list patch update watch", "core", "persistentvolumes"),
            on("get list watch", "storage.k8s.io", "storageclasses"),
            on(
                "get list patch update watch",
                "core",
                "persistentvolumeclaims",
            ),
        ],
    },
    RoleRow {
        name: "view",
        joins: "edit",
        gathers: "view",
        rules: &[],
    },
];

/// Roles inside namespaces: namespace, name, rules.
pub(super) const ROLES: &[(&str, &str, &[RuleRow])] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[
            on("get list watch", "core", "configmaps"),
            named("update", "core", "configmaps", "cluster-info"),
            EVENTS,
        ],
    ),
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &[named(
            "get list watch",
            "core",
            "configmaps",
            "extension-apiserver-authentication",
        )],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &[
            on(
                "create get list update watch",
                "coordination.k8s.io",
                "leases",
            ),
            on(
                "create get list update watch",
                "coordination.k8s.io",
                "leasecandidates",
            ),
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &[
            on(
                "create get list update watch",
                "coordination.k8s.io",
                "leases",
            ),
            on(
                "create get list update watch",
                "coordination.k8s.io",
                "leasecandidates",
            ),
        ],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        &[on("get list watch", "core", "secrets")],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        &[on("create get list watch", "core", "configmaps")],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[on("delete get list watch", "core", "secrets"), EVENTS],
    ),
];
