//! Volumes: names, exactly one source each, and what each source needs.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, EphemeralVolumeSource, KeyToPath, Volume};
use machinery::{ErrorList, Path, names};

use super::projected::projected;
use super::{Scope, env, local_non_reserved_path};
use crate::check::{self, ErrorListExt};
use crate::core::{persistentvolumeclaim, resources, volumes};
use crate::meta;
use crate::view::{Items, OrEmpty};
use crate::visit;

const ONE_TYPE: &str = "may not specify more than 1 volume type";
const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const DIRECTORY_MODE: &str = "must be a number between 0 and 01777 (octal), both inclusive";
const FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Returns the volumes without faults.
pub(super) fn all<'a>(errors: &mut ErrorList, path: &Path, scope: &Scope<'a>) -> Vec<&'a Volume> {
    let all = scope.spec.volumes.items();
    let mut good: Vec<&Volume> = Vec::new();
    for (i, volume) in all.iter().enumerate() {
        let at = path.index(i);
        let before = errors.0.len();
        source(errors, &at, volume, scope);
        let name = volume.name.as_str();
        if errors.required_text(&at.child("name"), name, "") {
            errors.invalid_each(&at.child("name"), name, names::dns1123_label(name));
        }
        if good.iter().any(|v| v.name == name) {
            errors.duplicate(&at.child("name"), name);
        }
        if errors.0.len() == before {
            good.push(volume);
        }
        let claim = volume
            .persistent_volume_claim
            .as_ref()
            .map(|c| c.claim_name.as_str());
        let made = |v: &Volume| {
            v.ephemeral.is_some()
                && Some(format!("{}-{}", scope.pod_name, v.name).as_str()) == claim
        };
        if !scope.pod_name.is_empty() && all.iter().any(made) {
            let at = at.child("persistentVolumeClaim").child("claimName");
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&at, claim.unwrap_or(""), detail);
        }
    }
    good
}

/// Tokens are those of a service account: a pod without one has none to project.
pub(super) fn no_tokens(errors: &mut ErrorList, path: &Path, volumes: &[Volume]) {
    for (i, volume) in volumes.iter().enumerate() {
        let sources = volume.projected.iter().flat_map(|p| p.sources.items());
        for (j, source) in sources.enumerate() {
            if source.service_account_token.is_some() {
                let at = path.index(i).child("projected").child("sources").index(j);
                let detail = "must not be specified when serviceAccountName is not set";
                errors.forbidden(&at.child("serviceAccountToken"), detail);
            }
        }
    }
}

fn source(errors: &mut ErrorList, path: &Path, volume: &Volume, scope: &Scope<'_>) {
    let sources = visit::volume_sources(volume);
    for other in sources.iter().skip(1) {
        errors.forbidden(&path.child(other), ONE_TYPE);
    }
    let Some(&first) = sources.first() else {
        return errors.required(path, "must specify a volume type");
    };
    let at = path.child(first);
    match first {
        "emptyDir" => empty_dir(errors, &at, volume),
        "hostPath" => host_path(errors, &at, volume),
        "secret" | "configMap" => keys(errors, &at, volume),
        "downwardAPI" => downward(errors, &at, volume),
        "projected" => {
            volume
                .projected
                .iter()
                .for_each(|p| projected(errors, &at, p));
        }
        "persistentVolumeClaim" => {
            let claim = volume
                .persistent_volume_claim
                .as_ref()
                .map_or("", |c| &c.claim_name);
            errors.required_text(&at.child("claimName"), claim, "");
        }
        "ephemeral" => {
            volume
                .ephemeral
                .iter()
                .for_each(|e| ephemeral(errors, &at, e));
            let claim = format!("{}-{}", scope.pod_name, volume.name);
            if !scope.pod_name.is_empty() && !volume.name.is_empty() {
                for message in names::dns1123_subdomain(&claim) {
                    let detail = format!("PVC name {claim:?}: {message}");
                    errors.invalid(&path.child("name"), volume.name.as_str(), detail);
                }
            }
        }
        "image" => {
            let Some(image) = &volume.image else { return };
            errors.required_text(&at.child("reference"), image.reference.text(), "");
            let policy = image.pull_policy.text();
            if errors.required_text(&at.child("pullPolicy"), policy, "") {
                let known = ["Always", "IfNotPresent", "Never"];
                errors.one_of(&at.child("pullPolicy"), policy, &known);
            }
        }
        _ => {
            let key = if first == "cephFS" { "cephfs" } else { first };
            let tree = check::json(volume);
            let Some(source) = tree.get(key) else { return };
            let owner = volumes::Owner::Pod(&volume.name);
            volumes::source(errors, path, first, source, owner);
        }
    }
}

