//! What may change in a pod, through which door.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, NodeAffinity, NodeSelectorTerm, Pod, PodSpec, PodStatus,
    ResourceRequirements, Toleration,
};
use machinery::{ErrorList, Path, names};
use serde_json::Value;

use super::identity::MIRROR;
use crate::check::{self, ErrorListExt, same};
use crate::core::pod::qos;
use crate::view::{Items, OrEmpty};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be \
    set to 1 if it was previously negative)";
const NOT_BACK: &str = "may not be transitioned to non-terminated state";
const ONLY_COMPUTE: &str = "only cpu and memory resources are mutable";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

fn specs<'a>(new: &'a Pod, old: &'a Pod, empty: &'a PodSpec) -> (&'a PodSpec, &'a PodSpec) {
    (
        new.spec.as_ref().unwrap_or(empty),
        old.spec.as_ref().unwrap_or(empty),
    )
}

/// A write to the pod itself.
pub(crate) fn main(new: &Pod, old: &Pod) -> ErrorList {
    let empty = PodSpec::default();
    let (spec, before) = specs(new, old, &empty);
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    super::metadata_and_spec(&mut errors, new, Some(before));
    annotations(&mut errors, new, old);
    let lists = [
        ("containers", &spec.containers[..], &before.containers[..]),
        (
            "initContainers",
            spec.init_containers.items(),
            before.init_containers.items(),
        ),
    ];
    for (key, new, old) in lists {
        if !images(&mut errors, &path.child(key), new, old) {
            return errors;
        }
    }
    if !deadline(
        &mut errors,
        &path.child("activeDeadlineSeconds"),
        spec,
        before,
    ) {
        return errors;
    }
    let at = path.child("tolerations");
    added_tolerations(
        &mut errors,
        &at,
        spec.tolerations.items(),
        before.tolerations.items(),
    );
    deleted_gates(&mut errors, &path.child("schedulingGates"), spec, before);
    if same(spec, before) {
        return errors;
    }
    let mut munged = spec.clone();
    munge(&mut munged, before);
    if !before.scheduling_gates.items().is_empty() {
        gated(&mut errors, &path, &mut munged, before);
    }
    if !same(&munged, before) {
        let difference = diff(&check::json(before), &check::json(&munged));
        let detail =
            format!("pod updates may not change fields other than {UPDATABLE}\n{difference}");
        errors.forbidden(&path, detail);
    }
    errors
}

/// Annotations that are settled when the pod is made.
fn annotations(errors: &mut ErrorList, new: &Pod, old: &Pod) {
    let path = Path::new("metadata").child("annotations");
    let get = |pod: &Pod, key: &str| pod.metadata.annotations.as_ref()?.get(key).cloned();
    for (key, value) in old.metadata.annotations.iter().flatten() {
        if get(new, key).as_ref() == Some(value) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(
                &path.key(key),
                "may not remove or update AppArmor annotations",
            );
        }
        if key == MIRROR {
            errors.forbidden(
                &path.key(key),
                "may not remove or update mirror pod annotation",
            );
        }
    }
    for key in new
        .metadata
        .annotations
        .iter()
        .flatten()
        .map(|(key, _)| key)
    {
        if get(old, key).is_some() {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
}

/// Whether the lists have the same length, so that a comparison by position makes sense.
fn images(errors: &mut ErrorList, path: &Path, new: &[Container], old: &[Container]) -> bool {
    if new.len() != old.len() {
        errors.forbidden(path, "pod updates may not add or remove containers");
        return false;
    }
    for (i, container) in new.iter().enumerate() {
        let at = path.index(i).child("image");
        let image = container.image.text();
        errors.required_text(&at, image, "");
        if image.trim().len() != image.len() {
            errors.invalid(&at, image, "must not have leading or trailing whitespace");
        }
    }
    true
}

/// The deadline may be set, and may come nearer. Whether anything else is worth looking at.
fn deadline(errors: &mut ErrorList, path: &Path, new: &PodSpec, old: &PodSpec) -> bool {
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(seconds), before) => {
            let messages = names::in_range(seconds, 0, i64::from(i32::MAX));
            let out_of_range = !messages.is_empty();
            messages
                .into_iter()
                .for_each(|m| errors.invalid(path, seconds, m));
            let later = before.is_some_and(|b| b < seconds);
            if later && !out_of_range {
                errors.invalid(
                    path,
                    seconds,
                    "must be less than or equal to previous value",
                );
            }
            !later && !out_of_range
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.invalid(path, Value::Null, detail);
            true
        }
        (None, None) => true,
    }
}

