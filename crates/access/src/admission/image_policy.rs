//! ImagePolicyWebhook: somebody elsewhere says which images may run. Here are the operator's settings, the question and
//! what the answer means; the server asks.
//!
//! Behaviour: `plugin/pkg/admission/imagepolicy`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use machinery::{Object, duration};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Operation, Request};

/// What begins the keys of what is noted in the audit log.
pub const AUDIT_PREFIX: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// Why nothing was asked is noted under this key when pods are let in all the same.
pub const FAILED_OPEN: &str = "failed-open";

/// The operator's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// How the far end is reached.
    pub kubeconfig: PathBuf,
    /// How long a yes is kept.
    pub allow_ttl: Duration,
    /// How long a no is kept.
    pub deny_ttl: Duration,
    /// How long the server waits before it asks a second time.
    pub retry_backoff: Duration,
    /// Pods are let in when nobody answers.
    pub default_allow: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    kube_config_file: PathBuf,
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    retry_backoff: i64,
    default_allow: bool,
}

impl Configuration {
    /// Takes a document that has been read; null is none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(file: &Value) -> Result<Self, String> {
        if file.is_null() {
            return Err("no config specified".to_owned());
        }
        let file: File = match &file["imagePolicy"] {
            Value::Null => File::default(),
            given => serde_json::from_value(given.clone()).map_err(|e| e.to_string())?,
        };
        let (second, minute) = (1_000_000_000, 60_000_000_000);
        Ok(Self {
            retry_backoff: time(file.retry_backoff, 1_000_000, 1, 5 * minute, second / 2)?,
            allow_ttl: time(file.allow_ttl, second, second, 30 * minute, 5 * minute)?,
            deny_ttl: time(file.deny_ttl, second, second, 30 * minute, 30 * second)?,
            kubeconfig: file.kube_config_file,
            default_allow: file.default_allow,
        })
    }
}

/// A time in a unit of so many nanoseconds: nothing is the usual one, -1 none.
fn time(given: i64, unit: i64, least: i64, most: i64, usual: i64) -> Result<Duration, String> {
    let value = match given {
        -1 => 0,
        0 => usual,
        given => {
            let value = given.saturating_mul(unit);
            if !(least..=most).contains(&value) {
                let [least, most, value] = [least, most, value].map(duration::go);
                return Err(format!(
                    "valid value is between {least} and {most}, got {value}"
                ));
            }
            value
        }
    };
    Ok(Duration::from_nanos(
        u64::try_from(value).unwrap_or_default(),
    ))
}

/// The `spec` of the question about a pod, if there is one to ask.
pub fn question(request: &Request, pod: &Object) -> Option<Value> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is_for("", "pods") {
        return None;
    }
    let lists: &[&str] = match request.subresource {
        "" => &["containers", "initContainers"],
        "ephemeralcontainers" => &["ephemeralContainers"],
        _ => return None,
    };
    let items = |list: &&str| pod.at(&["spec", list]).and_then(Value::as_array);
    let containers = lists.iter().filter_map(items).flatten();
    let containers: Vec<Value> = containers
        .map(|container| match container["image"].as_str() {
            Some(image) => json!({"image": image}),
            None => json!({}),
        })
        .collect();
    let told = |(key, _): &(&str, &str)| key.contains(".image-policy.k8s.io/");
    let annotations = pod.annotations().filter(told);
    let annotations: BTreeMap<&str, &str> = annotations.collect();
    let mut spec = Map::new();
    if !containers.is_empty() {
        spec.insert("containers".to_owned(), containers.into());
    }
    if !annotations.is_empty() {
        spec.insert("annotations".to_owned(), json!(annotations));
    }
    spec.insert("namespace".to_owned(), request.namespace.into());
    Some(Value::Object(spec))
}

/// The whole question.
pub fn review(spec: &Value) -> Value {
    json!({
        "kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1", "metadata": {},
        "spec": spec, "status": {"allowed": false},
    })
}

/// What the far end says of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Answer {
    /// It may run.
    pub allowed: bool,
    /// Why not.
    pub reason: String,
    /// For the audit log.
    pub audit_annotations: BTreeMap<String, String>,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// It is none.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let review: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        match &review["status"] {
            Value::Null => Ok(Self::default()),
            status => serde_json::from_value(status.clone()).map_err(|e| e.to_string()),
        }
    }

    /// Why the pod may not run, if it may not.
    pub fn refusal(&self) -> Option<String> {
        match (self.allowed, self.reason.as_str()) {
            (true, _) => None,
            (_, "") => Some("one or more images rejected by webhook backend".to_owned()),
            (_, reason) => Some(format!(
                "image policy webhook backend denied one or more images: {reason}"
            )),
        }
    }
}
