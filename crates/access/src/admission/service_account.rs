//! Every pod has a service account, and its token is mounted.
//!
//! Behaviour: `plugin/pkg/admission/serviceaccount`.

use std::sync::Arc;

use machinery::{ApiError, Object};
use serde_json::{Value, json};

use super::{Awaited, Operation, Request};
use crate::Lookup;
use crate::pod_references::{ContainerKind, Reference, Source, is_mirror, references};
use crate::tokens::WARN_AFTER_SECONDS;

const DEFAULT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ENFORCE_ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";

fn concerns(request: &Request) -> bool {
    request.is_for("", "pods") && matches!(request.subresource, "" | "ephemeralcontainers")
}

fn is_new_pod(request: &Request) -> bool {
    concerns(request) && request.operation == Operation::Create
}

pub(super) fn admit(
    request: &Request,
    pod: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !is_new_pod(request) || is_mirror(pod) {
        return validate_if_new(request, pod, lookup);
    }
    if pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        let spec = pod.object_at_mut(&["spec"]);
        spec.insert("serviceAccountName".into(), DEFAULT.into());
        spec.insert("serviceAccount".into(), DEFAULT.into());
    }
    let account = find_account(request, pod, lookup)?;
    if automounts(pod, &account) {
        mount_token(pod, request.name_suffix);
    }
    add_pull_secrets(pod, &account);
    validate(request, pod, lookup)
}

fn validate_if_new(request: &Request, pod: &Object, lookup: &dyn Lookup) -> Result<(), ApiError> {
    if is_new_pod(request) {
        validate(request, pod, lookup)
    } else {
        Ok(())
    }
}

pub(super) fn validate(
    request: &Request,
    pod: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !concerns(request) {
        return Ok(());
    }
    let debugs =
        request.operation == Operation::Update && request.subresource == "ephemeralcontainers";
    if !debugs && request.operation != Operation::Create {
        return Ok(());
    }
    if is_mirror(pod) && !debugs {
        return validate_mirror(request, pod);
    }
    if pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        let (namespace, name) = (request.namespace, pod.name());
        let why = format!("no service account specified for pod {namespace}/{name}");
        return Err(request.forbidden(pod, why));
    }
    let account = find_account(request, pod, lookup)?;
    if enforces_secrets(&account) {
        limit_secrets(pod, &account, debugs).map_err(|why| request.forbidden(pod, why))?;
    }
    Ok(())
}

/// A mirror pod is written by its node: it must not reach for anything of the API.
fn validate_mirror(request: &Request, pod: &Object) -> Result<(), ApiError> {
    if !pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        return Err(request.forbidden(pod, "a mirror pod may not reference service accounts"));
    }
    if references(pod)
        .iter()
        .any(|r| matches!(r, Reference::Secret(..)))
    {
        return Err(request.forbidden(pod, "a mirror pod may not reference secrets"));
    }
    let sources = list(pod, "volumes")
        .iter()
        .filter_map(|v| v.get("projected")?.get("sources")?.as_array())
        .flatten();
    let mut tokens = sources.filter(|s| s.get("serviceAccountToken").is_some_and(|t| !t.is_null()));
    match tokens.next() {
        Some(_) => {
            let why = "a mirror pod may not use ServiceAccountToken volume projections";
            Err(request.forbidden(pod, why))
        }
        None => Ok(()),
    }
}

fn find_account(
    request: &Request,
    pod: &Object,
    lookup: &dyn Lookup,
) -> Result<Arc<Object>, ApiError> {
    let name = pod.str_at(&["spec", "serviceAccountName"]);
    lookup.get("", "serviceaccounts", request.namespace, name).ok_or_else(|| {
        let namespace = request.namespace;
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
        );
        request.forbidden(pod, why)
    })
}

/// The pod's wish counts more than the account's; without either, yes.
fn automounts(pod: &Object, account: &Object) -> bool {
    let wishes = [
        pod.at(&["spec", "automountServiceAccountToken"]),
        account.at(&["automountServiceAccountToken"]),
    ];
    wishes
        .into_iter()
        .flatten()
        .find_map(Value::as_bool)
        .unwrap_or(true)
}

fn list<'a>(pod: &'a Object, key: &str) -> &'a [Value] {
    pod.at(&["spec", key])
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn push(map: &mut serde_json::Map<String, Value>, key: &str, value: Value) {
    match map.get_mut(key) {
        Some(Value::Array(there)) => there.push(value),
        _ => drop(map.insert(key.to_owned(), json!([value]))),
    }
}

