//! Policies and webhooks that stand in files of the operator: in force from the first request on, seen by nobody in the API
//! and changed by nobody through it.
//!
//! Their names end with [`STATIC`], which the API gives to nobody. [`read`] takes the files of one plug-in's directory, all or
//! none of it. They take no parameters and are reached by URL only: what the cluster holds is not needed to obey them.
//! Behaviour and wording: `k8s.io/apiserver/pkg/admission/plugin/manifest`, `.../{policy,webhook}/manifest`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Context;
pub use api::admissionregistration::webhook::STATIC;
use api::kind::{NoServer, Requester};
use jiff::Timestamp;
use machinery::{Object, codec};
use serde_json::Value;

const GROUP: &str = "admissionregistration.k8s.io";

/// The plug-ins that have such a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `MutatingAdmissionPolicy`
    MutatingPolicies,
    /// `MutatingAdmissionWebhook`
    MutatingWebhooks,
    /// `ValidatingAdmissionPolicy`
    ValidatingPolicies,
    /// `ValidatingAdmissionWebhook`
    ValidatingWebhooks,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::MutatingPolicies,
        Self::MutatingWebhooks,
        Self::ValidatingPolicies,
        Self::ValidatingWebhooks,
    ];

    /// The name of the plug-in.
    pub fn plugin(self) -> &'static str {
        match self {
            Self::MutatingPolicies => "MutatingAdmissionPolicy",
            Self::MutatingWebhooks => "MutatingAdmissionWebhook",
            Self::ValidatingPolicies => "ValidatingAdmissionPolicy",
            Self::ValidatingWebhooks => "ValidatingAdmissionWebhook",
        }
    }

    /// Whether what stands there may change objects.
    pub fn is_mutating(self) -> bool {
        matches!(self, Self::MutatingPolicies | Self::MutatingWebhooks)
    }

    /// Whether these are policies, and not webhooks.
    pub fn is_policies(self) -> bool {
        matches!(self, Self::MutatingPolicies | Self::ValidatingPolicies)
    }

    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::MutatingPolicies => {
                &["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"]
            }
            Self::MutatingWebhooks => &["MutatingWebhookConfiguration"],
            Self::ValidatingPolicies => &[
                "ValidatingAdmissionPolicy",
                "ValidatingAdmissionPolicyBinding",
            ],
            Self::ValidatingWebhooks => &["ValidatingWebhookConfiguration"],
        }
    }
}

/// Reads the files of a directory, given by path and text: what stands there, defaulted.
///
/// # Errors
/// The first thing that is wrong, and where.
pub fn read(source: Source, files: &[(String, String)]) -> Result<Vec<Object>, String> {
    let mut reading = Reading {
        source,
        names: BTreeMap::new(),
        found: Vec::new(),
    };
    for (path, text) in files {
        let failed = |why: String| format!("error loading {path}: {why}");
        let documents = codec::decode_yaml_documents(text);
        for document in documents.map_err(|error| failed(error.to_string()))? {
            reading.accept(path, document).map_err(failed)?;
        }
    }
    reading.check_references()?;
    Ok(reading.found)
}

struct Reading {
    source: Source,
    /// Kind and name, and the file that they stand in.
    names: BTreeMap<(String, String), String>,
    found: Vec<Object>,
}

impl Reading {
    fn accept(&mut self, path: &str, document: Value) -> Result<(), String> {
        if document["kind"] == "List" && document["apiVersion"] == "v1" {
            let Value::Array(items) = &document["items"] else {
                return Ok(());
            };
            return items
                .iter()
                .try_for_each(|item| self.accept(path, item.clone()));
        }
        let object = Object::from_value(document).map_err(|_| "not an object".to_owned())?;
        let (version, name) = (object.api_version(), object.kind());
        let known = version == format!("{GROUP}/v1") && self.source.kinds().contains(&name);
        let kind = api::by_kind(GROUP, "v1", name).filter(|_| known);
        let kind =
            kind.ok_or_else(|| format!("unsupported resource type {version}, Kind={name}"))?;
        let mut object = object.clone();
        let report = kind.check_fields(&mut object, &[]);
        if let Some(wrong) = report
            .type_error
            .or_else(|| report.unknown.into_iter().next())
        {
            return Err(format!("strict decoding error: {wrong}"));
        }
        kind.default(&mut object)
            .map_err(|error| error.to_string())?;
        self.check_name(path, &object)?;
        validate(kind, &object)?;
        self.check(path, &object)?;
        self.found.push(object);
        Ok(())
    }

