//! Environment variables and where their values come from.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, FileKeySelector, ObjectFieldSelector, PodSpec, ResourceFieldSelector,
};
use machinery::{ErrorList, Path, names};

use super::no_backsteps;
use crate::check::{self, ErrorListExt};
use crate::view::{Items, OrEmpty};
use crate::visit;

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// All that the downward API can name at all; a field outside is not even converted.
const CONVERTIBLE: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn variables(errors: &mut ErrorList, path: &Path, variables: &[EnvVar]) {
    for (i, variable) in variables.iter().enumerate() {
        let path = path.index(i);
        let at = path.child("name");
        if errors.required_text(&at, &variable.name, "") {
            let messages = names::relaxed_env_var_name(&variable.name);
            errors.invalid_each(&at, &variable.name, messages);
        }
        value_from(errors, &path.child("valueFrom"), variable);
    }
}

fn value_from(errors: &mut ErrorList, path: &Path, variable: &EnvVar) {
    let Some(from) = &variable.value_from else {
        return;
    };
    let mut sources = 0;
    if let Some(field) = &from.field_ref {
        sources += 1;
        object_field(errors, &path.child("fieldRef"), field, FIELDS);
    }
    if let Some(field) = &from.resource_field_ref {
        sources += 1;
        resource_field(errors, &path.child("resourceFieldRef"), field, false);
    }
    if let Some(key) = &from.config_map_key_ref {
        sources += 1;
        key_selector(errors, &path.child("configMapKeyRef"), &key.name, &key.key);
    }
    if let Some(key) = &from.secret_key_ref {
        sources += 1;
        key_selector(errors, &path.child("secretKeyRef"), &key.name, &key.key);
    }
    if let Some(key) = &from.file_key_ref {
        sources += 1;
        file_key(errors, &path.child("fileKeyRef"), key);
    }
    let detail = match sources {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if !variable.value.text().is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.invalid(path, "", detail);
}

pub(super) fn object_field(
    errors: &mut ErrorList,
    path: &Path,
    field: &ObjectFieldSelector,
    allowed: &[&str],
) {
    if !errors.required_text(&path.child("apiVersion"), field.api_version.text(), "")
        || !errors.required_text(&path.child("fieldPath"), &field.field_path, "")
    {
        return;
    }
    let at = path.child("fieldPath");
    let given = field.field_path.as_str();
    let whole = if given == "spec.host" {
        "spec.nodeName"
    } else {
        given
    };
    let subscripted = whole
        .strip_suffix("']")
        .and_then(|rest| rest.split_once("['"));
    let version = field.api_version.text();
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        return errors.invalid(&at, given, detail);
    }
    let convertible = match subscripted {
        Some((name, _)) => matches!(name, "metadata.annotations" | "metadata.labels"),
        None => CONVERTIBLE.contains(&whole),
    };
    if !convertible {
        let detail = match subscripted {
            Some((name, _)) => format!(
                "error converting fieldPath: field label does not support subscript: {name}"
            ),
            None => format!("error converting fieldPath: field label not supported: {given}"),
        };
        return errors.invalid(&at, given, detail);
    }
    match subscripted {
        Some(("metadata.annotations", key)) => check::label_name(errors, path, &key.to_lowercase()),
        Some((_, key)) => check::label_name(errors, path, key),
        None => errors.one_of(&at, whole, allowed),
    }
}

