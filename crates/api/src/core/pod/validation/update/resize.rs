//! A write to `resize`.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use machinery::{ErrorList, Path};

use super::{MIRROR, specs};
use crate::check::{self, same};
use crate::core::pod::qos;
use crate::core::pod::validation::metadata_and_spec;
use crate::view::{Items, OrEmpty};

const ONLY_COMPUTE: &str = "only cpu and memory resources are mutable";

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
        errors.forbidden(&check::whole(), "static pods cannot be resized");
        return errors;
    }
    if before.os.as_ref().is_some_and(|os| os.name == "windows") {
        errors.forbidden(&check::whole(), "windows pods cannot be resized");
        return errors;
    }
    metadata_and_spec(&mut errors, new, Some(before));
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
