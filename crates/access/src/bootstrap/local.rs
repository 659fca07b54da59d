//! The APIServices of what this server serves itself.
//!
//! Facts: `pkg/controlplane/apiserver/aggregator.go`, `cmd/kube-apiserver/app/aggregator.go`.

use machinery::Object;
use serde_json::json;

use super::object;

/// Says who keeps an APIService: `onstart` for what the program serves, `true` for custom kinds.
pub const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// (group, priority of the group).
const GROUPS: &[(&str, i32)] = &[
    ("", 18_000),
    ("admissionregistration.k8s.io", 16_700),
    ("apiextensions.k8s.io", 16_700),
    ("apps", 17_800),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("coordination.k8s.io", 16_500),
    ("discovery.k8s.io", 16_200),
    ("events.k8s.io", 17_750),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("internal.apiserver.k8s.io", 16_000),
    ("networking.k8s.io", 17_200),
    ("node.k8s.io", 16_300),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("resource.k8s.io", 16_200),
    ("scheduling.k8s.io", 16_600),
    ("storage.k8s.io", 16_800),
    ("storagemigration.k8s.io", 15_800),
];

/// The APIService of a group version that the program serves; none for one that says of itself who serves what.
pub fn api_service(group: &str, version: &str) -> Option<Object> {
    let (_, of_group) = GROUPS.iter().find(|(known, _)| *known == group)?;
    let of_version = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io" | "resource.k8s.io", "v1") => 21,
        (_, "v1") => 15,
        _ => 9,
    };
    Some(made(group, version, *of_group, of_version, "onstart"))
}

/// The APIService of a group version of custom kinds.
pub fn custom_api_service(group: &str, version: &str) -> Object {
    made(group, version, 1000, 100, "true")
}

fn made(group: &str, version: &str, of_group: i32, of_version: i32, kept: &str) -> Object {
    let metadata = json!({"name": format!("{version}.{group}"), "labels": {AUTOMANAGED: kept}});
    let mut spec = json!({
        "version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version,
    });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    object(
        "apiregistration.k8s.io/v1",
        "APIService",
        metadata,
        json!({"spec": spec}),
    )
}