    fn check_name(&mut self, path: &str, object: &Object) -> Result<(), String> {
        let name = object.name();
        if name.is_empty() {
            return Err(format!("resource in file {path:?} must have a name"));
        }
        if !name.ends_with(STATIC) {
            return Err(format!(
                "{name:?} in file {path:?} must have a name ending with {STATIC:?}"
            ));
        }
        let key = (object.kind().to_owned(), name.to_owned());
        match self.names.insert(key, path.to_owned()) {
            Some(before) => Err(format!(
                "duplicate name {name:?} found in file {path:?} (previously seen in {before:?})"
            )),
            None => Ok(()),
        }
    }

    /// What nobody may say in a file.
    fn check(&self, path: &str, object: &Object) -> Result<(), String> {
        let (name, kind) = (object.name(), object.kind());
        let has = |field: &str| object.at(&["spec", field]).is_some_and(|v| !v.is_null());
        if !self.source.is_policies() {
            return webhooks_by_url(path, object);
        }
        if !kind.ends_with("Binding") {
            return match has("paramKind") {
                true => Err(format!(
                    "{kind} {name:?}: spec.paramKind is not supported for static manifests"
                )),
                false => Ok(()),
            };
        }
        let policy = object.str_at(&["spec", "policyName"]);
        if policy.is_empty() {
            return Err(format!(
                "binding {name:?} must reference a policy (spec.policyName)"
            ));
        }
        if !policy.ends_with(STATIC) {
            return Err(format!(
                "binding {name:?}: spec.policyName {policy:?} must end with {STATIC:?}"
            ));
        }
        match has("paramRef") {
            true => Err(format!(
                "binding {name:?}: spec.paramRef is not supported for static manifests"
            )),
            false => Ok(()),
        }
    }

    fn check_references(&self) -> Result<(), String> {
        let (bindings, policies): (Vec<&Object>, Vec<&Object>) = self
            .found
            .iter()
            .partition(|o| o.kind().ends_with("Binding"));
        let policies: BTreeSet<&str> = policies.iter().map(|policy| policy.name()).collect();
        for binding in bindings {
            let (name, policy) = (binding.name(), binding.str_at(&["spec", "policyName"]));
            if !policies.contains(policy) {
                return Err(format!(
                    "binding {name:?} references policy {policy:?} which does not exist in the manifest directory"
                ));
            }
        }
        Ok(())
    }
}

fn webhooks_by_url(path: &str, object: &Object) -> Result<(), String> {
    let configuration = object.name();
    let hooks = object.at(&["webhooks"]).and_then(Value::as_array);
    for hook in hooks.into_iter().flatten() {
        let (name, client) = (
            hook["name"].as_str().unwrap_or_default(),
            &hook["clientConfig"],
        );
        let at = format!("webhook {name:?} in {configuration:?} (file {path:?})");
        if !client["service"].is_null() {
            return Err(format!(
                "{at}: clientConfig.service is not supported for static manifests; use clientConfig.url instead"
            ));
        }
        if client["url"].as_str().unwrap_or_default().is_empty() {
            return Err(format!(
                "{at}: clientConfig.url is required for static manifests"
            ));
        }
    }
    Ok(())
}

/// As if somebody wrote it through the API, but for the end of its name.
fn validate(kind: &dyn api::AnyKind, object: &Object) -> Result<(), String> {
    let mut named = object.clone();
    let name = named.name().strip_suffix(STATIC).unwrap_or_default();
    named.set_meta_str("name", &format!("{name}.static"));
    let context = Context {
        now: Timestamp::UNIX_EPOCH,
        user: String::new(),
        requester: Requester::default(),
        surroundings: Arc::new(NoServer),
    };
    let mut errors = api::meta::validate_object_meta(kind, &named);
    let own = kind.validate_create(&context, &named);
    errors.append(own.map_err(|error| error.to_string())?);
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors.aggregate()),
    }
}
