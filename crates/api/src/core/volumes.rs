//! Sources that a driver of some storage system serves, as volumes of pods and as persistent volumes have them.
//!
//! The two have types of their own with the same fields (a secret of a persistent volume has a namespace), so the rules
//! read the source as a tree. Which driver is there is not known here: every source of the API is accepted.
//!
//! Upstream: `validate*VolumeSource` in `pkg/apis/core/validation`.

use std::sync::LazyLock;

use machinery::{ErrorList, Path, names};
use regex::Regex;
use serde_json::Value;

use crate::check::ErrorListExt;

/// Fields of each source that must not be empty.
const REQUIRED: &[(&str, &[&str])] = &[
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cephFS", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("nfs", &["server", "path"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];

/// The longest name of a driver.
pub const DRIVER_MAX: usize = 63;
const NAME_AND_PORTAL_MAX: usize = 64;
const HOST_PORTS: &str = "must be a host:port pair or multiple pairs separated by commas";
const TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
const MANAGED_DISK: &str = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
const BLOB_DISK: &str =
    "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";

/// Whose source it is.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// A volume of a pod, by the volume's name.
    Pod(&'a str),
    /// A persistent volume, by its name.
    PersistentVolume(&'a str),
}

/// The source `name` with the tree `source`; `path` is that of what holds it.
pub fn source(errors: &mut ErrorList, path: &Path, name: &str, source: &Value, owner: Owner<'_>) {
    // Two are spelled otherwise in messages.
    let at = path.child(match name {
        "gcePersistentDisk" => "persistentDisk",
        "cephFS" => "cephfs",
        name => name,
    });
    let required = REQUIRED.iter().find(|(source, _)| *source == name);
    for field in required.into_iter().flat_map(|(_, fields)| *fields) {
        if is_empty(source, field) {
            errors.required(&at.child(field), "");
        }
    }
    let persistent = matches!(owner, Owner::PersistentVolume(_));
    match name {
        "awsElasticBlockStore" | "gcePersistentDisk" => partition(errors, &at, source),
        "azureDisk" => azure_disk(errors, &at, source),
        "azureFile" if persistent && text_of(source, "secretNamespace") == Some("") => {
            errors.required(&at.child("secretNamespace"), "");
        }
        "cinder" => secret(errors, &at, source, persistent),
        "csi" => csi(errors, &at, source, persistent),
        "fc" => fibre_channel(errors, &at, source),
        "flexVolume" => flex_options(errors, &at, source),
        "flocker" => flocker(errors, &at, source),
        "gitRepo" => {
            let directory = text(source, "directory");
            local_descending_path(errors, &at.child("directory"), directory);
        }
        "glusterfs" if persistent => endpoints_namespace(errors, &at, source),
        "iscsi" => iscsi(errors, path, &at, source, owner),
        "nfs" if !text(source, "path").starts_with('/') => {
            let at = at.child("path");
            errors.invalid(&at, text(source, "path"), "must be an absolute path");
        }
        "quobyte" => quobyte(errors, &at, source),
        "storageos" => storageos(errors, &at, source, persistent),
        _ => {}
    }
}

fn text_of<'a>(source: &'a Value, field: &str) -> Option<&'a str> {
    source.get(field).and_then(Value::as_str)
}

fn text<'a>(source: &'a Value, field: &str) -> &'a str {
    text_of(source, field).unwrap_or("")
}

