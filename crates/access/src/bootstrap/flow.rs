//! The flow schemas and priority levels that every cluster has.
//!
//! Facts: `k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap`.

use machinery::Object;
use serde_json::{Value, json};

use super::object;

const VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
/// Specifications with this annotation are kept as the program has them.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const CONTROLLERS: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

/// (name, shares, lendable percent, (queues, hand size) or none to reject).
type Level = (&'static str, i32, i32, Option<(i32, i32)>);

const LEVELS: &[Level] = &[
    ("catch-all", 5, 0, None),
    ("global-default", 20, 50, Some((128, 6))),
    ("leader-election", 10, 0, Some((16, 4))),
    ("node-high", 40, 25, Some((64, 6))),
    ("system", 30, 33, Some((64, 6))),
    ("workload-high", 40, 50, Some((128, 6))),
    ("workload-low", 100, 90, Some((128, 6))),
];

/// All of them, the levels first.
pub(super) fn objects() -> Vec<Object> {
    let exempt = json!({
        "type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0},
    });
    let mut out = vec![made("PriorityLevelConfiguration", "exempt", &exempt)];
    out.extend(LEVELS.iter().map(level));
    out.extend(schemas());
    out
}

fn made(kind: &str, name: &str, spec: &Value) -> Object {
    let metadata = json!({"name": name, "annotations": {AUTO_UPDATE: "true"}});
    object(VERSION, kind, metadata, json!({"spec": spec}))
}

fn level((name, shares, lendable, queues): &Level) -> Object {
    let response = match queues {
        None => json!({"type": "Reject"}),
        Some((queues, hand)) => json!({"type": "Queue", "queuing": {
            "queues": queues, "handSize": hand, "queueLengthLimit": 50,
        }}),
    };
    let spec = json!({"type": "Limited", "limited": {
        "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response,
    }});
    made("PriorityLevelConfiguration", name, &spec)
}

fn schema(name: &str, level: &str, precedence: i32, by: &str, rule: &Value) -> Object {
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
        "rules": [rule],
    });
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({"type": by});
    }
    made("FlowSchema", name, &spec)
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn accounts_of_the_system() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}})
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({
        "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"],
    });
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

/// Everything that these ask for.
fn all_of(subjects: &[Value]) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn schemas() -> Vec<Object> {
    let everybody = [
        group("system:unauthenticated"),
        group("system:authenticated"),
    ];
    let probes = json!({
        "subjects": everybody,
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    });
    let leases = |verbs: &[&str]| resources(verbs, "coordination.k8s.io", &["leases"], false);
    let election = json!({
        "subjects": [user(CONTROLLERS), user(SCHEDULER), accounts_of_the_system()],
        "resourceRules": [leases(&["get", "create", "update"])],
    });
    let nodes = json!({
        "subjects": [group("system:nodes")],
        "resourceRules": [
            resources(&["*"], "", &["nodes", "nodes/status"], true), leases(&["*"]),
        ],
    });
    let (user_, space) = ("ByUser", "ByNamespace");
    let masters = all_of(&[group("system:masters")]);
    let of_nodes = all_of(&[group("system:nodes")]);
    let of_system = all_of(&[accounts_of_the_system()]);
    let of_accounts = all_of(&[group("system:serviceaccounts")]);
    let of_controllers = all_of(&[user(CONTROLLERS)]);
    let of_scheduler = all_of(&[user(SCHEDULER)]);
    let of_all = all_of(&everybody);
    vec![
        schema("exempt", "exempt", 1, "", &masters),
        schema("catch-all", "catch-all", 10_000, user_, &of_all),
        schema("probes", "exempt", 2, "", &probes),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            user_,
            &election,
        ),
        schema("system-node-high", "node-high", 400, user_, &nodes),
        schema("system-nodes", "system", 500, user_, &of_nodes),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            space,
            &of_controllers,
        ),
        schema("kube-scheduler", "workload-high", 800, space, &of_scheduler),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            space,
            &of_system,
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            user_,
            &of_accounts,
        ),
        schema("global-default", "global-default", 9900, user_, &of_all),
    ]
}