/// Mounts the token in every container that has nothing else at its place.
fn mount_token(pod: &mut Object, suffix: &str) {
    let names = list(pod, "volumes")
        .iter()
        .filter_map(|v| v.get("name")?.as_str());
    let existing = names
        .filter(|n| n.starts_with(VOLUME_PREFIX))
        .map(str::to_owned)
        .next();
    let volume = existing
        .clone()
        .unwrap_or_else(|| format!("{VOLUME_PREFIX}{suffix}"));
    let mut mounted = false;
    let spec = pod.object_at_mut(&["spec"]);
    for key in ["initContainers", "containers"] {
        let containers = spec.get_mut(key).and_then(Value::as_array_mut);
        for container in containers
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            let mounts = container.get("volumeMounts").and_then(Value::as_array);
            let at_place = |m: &Value| m.get("mountPath").is_some_and(|p| p == MOUNT_PATH);
            if mounts.into_iter().flatten().any(at_place) {
                continue;
            }
            let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
            push(container, "volumeMounts", mount);
            mounted = true;
        }
    }
    if mounted && existing.is_none() {
        push(spec, "volumes", token_volume(&volume));
    }
}

fn token_volume(name: &str) -> Value {
    let namespace = json!({
        "path": "namespace",
        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
    });
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": WARN_AFTER_SECONDS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [namespace]}},
            ],
        },
    })
}

fn add_pull_secrets(pod: &mut Object, account: &Object) {
    let secrets = account.at(&["imagePullSecrets"]).and_then(Value::as_array);
    let Some(secrets) = secrets.filter(|s| !s.is_empty()) else {
        return;
    };
    if list(pod, "imagePullSecrets").is_empty() {
        let names = secrets
            .iter()
            .map(|s| json!({"name": s.get("name")}))
            .collect();
        pod.object_at_mut(&["spec"])
            .insert("imagePullSecrets".into(), names);
    }
}

fn enforces_secrets(account: &Object) -> bool {
    let yes = ["1", "t", "T", "true", "TRUE", "True"];
    account
        .annotations()
        .any(|(k, v)| k == ENFORCE_ANNOTATION && yes.contains(&v))
}

/// Only secrets that the account names may be mounted or pulled with. `debugs`: only ephemeral containers changed.
fn limit_secrets(pod: &Object, account: &Object, debugs: bool) -> Result<(), String> {
    let names = |key: &str| {
        let entries = account
            .at(&[key])
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        entries
            .filter_map(|e| e.get("name")?.as_str())
            .collect::<Vec<_>>()
    };
    let (mountable, pullable) = (names("secrets"), names("imagePullSecrets"));
    let account = account.name();
    for reference in references(pod) {
        let Reference::Secret(secret, source) = reference else {
            continue;
        };
        let lacks =
            format!("is not allowed because service account {account} does not reference that");
        let of_kind = |kind| (kind == ContainerKind::Ephemeral) == debugs;
        match source {
            Source::ImagePull(index) if !debugs && !pullable.contains(&secret) => {
                return Err(format!(
                    "imagePullSecrets[{index}].name=\"{secret}\" {lacks} imagePullSecret"
                ));
            }
            Source::Env(kind, container, variable)
                if of_kind(kind) && !mountable.contains(&secret) =>
            {
                let kind = kind.words();
                return Err(format!(
                    "{kind} {container} with envVar {variable} referencing secret.secretName=\"{secret}\" {lacks} secret"
                ));
            }
            Source::EnvFrom(kind, container) if of_kind(kind) && !mountable.contains(&secret) => {
                let kind = kind.words();
                return Err(format!(
                    "{kind} {container} with envFrom referencing secret.secretName=\"{secret}\" {lacks} secret"
                ));
            }
            Source::Volume | Source::Projected if !debugs && !mountable.contains(&secret) => {
                return Err(format!(
                    "volume with secret.secretName=\"{secret}\" {lacks} secret"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn awaits(request: &Request, pod: &Object, lookup: &dyn Lookup) -> Option<Awaited> {
    if !is_new_pod(request) || is_mirror(pod) {
        return None;
    }
    let name = match pod.str_at(&["spec", "serviceAccountName"]) {
        "" => DEFAULT,
        name => name,
    };
    let missing = lookup
        .get("", "serviceaccounts", request.namespace, name)
        .is_none();
    (missing && name == DEFAULT).then(|| Awaited {
        resource: "serviceaccounts",
        namespace: request.namespace.to_owned(),
        name: name.to_owned(),
    })
}