fn added_tolerations(errors: &mut ErrorList, path: &Path, new: &[Toleration], old: &[Toleration]) {
    let kept = |old: &Toleration| {
        new.iter().any(|new| {
            let seconds = new.toleration_seconds;
            Toleration {
                toleration_seconds: seconds,
                ..old.clone()
            } == *new
        })
    };
    if !old.iter().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        return errors.forbidden(path, detail);
    }
    super::tolerations(errors, path, new);
}

fn deleted_gates(errors: &mut ErrorList, path: &Path, new: &PodSpec, old: &PodSpec) {
    let before = old.scheduling_gates.items();
    for (i, gate) in new.scheduling_gates.items().iter().enumerate() {
        if !before.contains(gate) {
            let name = &gate.name;
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(i).child("name"), detail);
        }
    }
}

/// Puts the old value over everything that may change.
fn munge(new: &mut PodSpec, old: &PodSpec) {
    for (new, old) in new.containers.iter_mut().zip(&old.containers) {
        new.image.clone_from(&old.image);
    }
    let init = new.init_containers.iter_mut().flatten();
    for (new, old) in init.zip(old.init_containers.items()) {
        new.image.clone_from(&old.image);
    }
    new.active_deadline_seconds = old.active_deadline_seconds;
    new.scheduling_gates.clone_from(&old.scheduling_gates);
    new.tolerations.clone_from(&old.tolerations);
    let negative = old.termination_grace_period_seconds.is_some_and(|s| s < 0);
    if negative && new.termination_grace_period_seconds == Some(1) {
        new.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
}

/// A pod behind a gate may still be narrowed to fewer nodes.
fn gated(errors: &mut ErrorList, path: &Path, new: &mut PodSpec, old: &PodSpec) {
    if !same(&new.node_selector, &old.node_selector) {
        let get = |key: &String| new.node_selector.as_ref()?.get(key);
        let kept = old
            .node_selector
            .iter()
            .flatten()
            .all(|(k, v)| get(k) == Some(v));
        if !kept {
            let detail =
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            let shown = check::json(&new.node_selector);
            errors.invalid(&path.child("nodeSelector"), shown, detail);
        }
        new.node_selector.clone_from(&old.node_selector);
    }
    let before = old.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let now = new.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    if same(&now, &before) {
        return;
    }
    node_affinity(
        errors,
        &path.child("affinity").child("nodeAffinity"),
        now,
        before,
    );
    match &mut new.affinity {
        None => {
            new.affinity = before.map(|b| k8s_openapi::api::core::v1::Affinity {
                node_affinity: Some(b.clone()),
                ..Default::default()
            });
        }
        Some(a) if old.affinity.is_none() => {
            a.node_affinity = None;
            if a.pod_affinity.is_none() && a.pod_anti_affinity.is_none() {
                new.affinity = None;
            }
        }
        Some(a) => a.node_affinity = before.cloned(),
    }
}

fn terms(affinity: Option<&NodeAffinity>) -> Option<&[NodeSelectorTerm]> {
    let required = affinity?
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    Some(&required.node_selector_terms)
}

fn node_affinity(
    errors: &mut ErrorList,
    path: &Path,
    new: Option<&NodeAffinity>,
    old: Option<&NodeAffinity>,
) {
    let Some(before) = terms(old).filter(|terms| !terms.is_empty()) else {
        return;
    };
    let now = terms(new).unwrap_or_default();
    let path = path
        .child("requiredDuringSchedulingIgnoredDuringExecution")
        .child("nodeSelectorTerms");
    if now.len() != before.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return errors.invalid(&path, check::json(&now), detail);
    }
    for (i, (new, old)) in now.iter().zip(before).enumerate() {
        let was_empty =
            old.match_expressions.items().is_empty() && old.match_fields.items().is_empty();
        let is_empty =
            new.match_expressions.items().is_empty() && new.match_fields.items().is_empty();
        let grown = new
            .match_expressions
            .items()
            .starts_with(old.match_expressions.items())
            && new
                .match_fields
                .items()
                .starts_with(old.match_fields.items());
        if (was_empty && !is_empty) || !grown {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.invalid(&path.index(i), check::json(new), detail);
        }
    }
}