pub(super) fn mode(errors: &mut ErrorList, path: &Path, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) {
        errors.invalid(path, mode, FILE_MODE);
    }
}

pub(super) fn user(errors: &mut ErrorList, path: &Path, user: Option<i64>) {
    if let Some(user) = user {
        for message in names::user_id(user) {
            errors.invalid(path, user, message);
        }
    }
}

fn empty_dir(errors: &mut ErrorList, path: &Path, volume: &Volume) {
    let Some(source) = &volume.empty_dir else {
        return;
    };
    if let Some(limit) = &source.size_limit {
        let at = path.child("sizeLimit");
        if resources::parse(errors, &at, limit).is_some_and(|q| q.signum() < 0) {
            errors.forbidden(&at, "SizeLimit field must be a valid resource quantity");
        }
    }
    if let Some(mode) = source.mode.filter(|m| !(0..=0o1777).contains(m)) {
        errors.invalid(&path.child("mode"), mode, DIRECTORY_MODE);
    }
}

fn host_path(errors: &mut ErrorList, path: &Path, volume: &Volume) {
    if let Some(source) = &volume.host_path {
        volumes::host_path(errors, path, &source.path, source.type_.text());
    }
}

fn keys(errors: &mut ErrorList, path: &Path, volume: &Volume) {
    let (key, name, default_mode, default_user, items) = match (&volume.secret, &volume.config_map)
    {
        (Some(s), _) => (
            "secretName",
            s.secret_name.text(),
            s.default_mode,
            s.default_user,
            &s.items,
        ),
        (_, Some(c)) => (
            "name",
            c.name.as_str(),
            c.default_mode,
            c.default_user,
            &c.items,
        ),
        _ => return,
    };
    errors.required_text(&path.child(key), name, "");
    mode(errors, &path.child("defaultMode"), default_mode);
    user(errors, &path.child("defaultUser"), default_user);
    for (i, item) in items.items().iter().enumerate() {
        key_to_path(errors, &path.child("items").index(i), item);
    }
}

pub(super) fn key_to_path(errors: &mut ErrorList, path: &Path, item: &KeyToPath) {
    errors.required_text(&path.child("key"), &item.key, "");
    errors.required_text(&path.child("path"), &item.path, "");
    local_non_reserved_path(errors, &path.child("path"), &item.path);
    mode(errors, &path.child("mode"), item.mode);
    user(errors, &path.child("user"), item.user);
}

fn downward(errors: &mut ErrorList, path: &Path, volume: &Volume) {
    let Some(source) = &volume.downward_api else {
        return;
    };
    mode(errors, &path.child("defaultMode"), source.default_mode);
    user(errors, &path.child("defaultUser"), source.default_user);
    for item in source.items.items() {
        downward_file(errors, path, item);
    }
}

pub(super) fn downward_file(errors: &mut ErrorList, path: &Path, file: &DownwardAPIVolumeFile) {
    errors.required_text(&path.child("path"), &file.path, "");
    local_non_reserved_path(errors, &path.child("path"), &file.path);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), other) => {
            env::object_field(errors, &path.child("fieldRef"), field, FIELDS);
            if other.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(path, "resource", detail);
            }
        }
        (None, Some(field)) => {
            env::resource_field(errors, &path.child("resourceFieldRef"), field, true);
        }
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(errors, &path.child("mode"), file.mode);
    user(errors, &path.child("user"), file.user);
}

fn ephemeral(errors: &mut ErrorList, path: &Path, source: &EphemeralVolumeSource) {
    let path = path.child("volumeClaimTemplate");
    let Some(template) = &source.volume_claim_template else {
        return errors.required(&path, "");
    };
    if let Some(metadata) = &template.metadata {
        meta::template(errors, &path.child("metadata"), metadata);
    }
    persistentvolumeclaim::spec(errors, &path.child("spec"), &template.spec);
}
