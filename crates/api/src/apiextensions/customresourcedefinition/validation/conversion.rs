//! How objects come from one version to another.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, ServiceReference,
};
use machinery::{ErrorList, Path, names};

use crate::check::{ErrorListExt, json};

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
    let webhook = conversion.webhook.as_ref();
    let client = webhook.and_then(|w| w.client_config.as_ref());
    let (at_client, at_versions) = (
        at.child("webhookClientConfig"),
        at.child("conversionReviewVersions"),
    );
    let versions = webhook.map_or(&[][..], |w| &w.conversion_review_versions);
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
            (Some(url), None) => webhook_url(errors, &at_client.child("url"), url),
            (None, Some(service)) => webhook_service(errors, &at_client.child("service"), service),
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

const FORM: &str = "; desired format: https://host[/path]";

fn webhook_url(errors: &mut ErrorList, at: &Path, url: &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid(at, scheme, why);
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let (user, host) = match host.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, host),
    };
    if host.is_empty() || scheme.is_empty() {
        errors.invalid(at, "", format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(at, user, "user information is not permitted in the URL");
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    if !fragment.is_empty() {
        errors.invalid(at, fragment, "fragments are not permitted in the URL");
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    if !query.is_empty() {
        errors.invalid(at, query, "query parameters are not permitted in the URL");
    }
}

fn webhook_service(errors: &mut ErrorList, at: &Path, service: &ServiceReference) {
    errors.required_text(&at.child("name"), &service.name, "");
    errors.required_text(&at.child("namespace"), &service.namespace, "");
    let port = service.port.unwrap_or(443);
    let problems = names::port_number(port.into());
    if !problems.is_empty() {
        let why = format!("port is not valid: {}", problems.join(", "));
        errors.invalid(&at.child("port"), port, why);
    }
    let at = at.child("path");
    let Some(path) = service.path.as_deref() else {
        return;
    };
    if path == "/" || path.is_empty() {
        return;
    }
    if path == "//" {
        return errors.invalid(&at, path, "segment[0] may not be empty");
    }
    let Some(rest) = path.strip_prefix('/') else {
        errors.invalid(&at, path, "must start with a '/'");
        return;
    };
    let segments: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
    for (i, segment) in segments.iter().enumerate() {
        if segment.is_empty() {
            errors.invalid(&at, path, format!("segment[{i}] may not be empty"));
            continue;
        }
        for problem in names::dns1123_subdomain(segment) {
            errors.invalid(&at, path, format!("segment[{i}]: {problem}"));
        }
    }
}