fn is_empty(source: &Value, field: &str) -> bool {
    match source.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

fn yes(source: &Value, field: &str) -> bool {
    source.get(field).and_then(Value::as_bool).unwrap_or(false)
}

/// The path of a host, without `..`.
pub fn host_path(errors: &mut ErrorList, path: &Path, target: &str, type_: &str) {
    const TYPES: &[&str] = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if errors.required_text(&path.child("path"), target, "") {
        no_backsteps(errors, &path.child("path"), target);
        errors.one_of(&path.child("type"), type_, TYPES);
    }
}

/// A path without `..`.
pub fn no_backsteps(errors: &mut ErrorList, path: &Path, target: &str) {
    if target.split('/').any(|part| part == "..") {
        errors.invalid(path, target, "must not contain '..'");
    }
}

/// A relative path without `..`.
pub fn local_descending_path(errors: &mut ErrorList, path: &Path, target: &str) {
    if target.starts_with('/') {
        errors.invalid(path, target, "must be a relative path");
    }
    no_backsteps(errors, path, target);
}

fn partition(errors: &mut ErrorList, path: &Path, source: &Value) {
    let partition = source.get("partition").and_then(Value::as_i64).unwrap_or(0);
    if !(0..=255).contains(&partition) {
        let detail = names::range_message(1, 255);
        errors.invalid(&path.child("partition"), partition, detail);
    }
}

/// The name of a CSI driver.
pub fn csi_driver_name(errors: &mut ErrorList, path: &Path, name: &str) {
    if !errors.required_text(path, name, "") {
        return;
    }
    if name.len() > DRIVER_MAX {
        errors.too_long(path, DRIVER_MAX);
    }
    errors.invalid_each(path, name, names::dns1123_subdomain(&name.to_lowercase()));
}

fn csi(errors: &mut ErrorList, path: &Path, source: &Value, persistent: bool) {
    csi_driver_name(errors, &path.child("driver"), text(source, "driver"));
    if !persistent {
        let Some(secret) = source.get("nodePublishSecretRef") else {
            return;
        };
        let name = text(secret, "name");
        let at = path.child("nodePublishSecretRef").child("name");
        if errors.required_text(&at, name, "") {
            errors.invalid_each(&path.child("name"), name, names::dns1123_subdomain(name));
        }
        return;
    }
    errors.required_text(
        &path.child("volumeHandle"),
        text(source, "volumeHandle"),
        "",
    );
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let Some(secret) = source.get(field) else {
            continue;
        };
        let (name, namespace) = (text(secret, "name"), text(secret, "namespace"));
        let at = path.child(field).child("name");
        if errors.required_text(&at, name, "") {
            errors.invalid_each(&at, name, names::dns1123_subdomain(name));
        }
        let at = path.child(field).child("namespace");
        if errors.required_text(&at, namespace, "") {
            errors.invalid_each(&at, namespace, names::dns1123_label(namespace));
        }
    }
}

/// A secret of a persistent volume says its namespace too.
fn secret(errors: &mut ErrorList, path: &Path, source: &Value, persistent: bool) {
    let Some(secret) = source.get("secretRef") else {
        return;
    };
    let path = path.child("secretRef");
    errors.required_text(&path.child("name"), text(secret, "name"), "");
    if persistent {
        errors.required_text(&path.child("namespace"), text(secret, "namespace"), "");
    }
}

fn lun(errors: &mut ErrorList, path: &Path, lun: i64) {
    if !(0..=255).contains(&lun) {
        errors.invalid(&path.child("lun"), lun, names::range_message(0, 255));
    }
}

fn fibre_channel(errors: &mut ErrorList, path: &Path, source: &Value) {
    let at = path.child("targetWWNs");
    let targets = source.get("targetWWNs").cloned().unwrap_or_default();
    let (no_targets, no_ids) = (is_empty(source, "targetWWNs"), is_empty(source, "wwids"));
    if no_targets && no_ids {
        let detail = "must specify either targetWWNs or wwids, but not both";
        errors.required(&at, detail);
    }
    if !no_targets && !no_ids {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&at, targets, detail);
    }
    if !no_targets {
        match source.get("lun").and_then(Value::as_i64) {
            None => {
                let detail = "lun is required if targetWWNs is specified";
                errors.required(&path.child("lun"), detail);
            }
            Some(number) => lun(errors, path, number),
        }
    }
}

fn flex_options(errors: &mut ErrorList, path: &Path, source: &Value) {
    let options = source.get("options").and_then(Value::as_object);
    for key in options.into_iter().flat_map(|options| options.keys()) {
        let namespace = key
            .split_once('/')
            .map_or(key.as_str(), |(domain, _)| domain);
        let dotted = format!(".{}", namespace.to_lowercase());
        if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&path.child("options").key(key), key.as_str(), detail);
        }
    }
}

fn flocker(errors: &mut ErrorList, path: &Path, source: &Value) {
    let (name, uuid) = (text(source, "datasetName"), text(source, "datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.invalid(path, "resource", detail);
    }
    if name.contains('/') {
        errors.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

fn endpoints_namespace(errors: &mut ErrorList, path: &Path, source: &Value) {
    let Some(namespace) = text_of(source, "endpointsNamespace") else {
        return;
    };
    let at = path.child("endpointsNamespace");
    if namespace.is_empty() {
        let detail = "if the endpointnamespace is set, it must be a valid namespace name";
        errors.invalid(&at, namespace, detail);
    } else {
        errors.invalid_each(&at, namespace, names::dns1123_label(namespace));
    }
}

/// What is wrong with a name of an iSCSI initiator or target; `long` is what is said about an unknown form.
fn iscsi_name(name: &str, long: &'static str) -> Option<&'static str> {
    static IQN: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"iqn\.\d{4}-\d{2}\.([[:alnum:]\-.]+)(:[^,;*&$|\s]+)$").ok());
    static EUI: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("^eui.[[:alnum:]]{16}$").ok());
    static NAA: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("^naa.[[:alnum:]]{32}$").ok());
    let shape = match name.get(..3) {
        Some("iqn") => &IQN,
        Some("eui") => &EUI,
        Some("naa") => &NAA,
        _ => return Some(long),
    };
    let fits = shape.as_ref().is_some_and(|shape| shape.is_match(name));
    (!fits).then_some("must be valid format")
}

