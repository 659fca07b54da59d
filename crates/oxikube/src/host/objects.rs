//! What a cluster has in its API so that nodes can join: the token, the rights of those who come with one, and what they
//! read first. Names are kubeadm's where it has any, so that its documents apply.

use serde_json::{Value, json};

use super::ClusterFacts;
use super::token::Token;

/// The group of those who come with the server's own token.
const JOINING: &str = "system:bootstrappers:oxikube:default-node-token";
/// The ConfigMap with [`ClusterFacts`], in `kube-system`.
pub(super) const FACTS: &str = "oxikube-cluster";
/// Its one key.
pub(super) const FACTS_KEY: &str = "cluster.json";
const RBAC: &str = "rbac.authorization.k8s.io";

/// All of it. `url` is where the API is reached, `authority` (PEM) who has signed its certificate.
pub(super) fn objects(
    token: &Token,
    facts: &ClusterFacts,
    url: &str,
    authority: &str,
) -> Vec<Value> {
    let mut all = vec![
        secret(token),
        cluster_info(url, authority),
        facts_map(facts),
    ];
    all.extend(rights());
    all
}

fn secret(token: &Token) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": access::tokens::bootstrap::SECRET_TYPE,
        "metadata": {"name": format!("bootstrap-token-{}", token.id), "namespace": "kube-system"},
        "stringData": {
            "token-id": token.id, "token-secret": token.secret,
            "description": "The token of oxikube server, by which nodes join.",
            "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
            "auth-extra-groups": JOINING,
        },
    })
}

/// What anybody may read: where the API is and who signs for it. The bootstrap signer lets each token vouch for it.
fn cluster_info(url: &str, authority: &str) -> Value {
    use base64::Engine;
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster:\n    server: {url}\n    \
         certificate-authority-data: {authority}\ncontexts: null\nusers: null\n"
    );
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": kubeconfig},
    })
}

fn facts_map(facts: &ClusterFacts) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": FACTS, "namespace": "kube-system"},
        "data": {FACTS_KEY: json!(facts).to_string()},
    })
}

fn role(namespace: &str, name: &str, rules: &Value) -> Value {
    let mut role = json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": {"name": name},
        "rules": rules,
    });
    if !namespace.is_empty() {
        role["kind"] = "Role".into();
        role["metadata"]["namespace"] = namespace.into();
    }
    role
}

fn binding(namespace: &str, name: &str, role: &str, subject: &Value) -> Value {
    let (kind, role_kind) = match namespace {
        "" => ("ClusterRoleBinding", "ClusterRole"),
        _ => ("RoleBinding", "Role"),
    };
    let mut binding = json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": role_kind, "name": role},
        "subjects": [subject],
    });
    if !namespace.is_empty() {
        binding["metadata"]["namespace"] = namespace.into();
    }
    binding
}

fn rights() -> Vec<Value> {
    let group = |name: &str| json!({"kind": "Group", "apiGroup": RBAC, "name": name});
    let anonymous = json!({"kind": "User", "apiGroup": RBAC, "name": "system:anonymous"});
    let approver = json!({
        "kind": "ServiceAccount", "name": "kubelet-serving-approver", "namespace": "kube-system",
    });
    let requests =
        |part: &str| format!("system:certificates.k8s.io:certificatesigningrequests:{part}");
    let read = |name: &str| {
        json!([{
            "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"],
        }])
    };
    let certificates = "certificates.k8s.io";
    let approve = json!([
        {"apiGroups": [certificates], "verbs": ["update"],
         "resources": ["certificatesigningrequests/approval"]},
        {"apiGroups": [certificates], "verbs": ["approve"], "resources": ["signers"],
         "resourceNames": ["kubernetes.io/kubelet-serving"]},
    ]);
    let (info, facts, serving) = (
        "kubeadm:bootstrap-signer-clusterinfo",
        "oxikube:cluster-facts",
        "oxikube:kubelet-serving-approver",
    );
    let (joining, nodes) = (group(JOINING), group("system:nodes"));
    let joins = "kubeadm:node-autoapprove-bootstrap";
    let renews = "kubeadm:node-autoapprove-certificate-rotation";
    vec![
        binding(
            "",
            "kubeadm:kubelet-bootstrap",
            "system:node-bootstrapper",
            &joining,
        ),
        binding("", joins, &requests("nodeclient"), &joining),
        binding("", renews, &requests("selfnodeclient"), &nodes),
        // The service proxy of a node that has joined is the node to the API.
        binding("", "oxikube:node-proxier", "system:node-proxier", &nodes),
        role("kube-public", info, &read("cluster-info")),
        binding("kube-public", info, info, &anonymous),
        role("kube-system", facts, &read(FACTS)),
        binding("kube-system", facts, facts, &nodes),
        role("", serving, &approve),
        binding("", serving, serving, &approver),
    ]
}
