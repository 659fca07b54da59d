//! PodTolerationRestriction: a namespace's pods get its tolerations, and have no others than it allows.
//!
//! Behaviour: `plugin/pkg/admission/podtolerationrestriction`, `pkg/util/tolerations`.

use api::core::pod;
use k8s_openapi::api::core::v1::{PodSpec, Toleration};
use machinery::{ApiError, ErrorList, Object, Path};
use serde_json::Value;

use super::{Operation, Request};
use crate::Lookup;

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const API_VERSION: &str = "podtolerationrestriction.admission.k8s.io/v1alpha1";

/// The operator's file: what holds where namespaces say nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// What pods get.
    pub default: Vec<Toleration>,
    /// What they may have; anything when empty.
    pub allowed: Vec<Toleration>,
}

impl Configuration {
    /// Takes a document that has been read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(file: &Value) -> Result<Self, String> {
        super::settings_of(file, API_VERSION, "Configuration")?;
        let list = |key: &str| -> Result<Vec<Toleration>, String> {
            match &file[key] {
                Value::Null => Ok(Vec::new()),
                list => serde_json::from_value(list.clone()).map_err(|e| e.to_string()),
            }
        };
        let found = Self {
            default: list("default")?,
            allowed: list("whitelist")?,
        };
        let mut errors = ErrorList::new();
        let at = Path::new("podtolerationrestriction");
        pod::validation::tolerations(&mut errors, &at.child("default"), &found.default);
        pod::validation::tolerations(&mut errors, &at.child("whitelist"), &found.allowed);
        match errors.is_empty() {
            true => Ok(found),
            false => Err(format!("invalid config: {}", errors.aggregate())),
        }
    }
}

fn concerns(request: &Request) -> bool {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    writes && request.is_for("", "pods") && request.subresource.is_empty()
}

/// Not one of upstream's errors with a reason, so one of the server.
fn plain(why: impl Into<String>) -> ApiError {
    ApiError::new(500, "", why)
}

fn tolerations_of(pod: &Object) -> Result<Vec<Toleration>, ApiError> {
    match pod.at(&["spec", "tolerations"]) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(list) => serde_json::from_value(list.clone()).map_err(ApiError::internal),
    }
}

pub(super) fn admit(
    request: &Request,
    pod: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !concerns(request) {
        return Ok(());
    }
    let mut extra = Vec::new();
    if request.operation == Operation::Create {
        let own = of_namespace(request, lookup, DEFAULTS)?;
        extra = own.unwrap_or_else(|| request.settings.tolerations.default.clone());
    }
    let spec = pod.at(&["spec"]).cloned().unwrap_or_default();
    let spec: PodSpec = serde_json::from_value(spec).map_err(ApiError::internal)?;
    if pod::qos::class(&spec) != "BestEffort" {
        extra.push(Toleration {
            key: Some("node.kubernetes.io/memory-pressure".to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some("NoSchedule".to_owned()),
            ..Toleration::default()
        });
    }
    if !extra.is_empty() {
        let merged = merge([tolerations_of(pod)?, extra].concat());
        let merged = serde_json::to_value(merged).map_err(ApiError::internal)?;
        let spec = pod.object_at_mut(&["spec"]);
        spec.insert("tolerations".to_owned(), merged);
    }
    validate(request, pod, lookup)
}

pub(super) fn validate(
    request: &Request,
    pod: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !concerns(request) {
        return Ok(());
    }
    let tolerations = tolerations_of(pod)?;
    if tolerations.is_empty() {
        return Ok(());
    }
    let (allowed, whose) = match of_namespace(request, lookup, ALLOWED)? {
        Some(own) => (own, "namespace"),
        None => (request.settings.tolerations.allowed.clone(), "cluster"),
    };
    let is_allowed = |one: &Toleration| allowed.iter().any(|all| covers(all, one));
    match allowed.is_empty() || tolerations.iter().all(is_allowed) {
        true => Ok(()),
        false => Err(plain(format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {whose} whitelist"
        ))),
    }
}

/// What the namespace says under a key; an empty text is a list without entries.
fn of_namespace(
    request: &Request,
    lookup: &dyn Lookup,
    key: &str,
) -> Result<Option<Vec<Toleration>>, ApiError> {
    let name = request.namespace;
    let found = lookup.get("", "namespaces", "", name);
    let namespace = found.ok_or_else(|| ApiError::not_found("", "namespaces", name))?;
    let text = namespace.annotations().find(|(own, _)| *own == key);
    match text {
        None => Ok(None),
        Some((_, "")) => Ok(Some(Vec::new())),
        Some((_, text)) => serde_json::from_str(text)
            .map(Some)
            .map_err(|error| plain(error.to_string())),
    }
}

/// Without those that others say already.
fn merge(all: Vec<Toleration>) -> Vec<Toleration> {
    let mut merged: Vec<Toleration> = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let said = merged.iter().any(|other| covers(other, one));
        let follows = |other: &Toleration| !same(other, one) && covers(other, one);
        if !said && !all[index + 1..].iter().any(follows) {
            merged.push(one.clone());
        }
    }
    merged
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

fn same(one: &Toleration, other: &Toleration) -> bool {
    let parts = |t: &Toleration| {
        let texts = [&t.key, &t.operator, &t.value, &t.effect].map(|part| text(part).to_owned());
        (texts, t.toleration_seconds)
    };
    parts(one) == parts(other)
}

/// Whether `all` tolerates at least what `one` does.
fn covers(all: &Toleration, one: &Toleration) -> bool {
    if same(all, one) {
        return true;
    }
    let (key, operator, effect) = (text(&all.key), text(&all.operator), text(&all.effect));
    let any_key = key.is_empty() && operator == "Exists";
    let any_effect = effect.is_empty();
    if (text(&one.key) != key && !any_key) || (text(&one.effect) != effect && !any_effect) {
        return false;
    }
    if effect == "NoExecute"
        && let Some(most) = all.toleration_seconds
        && one.toleration_seconds.is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    match operator {
        "Equal" | "" => text(&one.operator) == "Equal" && text(&one.value) == text(&all.value),
        operator => operator == "Exists",
    }
}