fn iscsi(errors: &mut ErrorList, holder: &Path, path: &Path, source: &Value, owner: Owner<'_>) {
    const LONG: &str = "must be valid format starting with iqn, eui, or naa";
    let (portal, iqn) = (text(source, "targetPortal"), text(source, "iqn"));
    errors.required_text(&path.child("targetPortal"), portal, "");
    let initiator = text_of(source, "initiatorName");
    let too_long = |name: &str| name.len() + 1 + portal.len() > NAME_AND_PORTAL_MAX;
    let unknown = match owner {
        Owner::Pod(_) => LONG,
        Owner::PersistentVolume(name) => {
            if initiator.is_some() && too_long(name) {
                errors.invalid(&path.child("targetportal"), portal, TOO_LONG);
            }
            "must be valid format"
        }
    };
    if errors.required_text(&path.child("iqn"), iqn, "")
        && let Some(detail) = iscsi_name(iqn, unknown)
    {
        errors.invalid(&path.child("iqn"), iqn, detail);
    }
    let number = source.get("lun").and_then(Value::as_i64).unwrap_or(0);
    lun(errors, path, number);
    let secret = source.get("secretRef");
    if (yes(source, "chapAuthDiscovery") || yes(source, "chapAuthSession")) && secret.is_none() {
        errors.required(&path.child("secretRef"), "");
    }
    if let (Owner::PersistentVolume(_), Some(secret)) = (owner, secret) {
        let at = path.child("secretRef").child("name");
        errors.required_text(&at, text(secret, "name"), "");
    }
    let Some(initiator) = initiator else { return };
    if let Some(detail) = iscsi_name(initiator, LONG) {
        errors.invalid(&path.child("initiatorname"), initiator, detail);
    }
    if let Owner::Pod(volume) = owner
        && too_long(volume)
    {
        errors.invalid(&holder.child("name"), volume, TOO_LONG);
    }
}

fn quobyte(errors: &mut ErrorList, path: &Path, source: &Value) {
    const TENANT_MAX: usize = 64;
    let registry = text(source, "registry");
    let at = path.child("registry");
    if errors.required_text(&at, registry, HOST_PORTS) {
        if text(source, "tenant").len() > TENANT_MAX {
            let detail = "must be a UUID and may not exceed a length of 64 characters";
            errors.required(&path.child("tenant"), detail);
        } else {
            let bad = |pair: &&str| !is_host_port(pair);
            for _ in registry.split(',').filter(bad) {
                errors.invalid(&at, registry, HOST_PORTS);
            }
        }
    }
    errors.required_text(&path.child("volume"), text(source, "volume"), "");
}

fn is_host_port(pair: &str) -> bool {
    match pair.rsplit_once(':') {
        Some((host, _)) if host.starts_with('[') => host.ends_with(']'),
        Some((host, _)) => !host.contains([':', '[', ']']),
        None => false,
    }
}

fn storageos(errors: &mut ErrorList, path: &Path, source: &Value, persistent: bool) {
    let (name, namespace) = (text(source, "volumeName"), text(source, "volumeNamespace"));
    let at = path.child("volumeName");
    if errors.required_text(&at, name, "") {
        errors.invalid_each(&at, name, names::dns1123_label(name));
    }
    if !namespace.is_empty() {
        let at = path.child("volumeNamespace");
        errors.invalid_each(&at, namespace, names::dns1123_label(namespace));
    }
    secret(errors, path, source, persistent);
}

fn azure_disk(errors: &mut ErrorList, path: &Path, source: &Value) {
    let uri = text(source, "diskURI");
    errors.required_text(&path.child("diskName"), text(source, "diskName"), "");
    errors.required_text(&path.child("diskURI"), uri, "");
    if let Some(mode) = text_of(source, "cachingMode") {
        let known = ["None", "ReadOnly", "ReadWrite"];
        errors.one_of(&path.child("cachingMode"), mode, &known);
    }
    let Some(kind) = text_of(source, "kind") else {
        return;
    };
    errors.one_of(
        &path.child("kind"),
        kind,
        &["Dedicated", "Managed", "Shared"],
    );
    let (prefix, form) = match kind {
        "Managed" => ("/subscriptions/", MANAGED_DISK),
        _ => ("https://", BLOB_DISK),
    };
    if !uri.starts_with(prefix) {
        errors.not_supported(&path.child("diskURI"), uri, &[form]);
    }
}