/// A write to `ephemeralcontainers`: additions only.
pub(crate) fn ephemeral_containers(new: &Pod, old: &Pod) -> ErrorList {
    let empty = PodSpec::default();
    let (spec, before) = specs(new, old, &empty);
    let mut errors = ErrorList::new();
    if old
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|a| a.contains_key(MIRROR))
    {
        errors.forbidden(
            &Path::new(""),
            "static pods do not support ephemeral containers",
        );
        return errors;
    }
    super::metadata_and_spec(&mut errors, new, Some(before));
    annotations(&mut errors, new, old);
    let path = Path::new("spec").child("ephemeralContainers");
    for was in before.ephemeral_containers.items() {
        let found = spec
            .ephemeral_containers
            .items()
            .iter()
            .find(|c| c.name == was.name);
        let name = &was.name;
        match found {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.forbidden(&path, detail);
            }
            Some(is) if !same(is, was) => {
                let difference = diff(&check::json(was), &check::json(is));
                let detail = format!(
                    "existing ephemeral containers {name:?} may not be changed\n{difference}"
                );
                errors.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
    errors
}

/// A write to `resize`: CPU and memory of containers, and nothing that changes the pod's class.
pub(crate) fn resize(new: &Pod, old: &Pod) -> ErrorList {
    let empty = PodSpec::default();
    let (spec, before) = specs(new, old, &empty);
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    if old
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|a| a.contains_key(MIRROR))
    {
        errors.forbidden(&Path::new(""), "static pods cannot be resized");
        return errors;
    }
    if before.os.as_ref().is_some_and(|os| os.name == "windows") {
        errors.forbidden(&Path::new(""), "windows pods cannot be resized");
        return errors;
    }
    super::metadata_and_spec(&mut errors, new, Some(before));
    let class = old.status.as_ref().map_or("", |s| s.qos_class.text());
    let class = if class.is_empty() {
        qos::class(before)
    } else {
        class
    };
    if class != qos::class(spec) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        let shown = new.status.as_ref().map_or("", |s| s.qos_class.text());
        errors.invalid(&path, shown, detail);
    }
    let lists = [
        ("containers", &spec.containers[..], &before.containers[..]),
        (
            "initContainers",
            spec.init_containers.items(),
            before.init_containers.items(),
        ),
    ];
    let ordered = lists.iter().fold(true, |ordered, (key, new, old)| {
        same_order(&mut errors, &path, key, new, old) && ordered
    });
    if !ordered {
        return errors;
    }
    for (key, new, old) in lists {
        for (i, (new, old)) in new.iter().zip(old).enumerate() {
            let at = path.child(key).index(i);
            one_resize(&mut errors, &path, &at, new, old, key == "initContainers");
        }
    }
    if !same(&spec.volumes, &before.volumes) {
        let detail = "volumes are immutable on resize when InPlacePodVerticalScalingMemoryBackedVolumes feature gate is disabled";
        errors.forbidden(&path.child("volumes"), detail);
    }
    errors
}

fn same_order(
    errors: &mut ErrorList,
    path: &Path,
    key: &str,
    new: &[Container],
    old: &[Container],
) -> bool {
    let path = path.child(key);
    if new.len() != old.len() {
        errors.forbidden(
            &path,
            format!("{key} may not be added or removed on resize"),
        );
        return false;
    }
    let mut ordered = true;
    for (i, (new, old)) in new.iter().zip(old).enumerate() {
        if new.name != old.name {
            let detail = "containers may not be renamed or reordered on resize";
            let detail = if key == "containers" {
                detail.to_owned()
            } else {
                format!("initC{}", &detail[1..])
            };
            errors.forbidden(&path.index(i).child("name"), detail);
            ordered = false;
        }
    }
    ordered
}

