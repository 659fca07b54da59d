//! The checks that the level `restricted` has beyond `baseline`: current hardening practice.

use serde_json::Value;

use super::baseline;
use super::checks::{Pod, Refusal, Texts, containers, items, join, plural, setters, text};

/// Validation refuses these fields for pods of Windows, so that nothing can be asked of them.
fn unless_windows(pod: Pod, check: impl FnOnce(Pod) -> Option<Refusal>) -> Option<Refusal> {
    match pod.is_windows() {
        true => None,
        false => check(pod),
    }
}

/// Root of a pod with users of its own is nobody on the node.
fn unless_own_users(pod: Pod, check: impl FnOnce(Pod) -> Option<Refusal>) -> Option<Refusal> {
    match pod.has_own_users() {
        true => None,
        false => check(pod),
    }
}

pub(super) fn escalation(pod: Pod) -> Option<Refusal> {
    let names = pod.named(|c| c["securityContext"]["allowPrivilegeEscalation"] != false);
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    let detail = format!("{who} must set securityContext.allowPrivilegeEscalation=false");
    Refusal::new("allowPrivilegeEscalation != false", detail)
}

pub(super) fn escalation_25(pod: Pod) -> Option<Refusal> {
    unless_windows(pod, escalation)
}

pub(super) fn capabilities(pod: Pod) -> Option<Refusal> {
    let keeping = pod.named(|container| {
        let mut dropped = items(&container["securityContext"]["capabilities"], "drop");
        !dropped.any(|one| one == "ALL")
    });
    let mut added = Texts::new();
    let adding = pod.named(|container| {
        let all = items(&container["securityContext"]["capabilities"], "add").map(text);
        let bad: Vec<&str> = all.filter(|c| *c != "NET_BIND_SERVICE").collect();
        added.extend(&bad);
        !bad.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = containers(&keeping);
        details.push(format!(
            r#"{who} must set securityContext.capabilities.drop=["ALL"]"#
        ));
    }
    if !adding.is_empty() {
        let (who, what) = (containers(&adding), join(added));
        let why = format!("{who} must not include {what} in securityContext.capabilities.add");
        details.push(why);
    }
    match details.is_empty() {
        true => None,
        false => Refusal::new("unrestricted capabilities", details.join("; ")),
    }
}

pub(super) fn capabilities_25(pod: Pod) -> Option<Refusal> {
    unless_windows(pod, capabilities)
}

/// Volumes that hold what the API knows or the pod's own data.
const GOOD_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

const BAD_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn volumes(pod: Pod) -> Option<Refusal> {
    let mut kinds = Texts::new();
    let mut names = Vec::new();
    for volume in items(pod.spec, "volumes") {
        let is = |kind: &&str| !volume[*kind].is_null();
        if GOOD_VOLUMES.iter().any(is) {
            continue;
        }
        names.push(text(&volume["name"]));
        let kind = BAD_VOLUMES.iter().find(|kind| is(kind));
        kinds.insert(kind.copied().unwrap_or("unknown"));
    }
    if names.is_empty() {
        return None;
    }
    let what = plural("volume", "volumes", names.len());
    let use_ = plural("uses", "use", names.len());
    let of = plural(
        "restricted volume type",
        "restricted volume types",
        kinds.len(),
    );
    let detail = format!("{what} {} {use_} {of} {}", join(names), join(kinds));
    Refusal::new("restricted volume types", detail)
}

pub(super) fn non_root(pod: Pod) -> Option<Refusal> {
    const REASON: &str = "runAsNonRoot != true";
    let says = |of: &Value| of["securityContext"]["runAsNonRoot"].as_bool();
    let on_pod = says(pod.spec);
    let wrong = pod.named(|container| says(container) == Some(false));
    if let Some(who) = setters(on_pod == Some(false), &wrong) {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return Refusal::new(REASON, detail);
    }
    let silent = pod.named(|container| says(container).is_none() && on_pod.is_none());
    if silent.is_empty() {
        return None;
    }
    let who = containers(&silent);
    Refusal::new(
        REASON,
        format!("pod or {who} must set securityContext.runAsNonRoot=true"),
    )
}

pub(super) fn non_root_35(pod: Pod) -> Option<Refusal> {
    unless_own_users(pod, non_root)
}

pub(super) fn user(pod: Pod) -> Option<Refusal> {
    let root = |of: &Value| of["securityContext"]["runAsUser"] == 0;
    let who = setters(root(pod.spec), &pod.named(root))?;
    Refusal::new("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

pub(super) fn user_35(pod: Pod) -> Option<Refusal> {
    unless_own_users(pod, user)
}

pub(super) fn seccomp(pod: Pod) -> Option<Refusal> {
    let refused = baseline::seccomp(pod);
    if refused.is_some() {
        return refused;
    }
    let silent = |of: &Value| of["securityContext"]["seccompProfile"].is_null();
    let names = pod.named(|container| silent(container) && silent(pod.spec));
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    let detail = format!(
        r#"pod or {who} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#
    );
    Refusal::new("seccompProfile", detail)
}

pub(super) fn seccomp_25(pod: Pod) -> Option<Refusal> {
    unless_windows(pod, seccomp)
}
