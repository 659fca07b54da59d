//! Resources that are limited by default: used only where a quota says how much (the settings of the plug-in `ResourceQuota`).
//!
//! Behaviour: `k8s.io/apiserver/pkg/admission/plugin/resourcequota`, its `Configuration`.

use std::collections::BTreeSet;

use api::quota::{Amounts, Counted, Item};
use k8s_openapi::api::core::v1::{ResourceQuota, ScopedResourceSelectorRequirement as Scope};
use machinery::{ApiError, Object};
use serde::Deserialize;
use serde_json::Value;

use super::Request;

/// One limit of the operator's file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limited {
    #[serde(rename = "apiGroup")]
    group: String,
    resource: String,
    /// What is in the names of amounts that are limited.
    match_contains: Vec<String>,
    /// Of objects in these scopes.
    match_scopes: Vec<Scope>,
}

/// The limits of a document; null is none.
///
/// # Errors
/// What is wrong with it.
pub fn read(file: &Value) -> Result<Vec<Limited>, String> {
    if file.is_null() {
        return Ok(Vec::new());
    }
    let known = [
        ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration"),
        ("resourcequota.admission.k8s.io/v1beta1", "Configuration"),
        ("resourcequota.admission.k8s.io/v1alpha1", "Configuration"),
    ];
    let found = known
        .iter()
        .find(|(version, kind)| file["apiVersion"] == *version && file["kind"] == *kind);
    if found.is_none() {
        let (kind, version) = (&file["kind"], &file["apiVersion"]);
        return Err(format!(
            "no kind {kind} is registered for version {version}"
        ));
    }
    match &file["limitedResources"] {
        Value::Null => Ok(Vec::new()),
        list => serde_json::from_value(list.clone()).map_err(|e| e.to_string()),
    }
}

/// Those about the resource of a request.
pub(super) fn about<'a>(request: &'a Request) -> Vec<&'a Limited> {
    let all = request.settings.limited_resources.iter();
    all.filter(|own| own.group == request.group && own.resource == request.resource)
        .collect()
}

/// An object that is about to use something.
pub(super) struct Use<'a> {
    pub(super) counted: &'a Counted,
    pub(super) object: &'a Object,
    pub(super) item: &'a Item,
    /// What it uses more than before.
    pub(super) more: &'a Amounts,
}

impl Use<'_> {
    /// Whether quotas say how much of it there may be: those of the namespace, and the amounts that those about the object limit.
    ///
    /// # Errors
    /// 403: none does.
    pub(super) fn check(
        &self,
        request: &Request,
        quotas: &[ResourceQuota],
        limited_by_quotas: &BTreeSet<String>,
    ) -> Result<(), ApiError> {
        let all = about(request);
        let contains = |name: &str| {
            let mut parts = all.iter().flat_map(|own| &own.match_contains);
            parts.any(|part| name.contains(part))
        };
        let positive = self.more.iter().filter(|(_, amount)| amount.signum() > 0);
        let names = positive.map(|(name, _)| name.as_str());
        let open: Vec<&str> = names
            .filter(|name| contains(name) && !limited_by_quotas.contains(*name))
            .collect();
        if !open.is_empty() {
            let open = open.join(",");
            let why = format!("insufficient quota to consume: {open}");
            return Err(request.forbidden(self.object, why));
        }
        let is_in = |scope: &&Scope| self.counted.is_in_scope(self.item, scope);
        let scopes: Vec<Scope> = quotas.iter().flat_map(api::quota::scopes).collect();
        let covered: BTreeSet<&str> = scopes
            .iter()
            .filter(is_in)
            .map(|scope| scope.scope_name.as_str())
            .collect();
        let wanted = all.iter().flat_map(|own| &own.match_scopes).filter(is_in);
        let open: Vec<String> = wanted
            .filter(|scope| !covered.contains(scope.scope_name.as_str()))
            .map(|scope| {
                let values = scope.values.clone().unwrap_or_default().join(" ");
                format!("{{{} {} [{values}]}}", scope.scope_name, scope.operator)
            })
            .collect();
        match open.is_empty() {
            true => Ok(()),
            // Not one of upstream's errors with a reason, so one of the server.
            false => Err(ApiError::new(
                500,
                "",
                format!(
                    "insufficient quota to match these scopes: [{}]",
                    open.join(" ")
                ),
            )),
        }
    }
}