fn one_resize(
    errors: &mut ErrorList,
    spec_path: &Path,
    path: &Path,
    new: &Container,
    old: &Container,
    init: bool,
) {
    let empty = ResourceRequirements::default();
    let (now, was) = (
        new.resources.as_ref().unwrap_or(&empty),
        old.resources.as_ref().unwrap_or(&empty),
    );
    let sidecar = new.restart_policy.text() == "Always";
    if init && !sidecar {
        if !same(new, old) {
            let detail = "resources for non-sidecar init containers are immutable";
            errors.forbidden(spec_path, detail);
        }
        return;
    }
    let at = path.child("resources");
    let lists = [
        ("requests", &now.requests, &was.requests),
        ("limits", &now.limits, &was.limits),
    ];
    for (key, now, was) in lists {
        let kept = |name: &String| now.as_ref().is_some_and(|list| list.contains_key(name));
        let gone = was.iter().flatten().any(|(name, _)| !kept(name));
        if gone {
            let detail = format!("resource {key} cannot be removed");
            errors.forbidden(&at.child(key), detail);
        }
    }
    let mut compared = new.clone();
    let mut fixed = now.clone();
    for (list, was) in [
        (&mut fixed.limits, &was.limits),
        (&mut fixed.requests, &was.requests),
    ] {
        let list = list.get_or_insert_default();
        for name in ["cpu", "memory"] {
            match was.as_ref().and_then(|w| w.get(name)) {
                Some(amount) => drop(list.insert(name.into(), amount.clone())),
                None => drop(list.remove(name)),
            }
        }
    }
    compared.resources = Some(fixed);
    compared.resize_policy.clone_from(&old.resize_policy);
    if !same(&compared, old) {
        if init {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.forbidden(path, detail);
        } else {
            errors.forbidden(spec_path, ONLY_COMPUTE);
        }
    }
}

/// A write to `status`.
pub(crate) fn status(new: &Pod, old: &Pod) -> ErrorList {
    let (empty, none) = (PodSpec::default(), PodStatus::default());
    let (spec, before) = specs(new, old, &empty);
    let (now, was) = (
        new.status.as_ref().unwrap_or(&none),
        old.status.as_ref().unwrap_or(&none),
    );
    let path = Path::new("status");
    let mut errors = ErrorList::new();
    annotations(&mut errors, new, old);
    for (i, condition) in now.conditions.items().iter().enumerate() {
        let at = path.child("conditions").index(i);
        if condition.observed_generation.is_some_and(|g| g < 0) {
            let detail = "must be a non-negative integer";
            errors.invalid(
                &at.child("observedGeneration"),
                condition.observed_generation,
                detail,
            );
        }
        if !matches!(
            condition.type_.as_str(),
            "PodScheduled" | "Ready" | "Initialized"
        ) {
            check::label_name(&mut errors, &at.child("Type"), &condition.type_);
        }
    }
    if spec.node_name.text() != before.node_name.text() {
        errors.forbidden(&path.child("nodeName"), "may not be changed directly");
    }
    nomination(
        &mut errors,
        &path.child("nominatedNodeName"),
        now,
        was,
        before,
    );
    if let Some(generation) = now.observed_generation.filter(|g| *g < 0) {
        let detail = "must be a non-negative integer";
        errors.invalid(&path.child("observedGeneration"), generation, detail);
    }
    errors.immutable(
        &path.child("qosClass"),
        &now.qos_class.text(),
        &was.qos_class.text(),
    );
    transitions(&mut errors, &path, now, was, before);
    let ips: Vec<&str> = now
        .pod_ips
        .items()
        .iter()
        .map(|ip| ip.ip.as_str())
        .collect();
    let known: Vec<&str> = was
        .pod_ips
        .items()
        .iter()
        .map(|ip| ip.ip.as_str())
        .collect();
    addresses(&mut errors, &path.child("podIPs"), &ips, &known);
    pod_ip(&mut errors, &path.child("podIPs"), now, &ips);
    let ips: Vec<&str> = now
        .host_ips
        .items()
        .iter()
        .map(|ip| ip.ip.as_str())
        .collect();
    let known: Vec<&str> = was
        .host_ips
        .items()
        .iter()
        .map(|ip| ip.ip.as_str())
        .collect();
    if ips
        .first()
        .is_some_and(|first| now.host_ip.text() != *first)
    {
        let at = path.child("hostIPs").index(0).child("ip");
        errors.invalid(&at, ips[0], "must be equal to `hostIP`");
    }
    addresses(&mut errors, &path.child("hostIPs"), &ips, &known);
    errors
}

fn nomination(
    errors: &mut ErrorList,
    path: &Path,
    now: &PodStatus,
    was: &PodStatus,
    spec: &PodSpec,
) {
    let name = now.nominated_node_name.text();
    if name.is_empty() || name == was.nominated_node_name.text() {
        return;
    }
    super::object_name(errors, path, name);
    if !spec.node_name.text().is_empty() {
        errors.forbidden(
            path,
            "may not be set on pods that are already bound to a node",
        );
    }
}

