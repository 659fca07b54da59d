//! How objects come from one version to another.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceConversion;
use machinery::{ErrorList, Path, names};

use crate::check::{ErrorListExt, json, webhook};

pub(super) fn validate(
    errors: &mut ErrorList,
    at: &Path,
    conversion: Option<&CustomResourceConversion>,
) {
    let Some(conversion) = conversion else { return };
    match conversion.strategy.as_str() {
        "" => errors.required(&at.child("strategy"), ""),
        strategy => errors.one_of(&at.child("strategy"), strategy, &["None", "Webhook"]),
    }
    let by_webhook = conversion.webhook.as_ref();
    let client = by_webhook.and_then(|w| w.client_config.as_ref());
    let (at_client, at_versions) = (
        at.child("webhookClientConfig"),
        at.child("conversionReviewVersions"),
    );
    let versions = by_webhook.map_or(&[][..], |w| &w.conversion_review_versions);
    if conversion.strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.forbidden(&at_client, why);
        }
        if !versions.is_empty() {
            errors.forbidden(&at_versions, why);
        }
        return;
    }
    match client {
        None => errors.required(&at_client, "required when strategy is set to Webhook"),
        Some(client) => match (&client.url, &client.service) {
            (Some(url), None) => webhook::url(errors, &at_client.child("url"), url),
            (None, Some(service)) => webhook::service(
                errors,
                &at_client.child("service"),
                (&service.namespace, &service.name),
                service.path.as_deref(),
                service.port,
            ),
            _ => errors.required(&at_client, "exactly one of url or service is required"),
        },
    }
    review_versions(errors, &at_versions, versions);
}

fn review_versions(errors: &mut ErrorList, at: &Path, versions: &[String]) {
    if versions.is_empty() {
        return errors.required(at, "");
    }
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().enumerate() {
        if !seen.insert(version) {
            errors.invalid(&at.index(i), version.as_str(), "duplicate version");
            continue;
        }
        errors.invalid_each(&at.index(i), version, names::dns1035_label(version));
    }
    if !versions.iter().any(|v| v == "v1" || v == "v1beta1") {
        let why = "must include at least one of v1, v1beta1";
        errors.invalid(at, json(&versions), why);
    }
}
