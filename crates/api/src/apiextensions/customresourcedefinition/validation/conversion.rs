//! How objects come from one version to another.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceConversion;
use machinery::certificate::check_authorities;
use machinery::{ErrorList, Path, names};

use crate::check::{ErrorListExt, json, webhook};

/// What may be wrong with a conversion, because it was before or because nobody relies on it yet.
#[derive(Clone, Copy)]
pub(super) struct Leniency {
    authorities: bool,
    review_versions: bool,
}

impl Leniency {
    /// For a new definition, which is not established while its authorities are none.
    pub(super) const NEW: Self = Self {
        authorities: true,
        review_versions: false,
    };

    /// For a change of an old one.
    pub(super) fn of(old: Option<&CustomResourceConversion>, established: bool) -> Self {
        let webhook = old.and_then(|old| old.webhook.as_ref());
        let bundle = webhook
            .and_then(|w| w.client_config.as_ref())
            .and_then(|client| client.ca_bundle.as_ref());
        let bad = bundle.is_some_and(|b| !b.0.is_empty() && check_authorities(&b.0).is_err());
        let versions = webhook.map_or(&[][..], |w| &w.conversion_review_versions);
        Self {
            authorities: !established || bad,
            review_versions: !versions.is_empty() && !is_known(versions),
        }
    }
}

fn is_known(versions: &[String]) -> bool {
    versions.iter().any(|v| v == "v1" || v == "v1beta1")
}

pub(super) fn validate(
    errors: &mut ErrorList,
    at: &Path,
    conversion: Option<&CustomResourceConversion>,
    leniency: Leniency,
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
    let bundle = client.and_then(|client| client.ca_bundle.as_ref());
    if let Some(bundle) = bundle.filter(|b| !leniency.authorities && !b.0.is_empty()) {
        webhook::authorities(errors, &at_client.child("caBundle"), bundle);
    }
    review_versions(errors, &at_versions, versions, leniency.review_versions);
}

fn review_versions(errors: &mut ErrorList, at: &Path, versions: &[String], any: bool) {
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
    if !any && !is_known(versions) {
        let why = "must include at least one of v1, v1beta1";
        errors.invalid(at, json(&versions), why);
    }
}