pub(super) fn resource_field(
    errors: &mut ErrorList,
    path: &Path,
    field: &ResourceFieldSelector,
    in_volume: bool,
) {
    let resource = field.resource.as_str();
    let huge =
        resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if in_volume && field.container_name.text().is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if errors.required_text(&path.child("resource"), resource, "") && !huge {
        errors.one_of(&path.child("resource"), resource, RESOURCES);
    }
    let Some(divisor) = &field.divisor else {
        return;
    };
    let Some(divisor) = crate::core::resources::parse(errors, &path.child("divisor"), divisor)
    else {
        return;
    };
    if divisor.is_zero() {
        return;
    }
    let binary = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    let (allowed, what) = match resource {
        "limits.cpu" | "requests.cpu" => ("1m, 1", "cpu"),
        "limits.memory" | "requests.memory" => (binary, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (binary, "local ephemeral storage")
        }
        _ if huge => (binary, "hugepages"),
        _ => return,
    };
    let text = divisor.to_string();
    if !allowed.split(", ").any(|a| a == text) {
        let shown = if what == "cpu" { "1m and 1" } else { allowed };
        let detail =
            format!("only divisor's values {shown} are supported with the {what} resource");
        errors.invalid(&path.child("divisor"), resource, detail);
    }
}

/// A key of a ConfigMap or a Secret.
pub(super) fn key_selector(errors: &mut ErrorList, path: &Path, name: &str, key: &str) {
    super::object_name(errors, &path.child("name"), name);
    if errors.required_text(&path.child("key"), key, "") {
        errors.invalid_each(&path.child("key"), key, names::config_map_key(key));
    }
}

fn file_key(errors: &mut ErrorList, path: &Path, file: &FileKeySelector) {
    if errors.required_text(&path.child("key"), &file.key, "") {
        errors.invalid_each(
            &path.child("key"),
            &file.key,
            names::relaxed_env_var_name(&file.key),
        );
    }
    let volume = &file.volume_name;
    if errors.required_text(&path.child("volumeName"), volume, "") {
        errors.invalid_each(
            &path.child("volumeName"),
            volume,
            names::dns1123_label(volume),
        );
    }
    if errors.required_text(&path.child("path"), &file.path, "") {
        no_backsteps(errors, &path.child("path"), &file.path);
    }
}

pub(super) fn from(errors: &mut ErrorList, path: &Path, sources: &[EnvFromSource]) {
    for (i, source) in sources.iter().enumerate() {
        let at = path.index(i);
        let prefix = source.prefix.text();
        if !prefix.is_empty() {
            errors.invalid_each(
                &at.child("prefix"),
                prefix,
                names::relaxed_env_var_name(prefix),
            );
        }
        let named = [
            (
                "configMapRef",
                source.config_map_ref.as_ref().map(|r| &r.name),
            ),
            ("secretRef", source.secret_ref.as_ref().map(|r| &r.name)),
        ];
        let mut count = 0;
        for (key, name) in named {
            let Some(name) = name else { continue };
            count += 1;
            let at = at.child(key).child("name");
            if errors.required_text(&at, name, "") {
                errors.invalid_each(&at, name, crate::kind::dns_subdomain(name, true));
            }
        }
        if count == 0 {
            errors.invalid(
                path,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            );
        } else if count > 1 {
            errors.invalid(
                path,
                "",
                "may not have more than one field specified at a time",
            );
        }
    }
}

/// Files with variables lie in an `emptyDir` of the pod.
pub(super) fn file_references(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    let volumes: BTreeMap<&str, bool> = spec
        .volumes
        .items()
        .iter()
        .map(|v| (v.name.as_str(), v.empty_dir.is_some()))
        .collect();
    for (at, container) in visit::containers_with_path(spec, path) {
        for (i, variable) in container.env().iter().enumerate() {
            let file = variable
                .value_from
                .as_ref()
                .and_then(|f| f.file_key_ref.as_ref());
            let Some(file) = file else { continue };
            let at = at
                .child("env")
                .index(i)
                .child("valueFrom")
                .child("fileKeyRef");
            let at = at.child("volumeName");
            match volumes.get(file.volume_name.as_str()) {
                None => errors.not_found(&at, file.volume_name.as_str()),
                Some(true) => {}
                Some(false) => {
                    let detail = "referenced volume must be of type emptyDir";
                    errors.invalid(&at, file.volume_name.as_str(), detail);
                }
            }
        }
    }
}