fn transitions(
    errors: &mut ErrorList,
    path: &Path,
    now: &PodStatus,
    was: &PodStatus,
    spec: &PodSpec,
) {
    let all_restart = spec
        .containers
        .iter()
        .chain(spec.init_containers.items())
        .any(|c| {
            c.restart_policy_rules
                .items()
                .iter()
                .any(|r| r.action == "RestartAllContainers")
        });
    let groups = [
        (
            "containerStatuses",
            &now.container_statuses,
            &was.container_statuses,
        ),
        (
            "initContainerStatuses",
            &now.init_container_statuses,
            &was.init_container_statuses,
        ),
        (
            "ephemeralContainerStatuses",
            &now.ephemeral_container_statuses,
            &was.ephemeral_container_statuses,
        ),
    ];
    for (key, now, was) in groups {
        let ephemeral = key.starts_with("ephemeral");
        if all_restart && !ephemeral {
            continue;
        }
        let containers = match key {
            "containerStatuses" => &spec.containers[..],
            _ => spec.init_containers.items(),
        };
        for (i, was) in was.items().iter().enumerate() {
            let Some(exit_code) = exit_code(was) else {
                continue;
            };
            let is = now.items().iter().find(|s| s.name == was.name);
            if is.is_none_or(|s| self::exit_code(s).is_some()) {
                continue;
            }
            let container = containers.iter().find(|c| c.name == was.name);
            let may = !ephemeral && container.is_some_and(|c| should_restart(c, spec, exit_code));
            if !may {
                errors.forbidden(&path.child(key).index(i).child("state"), NOT_BACK);
            }
        }
    }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// Whether a container that ended with this code runs again: its rules, its policy, the pod's policy, in this order.
fn should_restart(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.items() {
        let Some(codes) = &rule.exit_codes else {
            continue;
        };
        let listed = codes.values.items().contains(&exit_code);
        if listed == (codes.operator == "In") {
            return true;
        }
    }
    let policy = match container.restart_policy.text() {
        "" => spec.restart_policy.text(),
        own => own,
    };
    match policy {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

fn addresses(errors: &mut ErrorList, path: &Path, ips: &[&str], known: &[&str]) {
    for (i, ip) in ips.iter().enumerate() {
        errors.invalid_each(
            &path.index(i),
            ip,
            names::legacy_ip(ip, !known.contains(ip)),
        );
    }
    let sixes = ips.iter().filter(|ip| ip.contains(':')).count();
    if ips.len() > 2 || (ips.len() == 2 && sixes != 1) {
        let shown: Vec<Value> = ips.iter().map(|ip| serde_json::json!({"ip": ip})).collect();
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid(path, shown, detail);
    }
}

fn pod_ip(errors: &mut ErrorList, path: &Path, status: &PodStatus, ips: &[&str]) {
    let ip = status.pod_ip.text();
    match ips.first() {
        first if first.is_some() == ip.is_empty() => {
            let detail = "podIP and podIPs must either both be set or both be unset";
            errors.invalid(path, check::json(&status.pod_ips), detail);
        }
        Some(first) if *first != ip => {
            errors.invalid(
                &path.index(0).child("ip"),
                *first,
                "must be equal to `podIP`",
            );
        }
        _ => {}
    }
}

/// The lines in which two trees differ, each with three lines around it, as `diff -u` shows them.
fn diff(old: &Value, new: &Value) -> String {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let (old, new) = (pretty(old), pretty(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (rest_old, rest_new) = (&old[head..], &new[head..]);
    let tail = rest_old
        .iter()
        .rev()
        .zip(rest_new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (gone, added) = (
        &rest_old[..rest_old.len() - tail],
        &rest_new[..rest_new.len() - tail],
    );
    let before = head.saturating_sub(3);
    let after = tail.min(3);
    let length = |changed: usize| head - before + changed + after;
    let mut out = format!(
        "@@ -{},{} +{},{} @@\n",
        before + 1,
        length(gone.len()),
        before + 1,
        length(added.len())
    );
    // Upstream indents by one space, serde_json by two.
    let trim = |line: &str| {
        let spaces = line.len() - line.trim_start().len();
        format!("{}{}", " ".repeat(spaces / 2), line.trim_start())
    };
    let groups: [(char, &[&str]); 4] = [
        (' ', &old[before..head]),
        ('-', gone),
        ('+', added),
        (' ', &rest_old[rest_old.len() - tail..][..after]),
    ];
    for (mark, lines) in groups {
        for line in lines {
            // Writing into a String has no way to fail.
            let _ = writeln!(out, "{mark}{}", trim(line));
        }
    }
    out
}
